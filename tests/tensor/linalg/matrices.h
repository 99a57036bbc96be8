// Matrices for the tests of factorisations, and plain products of them.
#pragma once

#include <cstdint>

#include "tensor/random.h"
#include "tensor/tensor.h"

namespace vitrine::test {

inline Tensor random_matrix(std::int64_t m, std::int64_t n, std::uint64_t seed) {
  const Tensor t = Tensor::empty({m, n}, DType::f64);
  for (std::int64_t i = 0; i < m * n; ++i)
    t.data<double>()[i] = random::normal(random::Key{seed}, static_cast<std::uint64_t>(i));
  return t;
}

// x y, plainly.
inline Tensor times(const Tensor& x, const Tensor& y) {
  const std::int64_t m = x.dim(0), n = y.dim(1), k = x.dim(1);
  const auto a = x.to_vector<double>(), b = y.to_vector<double>();
  const Tensor out = Tensor::zeros({m, n}, DType::f64);
  for (std::int64_t i = 0; i < m; ++i) {
    for (std::int64_t t = 0; t < k; ++t) {
      for (std::int64_t j = 0; j < n; ++j)
        out.data<double>()[i * n + j] +=
            a[static_cast<std::size_t>(i * k + t)] * b[static_cast<std::size_t>(t * n + j)];
    }
  }
  return out;
}

inline Tensor transposed(const Tensor& x) { return x.transpose(0, 1); }

inline Tensor diagonal(const Tensor& values) {
  const std::int64_t n = values.dim(0);
  const Tensor t = Tensor::zeros({n, n}, DType::f64);
  for (std::int64_t i = 0; i < n; ++i) t.data<double>()[i * n + i] = values.at<double>({i});
  return t;
}

inline Tensor identity(std::int64_t n) { return diagonal(Tensor::full({n}, DType::f64, 1)); }

// |x - y|, 0 for empty ones.
inline double distance(const Tensor& x, const Tensor& y) {
  return x.numel() == 0 && y.numel() == 0 ? 0 : max_abs_difference(x, y);
}

}  // namespace vitrine::test
