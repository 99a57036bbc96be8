// Rotary position embedding: cosines and sines are computed once for a row, and serve all its heads.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "tensor/kernels/kernels.h"
#include "tensor/simd/simd.h"

namespace vitrine::kernels {
namespace {

template <class T>
void rotary_as(ThreadPool& pool, const View& x, const View& position,
               std::span<const double> inverse, double scale, const View& out) {
  const std::int64_t rows = x.shape[0], heads = x.shape[1], e = x.shape[2], step = x.strides[2];
  const auto half = static_cast<std::int64_t>(inverse.size());
  const auto& simd = simd::attention<T>();
  const std::int64_t grain =
      std::max<std::int64_t>(1, 4096 / std::max<std::int64_t>(1, heads * e + 16 * half));
  pool.parallel_for(rows, grain, [&](std::int64_t begin, std::int64_t end) {
    std::vector<T> cosine(inverse.size()), sine(inverse.size()), copy;
    if (step != 1) copy.resize(static_cast<std::size_t>(e));
    for (std::int64_t row = begin; row < end; ++row) {
      const double at = position.as<const std::int32_t>()[row * position.strides[0]];
      for (std::size_t i = 0; i < inverse.size(); ++i) {
        const double angle = at * inverse[i];
        cosine[i] = static_cast<T>(scale * std::cos(angle));
        sine[i] = static_cast<T>(scale * std::sin(angle));
      }
      for (std::int64_t h = 0; h < heads; ++h) {
        const T* from = x.as<const T>() + row * x.strides[0] + h * x.strides[1];
        T* to = out.as<T>() + (row * heads + h) * e;
        if (step != 1) {
          for (std::int64_t i = 0; i < e; ++i) copy[static_cast<std::size_t>(i)] = from[i * step];
          from = copy.data();
        }
        simd.rotate(from, cosine.data(), sine.data(), to, half);
        if (from != to) std::copy_n(from + 2 * half, e - 2 * half, to + 2 * half);
      }
    }
  });
}

}  // namespace

void rotary(ThreadPool& pool, const View& x, const View& position, std::span<const double> inverse,
            double scale, const View& out) {
  if (out.numel() == 0) return;
  if (x.dtype == DType::f32) rotary_as<float>(pool, x, position, inverse, scale, out);
  else rotary_as<double>(pool, x, position, inverse, scale, out);
}

}  // namespace vitrine::kernels
