// Ops that move elements without arithmetic. Most are views: they cost nothing when the plan can
// read through them.
#include <algorithm>

#include "autograd/ops/common.h"
#include "tensor/kernels/kernels.h"
#include "tensor/kernels/place.h"

namespace vitrine {
namespace {

// The views' own arithmetic lives in tensor/layout.h and throws ShapeError on arguments that do not
// fit.
Type infer_reshape(const InferCall& c) {
  const Shape& to = c.as<TargetShape>().shape;
  require(std::all_of(to.begin(), to.end(), [](std::int64_t n) { return n >= 0; }),
          "cannot see {} ({} elements) as {}: one axis may be -1, and the others must divide the "
          "elements",
          to_string(c.in[0].shape), numel(c.in[0].shape), to_string(to));
  require(numel(to) == numel(c.in[0].shape), "cannot see {} ({} elements) as {} ({} elements)",
          to_string(c.in[0].shape), numel(c.in[0].shape), to_string(to), numel(to));
  return {c.in[0].dtype, to};
}
Type infer_permute(const InferCall& c) {
  return {c.in[0].dtype, permute(Layout::contiguous(c.in[0].shape), c.as<AxisList>().axes).shape};
}
Type infer_broadcast_to(const InferCall& c) {
  return {c.in[0].dtype,
          broadcast_to(Layout::contiguous(c.in[0].shape), c.as<TargetShape>().shape).shape};
}
Type infer_slice(const InferCall& c) {
  const Range& r = c.as<Range>();
  return {c.in[0].dtype,
          slice(Layout::contiguous(c.in[0].shape), r.axis, r.start, r.stop, r.step).shape};
}
Type infer_unslice(const InferCall& c) {
  const Range& r = c.as<Range>();
  require_axis(r.axis, c.in[0]);
  const std::int64_t n = c.in[0].shape[r.axis];
  require(r.start >= 0 && r.step > 0 && (n == 0 || r.start + (n - 1) * r.step < r.size),
          "{} entries from {} by {} do not fit into an axis of {}", n, r.start, r.step, r.size);
  Type out = c.in[0];
  out.shape[r.axis] = r.size;
  return out;
}
Type infer_concat(const InferCall& c) {
  require(!c.in.empty(), "there is nothing to join");
  Type out = c.in[0];
  const int axis = c.as<OneAxis>().axis;
  require_axis(axis, c.in[0]);
  for (std::size_t i = 1; i < c.in.size(); ++i) {
    require_same_dtype(c.in[0], c.in[i]);
    Shape a = c.in[i].shape, b = out.shape;
    require(a.size() == b.size(), "part {} has {} axes, part 0 has {}", i, a.size(), b.size());
    a[axis] = b[axis] = 0;
    require(a == b, "part {} has shape {}, which differs from {} beyond axis {}", i,
            to_string(c.in[i].shape), to_string(c.in[0].shape), axis);
    out.shape[axis] += c.in[i].shape[axis];
  }
  return out;
}

View layout_view(const View& base, const Layout& l) {
  return {base.data + bytes_of(base.dtype, l.offset), base.dtype, l.shape, l.strides};
}

void eval_unslice(const EvalCall& c) {
  const Range& r = c.as<Range>();
  kernels::fill(c.pool, 0, c.out);
  const std::int64_t n = c.in[0].shape[r.axis];
  const Layout l = slice(Layout{c.out.shape, c.out.strides, 0}, r.axis, r.start,
                         n == 0 ? r.start : r.start + (n - 1) * r.step + 1, r.step);
  kernels::copy_into(c.pool, c.in[0], layout_view(c.out, l));
}
void eval_concat(const EvalCall& c) {
  const int axis = c.as<OneAxis>().axis;
  std::int64_t at = 0;
  for (const View& part : c.in) {
    const Layout l = slice(Layout{c.out.shape, c.out.strides, 0}, axis, at, at + part.shape[axis]);
    kernels::copy_into(c.pool, part, layout_view(c.out, l));
    at += part.shape[axis];
  }
}
void eval_copy(const EvalCall& c) { kernels::copy(c.pool, c.in[0], c.out); }

// Which axes of a reshape correspond: walks both shapes and pairs the runs of axes with equal
// products.
Reach reach_reshape(const ReachCall& c) {
  InputReach r;
  const Shape &a = c.in[0].shape, &b = c.out.shape;
  for (int i = 0, o = 0; i < a.size() && o < b.size() && numel(a) > 0;) {
    if (a[i] != b[o] && (a[i] == 1 || b[o] == 1)) {  // an axis of one element more or less
      ++(a[i] == 1 ? i : o);
      continue;
    }
    int i2 = i + 1, o2 = o + 1;
    std::int64_t pi = a[i], po = b[o];
    while (pi != po) {
      if (pi < po) pi *= a[i2++];
      else po *= b[o2++];
    }
    if (i2 == i + 1 && o2 == o + 1) {
      r.links.push_back(same_axis(i, o));
    } else if (i2 == i + 1) {  // one axis split: its blocks are the first of the new ones
      r.links.push_back(
          {.in_axis = i, .out_axis = o, .relation = Relation::in_block, .step = po / b[o]});
    } else if (o2 == o + 1) {  // several merged into one
      r.links.push_back(
          {.in_axis = i, .out_axis = o, .relation = Relation::out_block, .step = pi / a[i]});
    }
    i = i2;
    o = o2;
  }
  return {r};
}
Reach reach_permute(const ReachCall& c) {
  InputReach r;
  const Dims& axes = c.as<AxisList>().axes;
  for (int o = 0; o < axes.size(); ++o) r.links.push_back(same_axis(static_cast<int>(axes[o]), o));
  return {r};
}
Reach reach_slice(const ReachCall& c) {
  const Range& range = c.as<Range>();
  InputReach r;
  for (int a = 0; a < c.out.shape.size(); ++a) {
    Link link = same_axis(a, a);
    if (a == range.axis) link.step = range.step, link.offset = range.start;
    r.links.push_back(link);
  }
  return {r};
}
Reach reach_unslice(const ReachCall& c) {
  Reach reach = reach_slice(c);
  for (Link& l : reach[0].links) l.relation = Relation::placed;
  return reach;
}
Reach reach_concat(const ReachCall& c) {
  const int axis = c.as<OneAxis>().axis;
  Reach reach;
  std::int64_t at = 0;
  for (const Type& in : c.in) {
    InputReach r;
    for (int a = 0; a < in.shape.size(); ++a) {
      Link link = same_axis(a, a);
      if (a == axis) link.relation = Relation::placed, link.offset = at;
      r.links.push_back(link);
    }
    at += in.shape[axis];
    reach.push_back(std::move(r));
  }
  return reach;
}

// Facts name axes: follow them.
Fact fact_permute(const ReachCall& c) {
  Fact f = c.facts[0];
  const Dims& axes = c.as<AxisList>().axes;
  const Fact in = f;
  for (int o = 0; o < axes.size(); ++o) {
    if (axes[o] == in.query_axis) f.query_axis = o;
    if (axes[o] == in.key_axis) f.key_axis = o;
  }
  return f;
}
Fact fact_broadcast(const ReachCall& c) {
  Fact f = c.facts[0];
  const int shift = c.out.shape.size() - c.in[0].shape.size();
  if (c.in[0].shape[f.query_axis] != c.out.shape[f.query_axis + shift] ||
      c.in[0].shape[f.key_axis] != c.out.shape[f.key_axis + shift]) {
    return {};
  }
  f.query_axis += shift;
  f.key_axis += shift;
  return f;
}
Fact fact_slice(const ReachCall& c) {
  const Range& r = c.as<Range>();
  return r.axis == c.facts[0].query_axis || r.axis == c.facts[0].key_axis ? Fact{} : c.facts[0];
}
Fact fact_cast(const ReachCall& c) {  // integers have no -inf
  return c.facts[0].kind == Fact::Kind::masked && !is_float(c.out.dtype) ? Fact{} : c.facts[0];
}
// A fact that names no axes must not be followed.
template <Fact (*rule)(const ReachCall&)>
Fact when_any(const ReachCall& c) {
  return c.facts[0].kind == Fact::Kind::none ? Fact{} : rule(c);
}

Grads vjp_concat(const VjpCall& c) {
  const int axis = c.as<OneAxis>().axis;
  Grads grads;
  std::int64_t at = 0;
  for (const Value& part : c.in) {
    grads.push_back(slice(c.grad, axis, at, at + part.dim(axis)));
    at += part.dim(axis);
  }
  return grads;
}

}  // namespace

extern constinit const OpDef kReshape = {
    .name = "reshape",
    .doc = "the same elements in row-major order under another shape",
    .kind = OpKind::rearrangement,
    .linear_in = kEveryInput,
    .infer = infer_reshape,
    .eval = eval_copy,
    .view = [](const InferCall& c,
               const Layout& in) { return reshape(in, c.as<TargetShape>().shape); },
    .vjp = [](const VjpCall& c) { return Grads{reshape(c.grad, c.in[0].shape())}; },
    .reach = reach_reshape};
extern constinit const OpDef kPermute = {
    .name = "permute",
    .doc = "y[i_axes[0], i_axes[1], ...] = x[i_0, i_1, ...]: axes in another order",
    .kind = OpKind::rearrangement,
    .linear_in = kEveryInput,
    .infer = infer_permute,
    .view = [](const InferCall& c,
               const Layout& in) { return std::optional(permute(in, c.as<AxisList>().axes)); },
    .vjp =
        [](const VjpCall& c) {
          const Dims& axes = c.as<AxisList>().axes;
          Dims inverse = axes;
          for (int o = 0; o < axes.size(); ++o) inverse[static_cast<int>(axes[o])] = o;
          return Grads{permute(c.grad, inverse)};
        },
    .reach = reach_permute,
    .fact = when_any<fact_permute>};
extern constinit const OpDef kBroadcastTo = {
    .name = "broadcast_to",
    .doc = "x repeated along axes of size 1; dx = the sum over the repeats",
    .kind = OpKind::rearrangement,
    .linear_in = kEveryInput,
    .infer = infer_broadcast_to,
    .view =
        [](const InferCall& c, const Layout& in) {
          return std::optional(broadcast_to(in, c.as<TargetShape>().shape));
        },
    .vjp = [](const VjpCall& c) { return Grads{sum_to(c.grad, c.in[0].shape())}; },
    .reach = reach_elementwise,
    .fact = when_any<fact_broadcast>};
extern constinit const OpDef kSlice = {
    .name = "slice",
    .doc = "y = x[start:stop:step] along an axis",
    .kind = OpKind::selection,
    .linear_in = kEveryInput,
    .infer = infer_slice,
    .view =
        [](const InferCall& c, const Layout& in) {
          const Range& r = c.as<Range>();
          return std::optional(slice(in, r.axis, r.start, r.stop, r.step));
        },
    .vjp =
        [](const VjpCall& c) {
          const Range& r = c.as<Range>();
          return Grads{unslice(c.grad, r.axis, r.start, r.step, c.in[0].dim(r.axis))};
        },
    .reach = reach_slice,
    .fact = when_any<fact_slice>};
extern constinit const OpDef kUnslice = {
    .name = "unslice",
    .doc = "zeros with y[start:stop:step] = x along an axis: the transpose of slice",
    .kind = OpKind::other,
    .linear_in = kEveryInput,
    .infer = infer_unslice,
    .eval = eval_unslice,
    .vjp =
        [](const VjpCall& c) {
          const Range& r = c.as<Range>();
          const std::int64_t n = c.in[0].dim(r.axis);
          return Grads{slice(c.grad, r.axis, r.start,
                             n == 0 ? r.start : r.start + (n - 1) * r.step + 1, r.step)};
        },
    .reach = reach_unslice};
extern constinit const OpDef kConcat = {.name = "concat",
                                        .doc = "the parts one after the other along an axis",
                                        .kind = OpKind::other,
                                        .linear_in = kEveryInput,
                                        .infer = infer_concat,
                                        .eval = eval_concat,
                                        .vjp = vjp_concat,
                                        .reach = reach_concat};
extern constinit const OpDef kCast = {
    .name = "cast",
    .doc = "the nearest value in another dtype; dx = dy cast back, 0 if either is not f32 or f64",
    .kind = OpKind::other,
    .linear_in = kEveryInput,
    .infer =
        [](const InferCall& c) {
          return Type{c.as<TargetType>().dtype, c.in[0].shape};
        },
    .eval = eval_copy,
    .vjp =
        [](const VjpCall& c) {
          return Grads{is_compute_float(c.in[0].dtype()) ? cast(c.grad, c.in[0].dtype()) : Value()};
        },
    .reach = reach_elementwise,
    .fact = fact_cast};

Value reshape(const Value& x, const Shape& shape, SourceLine line) {
  Shape to = shape;
  std::int64_t known = 1;
  int open = -1;
  for (int i = 0; i < to.size(); ++i) {
    if (to[i] == -1 && open < 0) open = i;
    else known *= to[i];
  }
  if (open >= 0 && known > 0 && numel(x.shape()) % known == 0) to[open] = numel(x.shape()) / known;
  if (to == x.shape()) return x;
  return x.builder().emit(kReshape, {x}, TargetShape{to}, line);
}
Value permute(const Value& x, const Dims& axes, SourceLine line) {
  Dims normal = axes;
  for (int i = 0; i < normal.size(); ++i) normal[i] = axis_given(axes[i], x.rank());
  return x.builder().emit(kPermute, {x}, AxisList{normal}, line);
}
Value transpose(const Value& x, SourceLine line) {
  if (x.rank() < 2)
    return x.builder().emit(kPermute, {x}, AxisList{{0, 1}}, line);  // which says that it cannot
  Dims axes = Dims::filled(x.rank(), 0);
  for (int i = 0; i < x.rank(); ++i) axes[i] = i;
  std::swap(axes[normalise_axis(-1, x.rank())], axes[normalise_axis(-2, x.rank())]);
  return x.builder().emit(kPermute, {x}, AxisList{axes}, line);
}
Value broadcast_to(const Value& x, const Shape& shape, SourceLine line) {
  if (x.shape() == shape) return x;
  return x.builder().emit(kBroadcastTo, {x}, TargetShape{shape}, line);
}
Value slice(const Value& x, int axis, std::int64_t start, std::int64_t stop, std::int64_t step,
            SourceLine line) {
  return x.builder().emit(kSlice, {x}, Range{axis_given(axis, x.rank()), start, stop, step}, line);
}
Value unslice(const Value& x, int axis, std::int64_t start, std::int64_t step, std::int64_t size,
              SourceLine line) {
  const int a = axis_given(axis, x.rank());
  const std::int64_t n = a >= 0 && a < x.rank() ? x.dim(a) : 0;
  return x.builder().emit(kUnslice, {x}, Range{a, start, start + n * step, step, size}, line);
}
Value concat(const std::vector<Value>& parts, int axis, SourceLine line) {
  if (parts.empty()) {
    const std::string_view file = line.file;
    throw ShapeError(
        fmt::format("concat() at {}:{}: there is nothing to join; give at least one part",
                    file.substr(file.find_last_of('/') + 1), line.line));
  }
  return parts[0].builder().emit(kConcat, parts, OneAxis{axis_given(axis, parts[0].rank())}, line);
}
Value cast(const Value& x, DType dtype, SourceLine line) {
  if (x.dtype() == dtype) return x;
  return x.builder().emit(kCast, {x}, TargetType{dtype}, line);
}
Value widen(const Value& x, SourceLine line) {
  return is_stored_float(x.dtype()) ? cast(x, DType::f32, line) : x;
}

}  // namespace vitrine
