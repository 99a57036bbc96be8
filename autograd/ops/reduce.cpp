// Reductions over any set of axes.
#include "autograd/ops/common.h"
#include "tensor/kernels/kernels.h"

namespace vitrine {
namespace {

Shape kept_shape(const Shape& in, const Dims& axes) {  // the reduced axes stay, with size 1
  Shape out = in;
  for (const std::int64_t a : axes) out[static_cast<int>(a)] = 1;
  return out;
}

Type infer_reduce(const InferCall& c) {
  require_float(c.in[0], "the input");
  const AxisList& list = c.as<AxisList>();
  for (int i = 0; i < list.axes.size(); ++i) {
    require_axis(list.axes[i], c.in[0]);
    require(i == 0 || list.axes[i] != list.axes[i - 1], "axis {} is named twice", list.axes[i]);
  }
  Shape out = kept_shape(c.in[0].shape, list.axes);
  if (!list.keepdims) {
    for (int i = list.axes.size() - 1; i >= 0; --i) out.erase(static_cast<int>(list.axes[i]));
  }
  return {c.in[0].dtype, out};
}

template <kernels::Reduce op>
void eval_reduce(const EvalCall& c) {
  const AxisList& list = c.as<AxisList>();
  const Shape kept = kept_shape(c.in[0].shape, list.axes);
  const View out{c.out.data, c.out.dtype, kept, contiguous_strides(kept)};
  kernels::reduce(c.pool, op, c.in[0], list.axes, out);
}

Reach reach_reduce(const ReachCall& c) {
  const AxisList& list = c.as<AxisList>();
  InputReach r;
  for (int i = 0, o = 0; i < c.in[0].shape.size(); ++i) {
    const bool reduced = std::find(list.axes.begin(), list.axes.end(), i) != list.axes.end();
    if (!reduced) r.links.push_back(same_axis(i, o));
    if (!reduced || list.keepdims) ++o;
  }
  return {r};
}

// The result seen again with the reduced axes, broadcast over the input.
Value spread(const Value& reduced, const Value& in, const Dims& axes) {
  return broadcast_to(reshape(reduced, kept_shape(in.shape(), axes)), in.shape());
}

Grads vjp_max(const VjpCall& c) {  // shared equally among the entries that attain it
  const Dims& axes = c.as<AxisList>().axes;
  const Value x = c.in[0];
  const Value hit = cast(equal(x, spread(c.out, x, axes)), x.dtype());
  return {hit * spread(c.grad, x, axes) / spread(sum(hit, axes), x, axes)};
}

std::int64_t flops(const InferCall& c, const Type&) { return numel(c.in[0].shape); }

AxisList axis_list(const Value& x, const Dims& axes, bool keepdims) {
  Dims normal = axes;
  for (int i = 0; i < normal.size(); ++i) normal[i] = axis_given(axes[i], x.rank());
  std::sort(const_cast<std::int64_t*>(normal.begin()), const_cast<std::int64_t*>(normal.end()));
  return {normal, keepdims};
}
Dims every_axis(const Value& x) {
  Dims axes;
  for (int i = 0; i < x.rank(); ++i) axes.push_back(i);
  return axes;
}

}  // namespace

extern constinit const OpDef kSum = {
    .name = "sum",
    .doc = "the sum over axes; dx = dy, repeated",
    .kind = OpKind::other,
    .linear_in = kEveryInput,
    .infer = infer_reduce,
    .eval = eval_reduce<kernels::Reduce::sum>,
    .vjp = [](const VjpCall& c) { return Grads{spread(c.grad, c.in[0], c.as<AxisList>().axes)}; },
    .reach = reach_reduce,
    .flops = flops};
extern constinit const OpDef kMax = {
    .name = "max",
    .doc = "the largest entry over axes; dx = dy / count where x attains it",
    .kind = OpKind::other,
    .infer = infer_reduce,
    .eval = eval_reduce<kernels::Reduce::max>,
    .vjp = vjp_max,
    .reach = reach_reduce,
    .flops = flops};
extern constinit const OpDef kArgmax = {
    .name = "argmax",
    .doc = "the index of the largest entry of the last axis, the first on a tie",
    .kind = OpKind::other,
    .infer =
        [](const InferCall& c) {
          require(c.in[0].shape.size() > 0 && c.in[0].shape.back() > 0,
                  "the last axis must have entries");
          require_float(c.in[0], "the input");
          Shape out = c.in[0].shape;
          out.erase(out.size() - 1);
          return Type{DType::i64, out};
        },
    .eval =
        [](const EvalCall& c) {
          Shape kept = c.in[0].shape;
          kept[kept.size() - 1] = 1;
          kernels::argmax(c.pool, c.in[0],
                          {c.out.data, c.out.dtype, kept, contiguous_strides(kept)});
        },
    .reach =
        [](const ReachCall& c) {
          InputReach r;
          for (int a = 0; a < c.out.shape.size(); ++a) r.links.push_back(same_axis(a, a));
          return Reach{r};
        },
    .flops = flops,
    .integer_only = true};

Value sum(const Value& x, const Dims& axes, bool keepdims, SourceLine line) {
  return x.builder().emit(kSum, {x}, axis_list(x, axes, keepdims), line);
}
Value sum(const Value& x, SourceLine line) { return sum(x, every_axis(x), false, line); }
Value mean(const Value& x, const Dims& axes, bool keepdims, SourceLine line) {
  const Value total = sum(x, axes, keepdims, line);  // checks the axes
  std::int64_t n = 1;
  for (const std::int64_t a : axes) n *= x.dim(static_cast<int>(a));
  return mul(total, x.builder().scalar(1.0 / static_cast<double>(n), x.dtype(), line), line);
}
Value mean(const Value& x, SourceLine line) { return mean(x, every_axis(x), false, line); }
Value max(const Value& x, const Dims& axes, bool keepdims, SourceLine line) {
  return x.builder().emit(kMax, {x}, axis_list(x, axes, keepdims), line);
}
Value argmax(const Value& x, SourceLine line) {
  return x.builder().emit(kArgmax, {x}, NoAttributes{}, line);
}

Value sum_to(const Value& x, const Shape& shape, SourceLine line) {
  if (x.shape() == shape) return x;
  const int extra = x.rank() - shape.size();
  Dims axes;
  for (int a = 0; a < x.rank(); ++a) {
    if (a < extra || (shape[a - extra] == 1 && x.shape()[a] != 1)) axes.push_back(a);
  }
  return reshape(axes.empty() ? x : sum(x, axes, false, line), shape, line);
}

}  // namespace vitrine
