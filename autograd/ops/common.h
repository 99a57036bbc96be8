// Helpers for op definitions: shape checks with good messages, and the commonest reach rules.
#pragma once

#include <fmt/format.h>

#include <string>

#include "autograd/graph/op.h"
#include "autograd/ops/ops.h"
#include "tensor/error.h"

namespace vitrine {

// Throws ShapeError when `ok` does not hold; the message is formatted only then. The op's name, all
// shapes and the line of the model are added by Builder::emit.
template <class... Args>
void require(bool ok, fmt::format_string<Args...> message, Args&&... args) {
  if (!ok) throw ShapeError(fmt::format(message, std::forward<Args>(args)...));
}

inline void require_float(const Type& t, std::string_view what) {
  require(!is_stored_float(t.dtype),
          "{} is stored as {}, which nothing computes with: widen() it (products and gathers then "
          "read it as it is stored)",
          what, name_of(t.dtype));
  require(is_compute_float(t.dtype), "{} must be f32 or f64 (cast it), not {}", what,
          name_of(t.dtype));
}
inline void require_same_dtype(const Type& a, const Type& b) {
  require(a.dtype == b.dtype, "the inputs must have one dtype (cast one of them), not {} and {}",
          name_of(a.dtype), name_of(b.dtype));
}
inline void require_integer(const Type& t, std::string_view what) {
  require(is_integer(t.dtype), "{} must be i32 or i64, not {}", what, name_of(t.dtype));
}

// Brings a negative axis into [0, rank). One that is out of range stays as it is: the shape rule
// names it, together with the op and its line.
inline int axis_given(std::int64_t axis, int rank) {
  return static_cast<int>(axis < 0 && axis >= -rank ? axis + rank : axis);
}
inline void require_axis(std::int64_t axis, const Type& t) {
  const int rank = t.shape.size();
  require(rank > 0, "axis {} was asked of a scalar, which has no axes", axis);
  require(axis >= 0 && axis < rank, "axis {} is out of range: {} has axes {} to {}", axis,
          to_string(t.shape), -rank, rank - 1);
}

// One element of each input per element of the output, all inputs broadcast: every kept axis is the
// same.
Reach reach_elementwise(const ReachCall& c);
// Row-wise ops: all axes but the last are the same, the last mixes freely. Inputs of lower rank are
// per-feature weights.
Reach reach_rows(const ReachCall& c);
InputReach no_reach();  // the input's values do not matter (or carry no gradient claim)
InputReach reach_all();

// Gives the view of `x` with `shape` as a kernel wants it: broadcast by stride 0.
View broadcast_view(const View& x, const Shape& shape);

// The first shape rule of many ops: the output is like input 0.
Type like_first(const InferCall& c);

// Facts of input 0 that survive an op keeping axes and -inf / zero entries.
Fact keep_fact(const ReachCall& c);

}  // namespace vitrine
