// What the kernel tests share: random tensors in every kind of layout, comparison against a plain
// scalar twin, and the check that the number of threads does not show in the bits.
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "tensor/kernels/kernels.h"
#include "tensor/random.h"
#include "tensor/tensor.h"
#include "tensor/thread_pool.h"

namespace vitrine::test {

// Uniform in [low, high), f32 or f64, contiguous.
inline Tensor random_tensor(const Shape& shape, DType dtype, std::uint64_t seed, double low = -2,
                            double high = 2) {
  Tensor out = Tensor::empty(shape, dtype);
  for (std::int64_t i = 0; i < out.numel(); ++i) {
    const double u =
        low + (high - low) * random::uniform(random::Key{seed}, static_cast<std::uint64_t>(i));
    if (dtype == DType::f32) {
      out.data<float>()[i] = static_cast<float>(u);
    } else {
      out.data<double>()[i] = u;
    }
  }
  return out;
}

// Whole numbers in [low, high), any dtype.
inline Tensor random_indices(const Shape& shape, DType dtype, std::uint64_t seed, std::int64_t low,
                             std::int64_t high) {
  const Tensor uniform = random_tensor(shape, DType::f64, seed, 0, static_cast<double>(high - low));
  Tensor out = uniform.to(DType::i64);
  for (std::int64_t i = 0; i < out.numel(); ++i) out.data<std::int64_t>()[i] += low;
  return out.to(dtype);
}

// Tensors of one shape in different layouts: contiguous, axes reversed in memory, every second
// entry of the last axis, a window of a larger tensor, and broadcast (stride 0) along the first and
// along the last axis.
inline std::vector<Tensor> in_layouts(const Shape& shape, DType dtype, std::uint64_t seed) {
  std::vector<Tensor> out{random_tensor(shape, dtype, seed)};
  const int rank = shape.size();
  if (rank == 0) return out;
  Shape reversed;
  Dims back;
  for (int axis = rank - 1; axis >= 0; --axis)
    reversed.push_back(shape[axis]), back.push_back(axis);
  out.push_back(random_tensor(reversed, dtype, seed + 1).permute(back));
  Shape doubled = shape;
  doubled[rank - 1] *= 2;
  out.push_back(random_tensor(doubled, dtype, seed + 2).slice(-1, 0, doubled[rank - 1], 2));
  Shape larger = shape;
  for (int axis = 0; axis < rank; ++axis) larger[axis] += 3;
  Tensor window = random_tensor(larger, dtype, seed + 3);
  for (int axis = 0; axis < rank; ++axis) window = window.slice(axis, 2, 2 + shape[axis]);
  out.push_back(window);
  for (const int axis : {0, rank - 1}) {
    Shape thin = shape;
    thin[axis] = 1;
    out.push_back(random_tensor(thin, dtype, seed + 4).broadcast_to(shape));
  }
  return out;
}

inline const std::vector<Shape>& sample_shapes() {
  static const std::vector<Shape> shapes{
      {},      {1},     {7},          {1, 1, 1}, {0},          {3, 0, 2}, {3, 5},
      {1, 17}, {17, 1}, {2, 3, 4, 5}, {33, 65},  {3, 1, 1030}, {40, 1100}};
  return shapes;
}

inline std::string describe(const Tensor& x) {
  return std::string(name_of(x.dtype())) + to_string(x.shape()) + " strides " +
         to_string(x.strides());
}

// f(pool) gives a tensor; the same bits with 1, 2 and 3 threads.
template <class F>
Tensor on_all_pools(const F& f) {
  ThreadPool one(1);
  const Tensor first = f(one);
  for (const int threads : {2, 3}) {
    ThreadPool pool(threads);
    const Tensor again = f(pool);
    EXPECT_EQ(0, std::memcmp(first.view().data, again.view().data,
                             static_cast<std::size_t>(first.bytes())))
        << threads << " threads give other bits than one, shape " << to_string(first.shape());
  }
  return first;
}

// |got - want| <= absolute + relative |want|; infinities and NaN must agree exactly.
inline void expect_close(const Tensor& got, const std::vector<double>& want, double relative,
                         double absolute, const std::string& what) {
  const std::vector<double> values = got.to_vector<double>();
  ASSERT_EQ(values.size(), want.size()) << what;
  for (std::size_t i = 0; i < want.size(); ++i) {
    if (std::isnan(want[i]) || std::isinf(want[i])) {
      ASSERT_TRUE(std::isnan(want[i]) ? std::isnan(values[i]) : values[i] == want[i])
          << what << " element " << i << ": " << values[i] << " instead of " << want[i];
      continue;
    }
    ASSERT_LE(std::abs(values[i] - want[i]), absolute + relative * std::abs(want[i]))
        << what << " element " << i << ": " << values[i] << " instead of " << want[i];
  }
}

}  // namespace vitrine::test
