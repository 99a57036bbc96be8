// Ops that work along the last axis, row by row: softmax, LayerNorm, RMSNorm, cross-entropy.
#include "autograd/graph/parts.h"
#include "autograd/ops/common.h"
#include "tensor/kernels/kernels.h"

namespace vitrine {

extern const OpDef kSqrt;

namespace {

Type infer_rows(const InferCall& c) {
  require_float(c.in[0], "the input");
  require(c.in[0].shape.size() > 0, "a scalar has no last axis to work along");
  return c.in[0];
}

Type infer_softmax_grad(const InferCall& c) {
  require(c.in[0] == c.in[1], "y is {} but dy is {}: they must be alike", to_string(c.in[0]),
          to_string(c.in[1]));
  return infer_rows(c);
}

void require_feature_vector(const InferCall& c, std::size_t i, std::string_view what) {
  require_same_dtype(c.in[0], c.in[i]);
  require(c.in[i].shape == Shape{c.in[0].shape.back()},
          "{} must have shape [{}], one entry per feature of x {}, not {}", what,
          c.in[0].shape.back(), to_string(c.in[0].shape), to_string(c.in[i].shape));
}

Type infer_layer_norm(const InferCall& c) {
  const Type out = infer_rows(c);
  require(out.shape.back() > 0, "the last axis must have entries");
  require_feature_vector(c, 1, "the gain");
  require_feature_vector(c, 2, "the bias");
  return out;
}
Type infer_layer_norm_grad(const InferCall& c) {
  const Type out = infer_rows(c);
  require_feature_vector(c, 1, "the gain");
  require(c.in[2] == c.in[0], "dy is {} but x is {}: they must be alike", to_string(c.in[2]),
          to_string(c.in[0]));
  return out;
}
Type infer_gain_grad(const InferCall& c) {
  const Type out = infer_rows(c);
  require(c.in[1] == c.in[0], "dy is {} but x is {}: they must be alike", to_string(c.in[1]),
          to_string(c.in[0]));
  return {out.dtype, {out.shape.back()}};
}

// The axes of a value by its rank: packed rows, or batch and position kept apart.
Axes row_axes(int rank) {
  if (rank == 1) return {Axis::feature};
  if (rank == 2) return {Axis::row, Axis::feature};
  if (rank == 3) return {Axis::batch, Axis::pos, Axis::feature};
  Axes axes(static_cast<std::size_t>(rank), Axis::other);
  axes.back() = Axis::feature;
  return axes;
}

// The same of an RMSNorm, which norms heads, too: [rows, head, e].
Axes row_or_head_axes(int rank) {
  return rank == 3 ? Axes{Axis::row, Axis::head, Axis::feature} : row_axes(rank);
}

template <Axes (*axes_of)(int rank)>
std::vector<InteriorSite> norm_sites(const InferCall& c, const Type& out) {
  const NormRule& rule = c.as<NormRule>();
  if (rule.prefix.empty()) return {};
  Type scale = out;
  scale.shape[scale.shape.size() - 1] = 1;
  const Axes axes = axes_of(out.shape.size());
  return {{{rule.prefix + ".hook_scale", axes}, scale},
          {{rule.prefix + ".hook_normalized", axes}, out}};
}

Value expand_layer_norm(const ExpandCall& c) {
  const NormRule& rule = c.as<NormRule>();
  const Value &x = c.in[0], &gain = c.in[1], &bias = c.in[2];
  const bool sites = !rule.prefix.empty();
  const Axes axes = row_axes(x.rank());
  const Value centred = x - mean(x, {-1}, true);
  Value scale = sqrt(mean(square(centred), {-1}, true) + rule.eps);  // [..., 1]
  if (sites) scale = c.builder.site(rule.prefix + ".hook_scale", scale, axes);
  Value normalized = centred / scale;  // [..., d]
  if (sites) normalized = c.builder.site(rule.prefix + ".hook_normalized", normalized, axes);
  return normalized * gain + bias;
}

// ---- RMSNorm ----------------------------------------------------------------------------------
Type infer_rms_norm(const InferCall& c) {
  const Type out = infer_rows(c);
  require(out.shape.back() > 0, "the last axis must have entries");
  require_feature_vector(c, 1, "the gain");
  return out;
}

Value rms_of(const Value& x, double eps) {  // [..., 1]
  return sqrt(mean(square(x), {-1}, true) + eps);
}
Value expand_rms_norm(const ExpandCall& c) {
  const NormRule& rule = c.as<NormRule>();
  const Value &x = c.in[0], &gain = c.in[1];
  const bool sites = !rule.prefix.empty();
  const Axes axes = row_or_head_axes(x.rank());
  Value scale = rms_of(x, rule.eps);
  if (sites) scale = c.builder.site(rule.prefix + ".hook_scale", scale, axes);
  Value normalized = x / scale;  // [..., d]
  if (sites) normalized = c.builder.site(rule.prefix + ".hook_normalized", normalized, axes);
  return normalized * gain;
}

Dims all_but_last(const Value& x) {
  Dims axes;
  for (int a = 0; a + 1 < x.rank(); ++a) axes.push_back(a);
  return axes;
}

Reach reach_gain_grad(const ReachCall& c) {
  const int last = c.in[0].shape.size() - 1;
  return {reach_all(), {.links = {same_axis(last, 0)}}};  // x: through mean and variance
}
Reach reach_layer_norm_grad(const ReachCall& c) {
  Reach reach = reach_rows(c);
  if (c.in[0].shape.size() > 1) reach[1].links.clear();  // dx mixes the features, gain included
  return reach;
}

Fact fact_softmax(const ReachCall& c) {  // -inf becomes exactly 0
  Fact f = c.facts[0];
  if (f.kind != Fact::Kind::masked || f.key_axis != c.out.shape.size() - 1) return {};
  f.kind = Fact::Kind::zero;
  return f;
}
Fact fact_softmax_grad(const ReachCall& c) {
  return c.facts[0].kind == Fact::Kind::zero ? c.facts[0] : Fact{};
}

template <int per_element>
std::int64_t row_flops(const InferCall& c, const Type&) {
  return per_element * numel(c.in[0].shape);
}

}  // namespace

extern constinit const OpDef kSoftmax = {
    .name = "softmax",
    .doc = "y = exp(x - max x) / sum exp(x - max x) along the last axis; dx = y (dy - sum(y dy))",
    .kind = OpKind::other,
    .nonlinear = Nonlinear::kept,
    .infer = infer_rows,
    .eval = [](const EvalCall& c) { kernels::softmax(c.pool, c.in[0], c.out); },
    .vjp = [](const VjpCall& c) { return Grads{softmax_grad(c.out, c.grad)}; },
    .reach = reach_rows,
    .flops = row_flops<7>,
    .fact = fact_softmax};
extern constinit const OpDef kSoftmaxGrad = {
    .name = "softmax_grad",
    .doc = "dx = y (dy - sum(y dy)), where y = softmax(x)",
    .kind = OpKind::other,
    .linear_in = only_inputs({1}),
    .infer = infer_softmax_grad,
    .eval = [](const EvalCall& c) { kernels::softmax_grad(c.pool, c.in[0], c.in[1], c.out); },
    .reach = reach_rows,
    .flops = row_flops<4>,
    .expand =
        [](const ExpandCall& c) {
          return c.in[0] * (c.in[1] - sum(c.in[0] * c.in[1], {-1}, true));
        },
    .fact = fact_softmax_grad};
extern constinit const OpDef kLogSoftmax = {
    .name = "log_softmax",
    .doc = "y = x - log sum exp x along the last axis; dx = dy - exp(y) sum(dy)",
    .kind = OpKind::other,
    .nonlinear = Nonlinear::kept,
    .infer = infer_rows,
    .eval = [](const EvalCall& c) { kernels::log_softmax(c.pool, c.in[0], c.out); },
    .vjp = [](const VjpCall& c) { return Grads{c.grad - exp(c.out) * sum(c.grad, {-1}, true)}; },
    .reach = reach_rows,
    .flops = row_flops<7>};
extern constinit const OpDef kLayerNorm = {
    .name = "layer_norm",
    .doc = "y = (x - mean) / sqrt(var + eps) gain + bias along the last axis  (Ba et al. 2016)",
    .kind = OpKind::norm,
    .linear_in = only_inputs({1, 2}),
    .frozen = &kSqrt,
    .infer = infer_layer_norm,
    .eval =
        [](const EvalCall& c) {
          kernels::layer_norm(c.pool, c.in[0], c.in[1], c.in[2], c.as<NormRule>().eps, c.out);
        },
    .vjp =
        [](const VjpCall& c) {
          const double eps = c.as<NormRule>().eps;
          return Grads{layer_norm_grad(c.in[0], c.in[1], c.grad, eps),
                       layer_norm_gain_grad(c.in[0], c.grad, eps),
                       sum(c.grad, all_but_last(c.grad))};
        },
    .reach = reach_rows,
    .flops = row_flops<8>,
    .expand = expand_layer_norm,
    .interior = norm_sites<row_axes>};
extern constinit const OpDef kLayerNormGrad = {
    .name = "layer_norm_grad",
    .doc =
        "dx = (u - mean(u) - n mean(u n)) / s, where u = dy gain, n = (x - mean) / s, s = sqrt(var "
        "+ eps)",
    .kind = OpKind::other,
    .linear_in = only_inputs({1, 2}),
    .infer = infer_layer_norm_grad,
    .eval =
        [](const EvalCall& c) {
          kernels::layer_norm_grad(c.pool, c.in[0], c.in[1], c.in[2], c.as<NormRule>().eps, c.out);
        },
    .reach = reach_layer_norm_grad,
    .flops = row_flops<14>,
    .expand =
        [](const ExpandCall& c) {
          const Value centred = c.in[0] - mean(c.in[0], {-1}, true);
          const Value s = sqrt(mean(square(centred), {-1}, true) + c.as<NormRule>().eps);
          const Value n = centred / s, u = c.in[2] * c.in[1];
          return (u - mean(u, {-1}, true) - n * mean(u * n, {-1}, true)) / s;
        }};
extern constinit const OpDef kLayerNormGainGrad = {
    .name = "layer_norm_gain_grad",
    .doc = "dgain = the sum over rows of dy (x - mean) / sqrt(var + eps)",
    .kind = OpKind::other,
    .linear_in = only_inputs({1}),
    .infer = infer_gain_grad,
    .eval =
        [](const EvalCall& c) {
          kernels::layer_norm_gain_grad(c.pool, c.in[0], c.in[1], c.as<NormRule>().eps, c.out);
        },
    .reach = reach_gain_grad,
    .parts = [](const ReachCall&, int) -> std::optional<InputParts> {
      return {};
    },  // sums over rows
    .flops = row_flops<9>,
    .expand =
        [](const ExpandCall& c) {
          const Value centred = c.in[0] - mean(c.in[0], {-1}, true);
          const Value s = sqrt(mean(square(centred), {-1}, true) + c.as<NormRule>().eps);
          return sum(c.in[1] * (centred / s), all_but_last(c.in[0]));
        }};

extern constinit const OpDef kRmsNorm = {
    .name = "rms_norm",
    .doc = "y = x / sqrt(mean x^2 + eps) gain along the last axis  (Zhang & Sennrich 2019)",
    .kind = OpKind::norm,
    .linear_in = only_inputs({1}),
    .frozen = &kSqrt,
    .infer = infer_rms_norm,
    .eval =
        [](const EvalCall& c) {
          kernels::rms_norm(c.pool, c.in[0], c.in[1], c.as<NormRule>().eps, c.out);
        },
    .vjp =
        [](const VjpCall& c) {
          const double eps = c.as<NormRule>().eps;
          return Grads{rms_norm_grad(c.in[0], c.in[1], c.grad, eps),
                       rms_norm_gain_grad(c.in[0], c.grad, eps)};
        },
    .reach = reach_rows,
    .flops = row_flops<5>,
    .expand = expand_rms_norm,
    .interior = norm_sites<row_or_head_axes>};
extern constinit const OpDef kRmsNormGrad = {
    .name = "rms_norm_grad",
    .doc = "dx = (u - n mean(u n)) / s, where u = dy gain, n = x / s, s = sqrt(mean x^2 + eps)",
    .kind = OpKind::other,
    .linear_in = only_inputs({1, 2}),
    .infer = infer_layer_norm_grad,
    .eval =
        [](const EvalCall& c) {
          kernels::rms_norm_grad(c.pool, c.in[0], c.in[1], c.in[2], c.as<NormRule>().eps, c.out);
        },
    .reach = reach_layer_norm_grad,
    .flops = row_flops<10>,
    .expand =
        [](const ExpandCall& c) {
          const Value s = rms_of(c.in[0], c.as<NormRule>().eps);
          const Value n = c.in[0] / s, u = c.in[2] * c.in[1];
          return (u - n * mean(u * n, {-1}, true)) / s;
        }};
extern constinit const OpDef kRmsNormGainGrad = {
    .name = "rms_norm_gain_grad",
    .doc = "dgain = the sum over rows of dy x / sqrt(mean x^2 + eps)",
    .kind = OpKind::other,
    .linear_in = only_inputs({1}),
    .infer = infer_gain_grad,
    .eval =
        [](const EvalCall& c) {
          kernels::rms_norm_gain_grad(c.pool, c.in[0], c.in[1], c.as<NormRule>().eps, c.out);
        },
    .reach = reach_gain_grad,
    .parts = [](const ReachCall&, int) -> std::optional<InputParts> {
      return {};
    },  // sums over rows
    .flops = row_flops<6>,
    .expand =
        [](const ExpandCall& c) {
          return sum(c.in[1] * (c.in[0] / rms_of(c.in[0], c.as<NormRule>().eps)),
                     all_but_last(c.in[0]));
        }};

Value softmax(const Value& x, SourceLine line) {
  return x.builder().emit(kSoftmax, {x}, NoAttributes{}, line);
}
Value softmax_grad(const Value& y, const Value& dy, SourceLine line) {
  return y.builder().emit(kSoftmaxGrad, {y, dy}, NoAttributes{}, line);
}
Value log_softmax(const Value& x, SourceLine line) {
  return x.builder().emit(kLogSoftmax, {x}, NoAttributes{}, line);
}
Value layer_norm(const Value& x, const Value& gain, const Value& bias, double eps,
                 std::string_view prefix, SourceLine line) {
  return x.builder().emit(kLayerNorm, {x, gain, bias}, NormRule{eps, std::string(prefix)}, line);
}
Value layer_norm_grad(const Value& x, const Value& gain, const Value& dy, double eps,
                      SourceLine line) {
  return x.builder().emit(kLayerNormGrad, {x, gain, dy}, NormRule{eps, ""}, line);
}
Value layer_norm_gain_grad(const Value& x, const Value& dy, double eps, SourceLine line) {
  return x.builder().emit(kLayerNormGainGrad, {x, dy}, NormRule{eps, ""}, line);
}
Value rms_norm(const Value& x, const Value& gain, double eps, std::string_view prefix,
               SourceLine line) {
  return x.builder().emit(kRmsNorm, {x, gain}, NormRule{eps, std::string(prefix)}, line);
}
Value rms_norm_grad(const Value& x, const Value& gain, const Value& dy, double eps,
                    SourceLine line) {
  return x.builder().emit(kRmsNormGrad, {x, gain, dy}, NormRule{eps, ""}, line);
}
Value rms_norm_gain_grad(const Value& x, const Value& dy, double eps, SourceLine line) {
  return x.builder().emit(kRmsNormGainGrad, {x, dy}, NormRule{eps, ""}, line);
}
Value cross_entropy(const Value& logits, const Value& targets, SourceLine line) {
  return neg(pick(log_softmax(logits, line), targets, line), line);
}

}  // namespace vitrine
