// Kernels that write where they are told: copies into a strided window, and masks over (query, key)
// axes.
#pragma once

#include <cstdint>

#include "tensor/tensor.h"
#include "tensor/thread_pool.h"

namespace vitrine::kernels {

// out[i...] = x[i...] for equal shapes and dtypes; both may have any strides, and only the elements
// of `out` are touched.
void copy_into(ThreadPool& pool, const View& x, const View& out);

// out = x, except where key index > query position + offset, or with a window query position - key
// index >= window: there `fill`. The query position is
// its index along query_axis, or position[index] (i32) when `position` has data. x and out f32 or
// f64; out contiguous.
struct MaskRule {
  int query_axis, key_axis;
  std::int64_t offset;
  double fill;
  std::int64_t window = 0;  // 0: none
};
void mask_keys(ThreadPool& pool, const View& x, const View& position, const MaskRule& rule,
               const View& out);

}  // namespace vitrine::kernels
