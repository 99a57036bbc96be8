// Matrix products, and the projections of a transformer built on them.
#include "autograd/graph/parts.h"
#include "autograd/ops/common.h"
#include "autograd/ops/op_table.h"
#include "tensor/gemm/gemm.h"
#include "tensor/kernels/kernels.h"

namespace vitrine {
namespace {

// The weight, input 1, may be stored in fewer bits than f32.
bool weight_as_stored(std::size_t input, DType stored, const Layout& w) {
  return input == 1 && reads_stored(stored, w.shape, w.strides);
}

Shape batch_of(const Shape& s) {
  return Shape(std::span(s.begin(), static_cast<std::size_t>(s.size() - 2)));
}

// The matrix axes m, n after the broadcast batch axes.
Type infer_matmul(const InferCall& c) {
  const Type &a = c.in[0], &b = c.in[1];
  require_float(a, "the left side");
  require_same_dtype(a, b);
  require(a.shape.size() >= 2 && b.shape.size() >= 2, "{} x {}: both sides need at least two axes",
          to_string(a.shape), to_string(b.shape));
  const std::int64_t k = a.shape.back(), k2 = b.shape[b.shape.size() - 2];
  require(k == k2,
          "{} x {}: the inner sizes {} and {} differ; the last axis of the left side meets the "
          "second to last of the right one (transpose one of them?)",
          to_string(a.shape), to_string(b.shape), k, k2);
  auto out = broadcast_shapes(batch_of(a.shape), batch_of(b.shape));
  require(out.has_value(), "{} x {}: the batch axes do not broadcast", to_string(a.shape),
          to_string(b.shape));
  out->push_back(a.shape[a.shape.size() - 2]);
  out->push_back(b.shape.back());
  return {a.dtype, *out};
}

View with_batch_of(const View& x,
                   const Shape& out) {  // batch axes broadcast, matrix axes as they are
  Shape shape = out;
  shape[shape.size() - 2] = x.shape[x.rank() - 2];
  shape[shape.size() - 1] = x.shape[x.rank() - 1];
  return broadcast_view(x, shape);
}

Reach reach_matmul(const ReachCall& c) {
  const int rank = c.out.shape.size();
  Reach reach;
  for (int side = 0; side < 2; ++side) {
    InputReach r;
    const Shape& in = c.in[static_cast<std::size_t>(side)].shape;
    const int shift = rank - in.size();
    for (int a = 0; a + 2 < in.size(); ++a) {
      if (in[a] == c.out.shape[a + shift]) r.links.push_back(same_axis(a, a + shift));
    }
    r.links.push_back(side == 0 ? same_axis(in.size() - 2, rank - 2)
                                : same_axis(in.size() - 1, rank - 1));
    reach.push_back(std::move(r));
  }
  // Exact zeros of a pattern cut the contraction short: keys beyond the query's are not read.
  const Fact& f = c.facts[0];
  const int ra = c.in[0].shape.size();
  if (f.kind == Fact::Kind::zero && f.query == Coordinate::index && f.query_axis == ra - 2 &&
      f.key_axis == ra - 1) {
    reach[1].links.push_back({.in_axis = c.in[1].shape.size() - 2,
                              .out_axis = rank - 2,
                              .relation = Relation::at_most,
                              .offset = f.offset});
    if (f.window > 0) {
      reach[1].links.push_back({.in_axis = c.in[1].shape.size() - 2,
                                .out_axis = rank - 2,
                                .relation = Relation::at_least,
                                .offset = 1 - f.window});
    }
  }
  return reach;
}

std::int64_t flops_matmul(const InferCall& c, const Type& out) {
  return 2 * numel(out.shape) * c.in[0].shape.back();
}

// ---- linear -----------------------------------------------------------------------------------
void require_bias(const Type& x, const Type& w, const Type& bias) {
  require_same_dtype(x, bias);
  require(bias.shape == Shape{w.shape[1]}, "the bias must have shape [{}], not {}", w.shape[1],
          to_string(bias.shape));
}
Type infer_affine(const Type& x, const Type& w, const Type* bias) {
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
Type infer_linear(const InferCall& c) { return infer_affine(c.in[0], c.in[1], &c.in[2]); }

// x, out [..., n] as matrices [rows, n]; a kernel's view, so nothing is copied unless strides force
// it.
View as_matrix(const View& v, std::int64_t columns) {
  const std::int64_t rows = columns == 0 ? 0 : v.numel() / columns;
  const auto l = reshape(Layout{v.shape, v.strides, 0}, {rows, columns});
  if (!l)
    throw GraphError("linear: the input cannot be seen as a matrix");  // eval_linear copies first
  return {v.data, v.dtype, l->shape, l->strides};
}

// Kernels that need a row-major matrix take a copy of an input that cannot be seen as one.
struct Matrix {
  Tensor copy;
  View view;
};
Matrix matrix_of(ThreadPool& pool, const View& v, std::int64_t columns) {
  if (columns > 0 && !reshape(Layout{v.shape, v.strides, 0}, {v.numel() / columns, columns})) {
    Tensor copy = Tensor::empty(v.shape, v.dtype);
    kernels::copy(pool, v, copy.view());
    return {copy, as_matrix(copy.view(), columns)};
  }
  return {{}, as_matrix(v, columns)};
}

void eval_linear_then(const EvalCall& c, std::optional<kernels::Unary> then) {
  const std::int64_t in = c.in[1].shape[0], out = c.in[1].shape[1];
  if (c.out.numel() == 0) return;
  if (in == 0) {
    kernels::copy(c.pool, broadcast_view(c.in[2], c.out.shape), c.out);
    if (then) kernels::unary(c.pool, *then, c.out, c.out);
    return;
  }
  const Matrix x = matrix_of(c.pool, c.in[0], in);
  affine(c.pool, x.view, c.in[1], c.in[2], as_matrix(c.out, out), then);
}
void eval_linear(const EvalCall& c) { eval_linear_then(c, {}); }

Value flat(const Value& x) {  // [..., n] as [rows, n], n = 0 included
  std::int64_t rows = 1;
  for (int a = 0; a + 1 < x.rank(); ++a) rows *= x.dim(a);
  return reshape(x, {rows, x.dim(-1)});
}

Grads vjp_linear(const VjpCall& c) {  // dx = dy w^T, dw = x^T dy, dbias = sum of dy
  const Value g = flat(c.grad);
  return {reshape(matmul(g, transpose(c.in[1])), c.in[0].shape()),
          matmul(transpose(flat(c.in[0])), g), sum(g, {0})};
}

Reach reach_linear(const ReachCall& c) {
  const int last = c.out.shape.size() - 1;
  InputReach x;
  for (int a = 0; a < last; ++a) x.links.push_back(same_axis(a, a));
  return {x, {.links = {same_axis(1, last)}}, {.links = {same_axis(0, last)}}};
}

// ---- heads_in, heads_out ----------------------------------------------------------------------
// Inputs of heads_in: normed, w, the bias if it has one, x, gain, the bias of a LayerNorm, and the
// scale of the copies if given.
template <class Call>
HeadsInInputs places(const Call& c) {
  return heads_in_inputs(c.template as<HeadsRule>(), c.in.size());
}
// Input number i, or an undefined Value.
Value input_or_none(const ExpandCall& c, int i) {
  return i < 0 ? Value() : c.in[static_cast<std::size_t>(i)];
}

Type infer_heads_in(const InferCall& c) {
  const HeadsRule& rule = c.as<HeadsRule>();
  const HeadsInInputs at = places(c);
  const auto in = [&](int i) -> const Type& { return c.in[static_cast<std::size_t>(i)]; };
  const Type &normed = in(at.normed), &x = in(at.x);
  const Type flat_out = infer_affine(normed, in(at.w), at.bias < 0 ? nullptr : &in(at.bias));
  require(normed.shape.size() == 2, "the input must be [rows, d], not {}", to_string(normed.shape));
  require(x == normed, "x is {} but its {} is {}", to_string(x),
          rule.norm == NormKind::layer_norm ? "LayerNorm" : "RMSNorm", to_string(normed));
  if (at.scale >= 0) {
    require(in(at.scale) == Type{x.dtype, {x.shape[0], 1}}, "the scale must be {}[{}, 1], not {}",
            name_of(x.dtype), x.shape[0], to_string(in(at.scale)));
  }
  require(rule.heads > 0 && flat_out.shape[1] % rule.heads == 0,
          "{} columns do not divide into {} heads", flat_out.shape[1], rule.heads);
  return {flat_out.dtype, {flat_out.shape[0], rule.heads, flat_out.shape[1] / rule.heads}};
}

std::vector<InteriorSite> one_copy_per_head(const InferCall& c, const Shape& rows_heads_d) {
  const HeadsRule& rule = c.as<HeadsRule>();
  if (rule.site.empty()) return {};
  return {{{rule.site, {Axis::row, Axis::head, Axis::feature}}, {c.in[0].dtype, rows_heads_d}}};
}

// w [d, head * e] as [head, d, e]
Value by_head_in(const Value& w, int heads) {
  return permute(reshape(w, {w.dim(0), heads, w.dim(1) / heads}), {1, 0, 2});
}

Value expand_heads_in(const ExpandCall& c) {
  const HeadsRule& rule = c.as<HeadsRule>();
  const HeadsInInputs inputs = places(c);
  const auto in = [&](int i) { return input_or_none(c, i); };
  const Value normed = in(inputs.normed), w = in(inputs.w), bias = in(inputs.bias),
              x = in(inputs.x), gain = in(inputs.gain), norm_bias = in(inputs.norm_bias);
  const Shape copies{x.dim(0), rule.heads, x.dim(1)};  // [rows, head, d]
  const auto per_head = [&](const Value& v) {
    return broadcast_to(reshape(v, {v.dim(0), 1, v.dim(1)}), copies);
  };
  Value copy = per_head(x);
  if (!rule.site.empty())
    copy = c.builder.site(rule.site, copy, {Axis::row, Axis::head, Axis::feature});
  // The norm of v, with the scale that is given, or its own.
  const bool rms = rule.norm == NormKind::rms_norm;
  const auto norm = [&](const Value& v, const Value& scale) {
    if (!scale.defined() && !rule.detach_scale)
      return rms ? rms_norm(v, gain, rule.eps) : layer_norm(v, gain, norm_bias, rule.eps);
    const Value centred = rms ? v : v - mean(v, {-1}, true);
    const Value s =
        scale.defined() ? scale : detach(sqrt(mean(square(centred), {-1}, true) + rule.eps));
    const Value normalized = centred / s * gain;
    return rms ? normalized : normalized + norm_bias;
  };
  const Value scale = in(inputs.scale);  // [rows, 1]
  const Value of_copies = scale.defined() ? reshape(scale, {x.dim(0), 1, 1}) : scale;
  // Each head reads the shared norm plus what its own copy changes: exactly 0 until the copy
  // is edited. So edits of the shared hook_normalized and of one head's input both count.
  // Negated before it is copied, so that gradients are not negated once for each head.
  const Value change = norm(copy, of_copies) + per_head(-norm(x, scale));
  const Value input = permute(per_head(normed) + change, {1, 0, 2});  // [head, rows, d]
  const Value out =
      permute(matmul(input, by_head_in(w, rule.heads)), {1, 0, 2});  // [rows, head, e]
  return bias.defined() ? out + reshape(bias, {rule.heads, bias.dim(0) / rule.heads}) : out;
}

Grads vjp_heads_in(const VjpCall& c) {  // x reaches the output through `normed` alone
  const Value g = reshape(c.grad, {c.grad.dim(0), c.in[1].dim(1)});
  Grads grads{matmul(g, transpose(c.in[1])), matmul(transpose(c.in[0]), g)};
  if (places(c).bias >= 0) grads.push_back(sum(g, {0}));
  grads.resize(c.in.size());
  return grads;
}

Reach reach_heads_in(const ReachCall& c) {  // w and bias columns belong to one head
  const std::int64_t e = c.out.shape[2];
  const Link w{.in_axis = 1, .out_axis = 1, .relation = Relation::in_block, .step = e};
  const Link b{.in_axis = 0, .out_axis = 1, .relation = Relation::in_block, .step = e};
  Reach reach{{.links = {same_axis(0, 0)}}, {.links = {w}}};
  if (places(c).bias >= 0) reach.push_back({.links = {b}});
  while (reach.size() < c.in.size()) reach.push_back(no_reach());
  return reach;
}

std::optional<InputParts> parts_heads_in(const ReachCall& c, int lead) {
  if (lead > 1) return std::nullopt;
  const HeadsInInputs at = places(c);
  InputParts parts(c.in.size(), InputPart::whole);
  for (const int by_row : {at.normed, at.x, at.scale}) {
    if (by_row >= 0) parts[static_cast<std::size_t>(by_row)] = InputPart::same;
  }
  return parts;
}

void eval_heads_in(const EvalCall& c) {
  if (c.out.numel() == 0) return;
  const View out = as_matrix(c.out, c.in[1].shape[1]);
  const int bias = places(c).bias;
  if (bias < 0) return matmul(c.pool, c.in[0], c.in[1], out);
  affine(c.pool, c.in[0], c.in[1], c.in[static_cast<std::size_t>(bias)], out);
}

Type infer_heads_out(const InferCall& c) {
  const Type &z = c.in[0], &w = c.in[1];
  require_float(z, "z");
  require_same_dtype(z, w);
  require(z.shape.size() == 3, "z must be [rows, head, e], not {}", to_string(z.shape));
  require(w.shape.size() == 2 && w.shape[0] == z.shape[1] * z.shape[2],
          "w must be [head * e = {}, d], not {}", z.shape[1] * z.shape[2], to_string(w.shape));
  if (c.in.size() > 2) require_bias(z, w, c.in[2]);
  return {z.dtype, {z.shape[0], w.shape[1]}};
}

Value expand_heads_out(const ExpandCall& c) {
  const Value &z = c.in[0], &w = c.in[1];
  const std::int64_t heads = z.dim(1), e = z.dim(2), d = w.dim(1);
  Value result = matmul(permute(z, {1, 0, 2}), reshape(w, {heads, e, d}));  // [head, rows, d]
  result = permute(result, {1, 0, 2});                                      // [rows, head, d]
  const HeadsRule& rule = c.as<HeadsRule>();
  if (!rule.site.empty())
    result = c.builder.site(rule.site, result, {Axis::row, Axis::head, Axis::feature});
  result = sum(result, {1});
  return c.in.size() > 2 ? result + c.in[2] : result;
}

Grads vjp_heads_out(const VjpCall& c) {
  const Value z = reshape(c.in[0], {c.in[0].dim(0), c.in[1].dim(0)});
  Grads grads{reshape(matmul(c.grad, transpose(c.in[1])), c.in[0].shape()),
              matmul(transpose(z), c.grad)};
  if (c.in.size() > 2) grads.push_back(sum(c.grad, {0}));
  return grads;
}

void eval_heads_out(const EvalCall& c) {
  if (c.out.numel() == 0) return;
  const std::int64_t columns = c.in[1].shape[0];
  const bool biased = c.in.size() > 2;
  if (columns == 0 && biased)
    return kernels::copy(c.pool, broadcast_view(c.in[2], c.out.shape), c.out);
  if (columns == 0) return kernels::fill(c.pool, 0, c.out);
  const Matrix z = matrix_of(c.pool, c.in[0], columns);
  if (biased) affine(c.pool, z.view, c.in[1], c.in[2], c.out);
  else matmul(c.pool, z.view, c.in[1], c.out);
}

std::int64_t flops_heads_out(const InferCall& c, const Type& out) {
  return 2 * numel(out.shape) * c.in[1].shape[0];
}

}  // namespace

extern constinit const OpDef kMatmul = {
    .name = "matmul",
    .doc = "y[.., i, j] = sum_k a[.., i, k] b[.., k, j]; da = dy b^T, db = a^T dy",
    .kind = OpKind::product,
    .linear_in = kEveryInput,
    .infer = infer_matmul,
    .eval =
        [](const EvalCall& c) {
          matmul(c.pool, with_batch_of(c.in[0], c.out.shape), with_batch_of(c.in[1], c.out.shape),
                 c.out);
        },
    .vjp =
        [](const VjpCall& c) {
          return Grads{sum_to(matmul(c.grad, transpose(c.in[1])), c.in[0].shape()),
                       sum_to(matmul(transpose(c.in[0]), c.grad), c.in[1].shape())};
        },
    .reach = reach_matmul,
    .flops = flops_matmul,
    .reads_stored = weight_as_stored};
extern constinit const OpDef kLinear = {
    .name = "linear",
    .doc = "y = x w + bias; dx = dy w^T, dw = x^T dy, dbias = sum of dy over rows",
    .kind = OpKind::product,
    .linear_in = kEveryInput,
    .infer = infer_linear,
    .eval = eval_linear,
    .vjp = vjp_linear,
    .reach = reach_linear,
    .flops = flops_matmul,
    .expand =
        [](const ExpandCall& c) {
          const Value& x = c.in[0];
          Shape out = x.shape();
          out[out.size() - 1] = c.in[1].dim(1);
          return reshape(matmul(flat(x), c.in[1]), out) + c.in[2];
        },
    .reads_stored = weight_as_stored};
// y = f(x w + bias): what compile makes of a linear whose value only f reads.
constexpr OpDef linear_then(std::string_view name, std::string_view doc,
                            void (*eval)(const EvalCall&), Value (*expand)(const ExpandCall&)) {
  return {.name = name,
          .doc = doc,
          .kind = OpKind::other,
          .infer = infer_linear,
          .eval = eval,
          .reach = reach_linear,
          .flops = [](const InferCall& c,
                      const Type& out) { return flops_matmul(c, out) + 10 * numel(out.shape); },
          .expand = expand,
          .reads_stored = weight_as_stored};
}
extern constinit const OpDef kLinearGeluTanh = linear_then(
    "linear_gelu_tanh", "y = gelu_tanh(x w + bias)",
    [](const EvalCall& c) { eval_linear_then(c, kernels::Unary::gelu_tanh); },
    [](const ExpandCall& c) { return gelu_tanh(linear(c.in[0], c.in[1], c.in[2])); });
extern constinit const OpDef kLinearRelu = linear_then(
    "linear_relu", "y = max(0, x w + bias)",
    [](const EvalCall& c) { eval_linear_then(c, kernels::Unary::relu); },
    [](const ExpandCall& c) { return relu(linear(c.in[0], c.in[1], c.in[2])); });
extern constinit const OpDef kHeadsIn = {
    .name = "heads_in",
    .doc = "y[r, h] = normed[r] w[:, h] + bias[h]; inside, one copy of x per head",
    .kind = OpKind::other,
    .linear_in = kEveryInput,
    .infer = infer_heads_in,
    .eval = eval_heads_in,
    .vjp = vjp_heads_in,
    .reach = reach_heads_in,
    .parts = parts_heads_in,
    .flops = flops_matmul,
    .expand = expand_heads_in,
    .interior =
        [](const InferCall& c, const Type& out) {
          return one_copy_per_head(c, {out.shape[0], out.shape[1], c.in[0].shape[1]});
        },
    .reads_stored = weight_as_stored};
extern constinit const OpDef kHeadsOut = {
    .name = "heads_out",
    .doc = "y[r] = sum_h z[r, h] w[h] + bias; inside, what each head adds",
    .kind = OpKind::other,
    .linear_in = kEveryInput,
    .infer = infer_heads_out,
    .eval = eval_heads_out,
    .vjp = vjp_heads_out,
    .reach =
        [](const ReachCall& c) {
          Reach reach{{.links = {same_axis(0, 0)}}, {.links = {same_axis(1, 1)}}};
          if (c.in.size() > 2) reach.push_back({.links = {same_axis(0, 1)}});
          return reach;
        },
    .flops = flops_heads_out,
    .expand = expand_heads_out,
    .interior =
        [](const InferCall& c, const Type& out) {
          return one_copy_per_head(c, {out.shape[0], c.in[0].shape[1], out.shape[1]});
        },
    .reads_stored = weight_as_stored};

HeadsInInputs heads_in_inputs(const HeadsRule& rule, std::size_t count) {
  HeadsInInputs at;
  int next = 2;
  if (rule.biased) at.bias = next++;
  at.x = next++;
  at.gain = next++;
  if (rule.norm == NormKind::layer_norm) at.norm_bias = next++;
  if (static_cast<int>(count) > next) at.scale = next;
  return at;
}

Value matmul(const Value& a, const Value& b, SourceLine line) {
  return a.builder().emit(kMatmul, {a, b}, NoAttributes{}, line);
}
Value linear(const Value& x, const Value& w, const Value& bias, SourceLine line) {
  return x.builder().emit(kLinear, {x, w, bias}, NoAttributes{}, line);
}
Value heads_in(const NormedInput& in, const Value& w, const Value& bias, int heads,
               std::string_view site, SourceLine line) {
  std::vector<Value> inputs = {in.normed, w};
  if (bias.defined()) inputs.push_back(bias);
  inputs.insert(inputs.end(), {in.x, in.gain});
  if (in.norm == NormKind::layer_norm) inputs.push_back(in.bias);
  else if (in.bias.defined()) throw GraphError("heads_in: an RMSNorm has no bias; leave it out");
  if (in.scale.defined()) inputs.push_back(in.scale);
  return in.x.builder().emit(
      kHeadsIn, inputs,
      HeadsRule{heads, in.eps, std::string(site), in.detach_scale, in.norm, bias.defined()}, line);
}
Value heads_out(const Value& z, const Value& w, const Value& bias, std::string_view site,
                SourceLine line) {
  const int heads =
      z.rank() == 3 ? static_cast<int>(z.dim(1)) : 1;  // the shape rule asks for three axes
  std::vector<Value> inputs = {z, w};
  if (bias.defined()) inputs.push_back(bias);
  return z.builder().emit(
      kHeadsOut, inputs,
      HeadsRule{.heads = heads, .eps = 0, .site = std::string(site), .biased = bias.defined()},
      line);
}

}  // namespace vitrine
