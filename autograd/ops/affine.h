// x w + bias as linear, heads_in and heads_out have it: its shape rule, and inputs as matrices.
#pragma once

#include "autograd/ops/common.h"
#include "tensor/gemm/gemm.h"
#include "tensor/kernels/kernels.h"

namespace vitrine {

inline void require_bias(const Type& x, const Type& w, const Type& bias) {
  require_same_dtype(x, bias);
  require(bias.shape == Shape{w.shape[1]}, "the bias must have shape [{}], not {}", w.shape[1],
          to_string(bias.shape));
}
inline Type infer_affine(const Type& x, const Type& w, const Type* bias) {
  require_float(x, "the input");
  require_same_dtype(x, w);
  require(x.shape.size() >= 1 && w.shape.size() == 2 && x.shape.back() == w.shape[0],
          "x {} times w {}: w must be [in, out] with in = the last axis of x", to_string(x.shape),
          to_string(w.shape));
  if (bias != nullptr) require_bias(x, w, *bias);
  Shape out = x.shape;
  out[out.size() - 1] = w.shape[1];
  return {x.dtype, out};
}

// The weight, input 1, may be stored in fewer bits than f32.
inline bool weight_as_stored(std::size_t input, DType stored, const Layout& w) {
  return input == 1 && reads_stored(stored, w.shape, w.strides);
}

inline std::int64_t flops_matmul(const InferCall& c, const Type& out) {
  return 2 * numel(out.shape) * c.in[0].shape.back();
}

// x, out [..., n] as matrices [rows, n]; a kernel's view, so nothing is copied unless strides force
// it.
inline View as_matrix(const View& v, std::int64_t columns) {
  const std::int64_t rows = columns == 0 ? 0 : v.numel() / columns;
  const auto l = reshape(Layout{v.shape, v.strides, 0}, {rows, columns});
  if (!l)
    throw GraphError("linear: the input cannot be seen as a matrix");  // eval_linear copies first
  return {v.data, v.dtype, l->shape, l->strides};
}

// Kernels that need a row-major matrix take a copy of an input that cannot be seen as one.
struct RowMatrix {
  Tensor copy;
  View view;
};
inline RowMatrix matrix_of(ThreadPool& pool, const View& v, std::int64_t columns) {
  if (columns > 0 && !reshape(Layout{v.shape, v.strides, 0}, {v.numel() / columns, columns})) {
    Tensor copy = Tensor::empty(v.shape, v.dtype);
    kernels::copy(pool, v, copy.view());
    return {copy, as_matrix(copy.view(), columns)};
  }
  return {{}, as_matrix(v, columns)};
}

}  // namespace vitrine
