// The projections into heads and out of them, with one value per head inside.
#include "autograd/graph/parts.h"
#include "autograd/ops/affine.h"
#include "autograd/ops/common.h"
#include "autograd/ops/op_table.h"
#include "tensor/gemm/gemm.h"
#include "tensor/kernels/kernels.h"

namespace vitrine {
namespace {

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
  const RowMatrix z = matrix_of(c.pool, c.in[0], columns);
  if (biased) affine(c.pool, z.view, c.in[1], c.in[2], c.out);
  else matmul(c.pool, z.view, c.in[1], c.out);
}

std::int64_t flops_heads_out(const InferCall& c, const Type& out) {
  return 2 * numel(out.shape) * c.in[1].shape[0];
}

}  // namespace

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
