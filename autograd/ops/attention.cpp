// Attention over row tables. Queries, keys and values are packed rows [rows, head, e]; the tables
// say which key row holds position c of a row's sequence, so one mechanism serves ragged batches,
// the worlds of a sweep and cached keys.
#include <algorithm>
#include <cmath>

#include "autograd/ops/row_tables.h"
#include "tensor/kernels/dense.h"

namespace vitrine {

extern const OpDef kAttentionGrad;
extern const OpDef kSoftmax;

namespace {

kernels::AttendRule kernel_rule(const AttentionRule& rule) {
  return {rule.scale, rule.offset, rule.window, rule.softcap};
}
// Inputs: q, k, v, sequence, position, keys -> [rows, head, e]
Type infer_attention(const InferCall& c) {
  const Type in[] = {c.in[0], c.in[1], c.in[3], c.in[4], c.in[5]};
  infer_scores({in, c.attributes});
  const Type &k = c.in[1], &v = c.in[2];
  require_heads(v, "v");
  require_same_dtype(k, v);
  require(v.shape[0] == k.shape[0] && v.shape[1] == k.shape[1],
          "k {} and v {} must have the same rows and heads", to_string(k.shape),
          to_string(v.shape));
  const AttentionRule& rule = c.as<AttentionRule>();
  require(rule.window >= 0, "the window must be 0 (none) or more, not {}", rule.window);
  require(rule.softcap >= 0 && std::isfinite(rule.softcap),
          "the softcap must be 0 (none) or a number above it, not {}", rule.softcap);
  return {v.dtype, {c.in[0].shape[0], c.in[0].shape[1], v.shape[2]}};
}

Reach reach_attention(const ReachCall& c) {
  const AttentionRule& rule = c.as<AttentionRule>();
  const InputReach q{.links = {same_axis(0, 0), same_axis(1, 1)}};
  InputReach k{
      .links = {same_sequence(0, 0), from_key_head(group_of(c.in[0].shape[1], c.in[1].shape[1]))}};
  see(k, rule.offset, rule.window);
  InputReach v = k;
  v.links.push_back(same_axis(2, 2));
  return with_tables({q, k, v});
}

const Axes kPatternAxes = {Axis::row, Axis::head, Axis::key};

// The steps of attention: scores, perhaps capped, what may be seen, and the pattern; each [rows,
// head, key positions].
Value pattern_of(Builder& b, const Value& q, const Value& k, const RowValues& rows,
                 const AttentionRule& rule) {
  Value scores = attention_scores(q, k, rows, rule.scale);
  if (rule.softcap != 0) scores = softcap(scores, rule.softcap);
  scores = mask(scores, rows.position,
                Visibility{.query_axis = 0,
                           .key_axis = 2,
                           .offset = rule.offset,
                           .zero = false,
                           .window = rule.window});
  if (!rule.prefix.empty())
    scores = b.site(rule.prefix + ".hook_attn_scores", scores, kPatternAxes);
  Value pattern = softmax(scores);
  if (!rule.prefix.empty()) pattern = b.site(rule.prefix + ".hook_pattern", pattern, kPatternAxes);
  return pattern;
}
Value expand_attention(const ExpandCall& c) {
  const RowValues rows = row_values(c.in, 3);
  return attention_mix(pattern_of(c.builder, c.in[0], c.in[1], rows, c.as<AttentionRule>()),
                       c.in[2], rows);
}
// With P the pattern and S the scores: dP = dz v^T, dv = P^T dz, dS = P (dP - sum P dP), dq = scale
// dS k, dk = scale dS^T q. A softcap S = c tanh(S' / c) has dS' = (1 - (S / c)^2) dS.
struct AttentionGrads {
  Value dq, dk, dv;
};
AttentionGrads grads_in_steps(Builder& b, const Value& q, const Value& k, const Value& v,
                              const Value& dz, const RowValues& rows, const AttentionRule& rule) {
  const std::int64_t group = group_of(q.dim(1), k.dim(1));
  const Value pattern = pattern_of(b, q, k, rows, rule);
  Value dscores = softmax_grad(pattern, attention_outer(dz, v, rows));
  if (rule.softcap != 0) {
    const Value t = tanh(attention_outer(q, k, rows) * (rule.scale / rule.softcap));
    dscores = dscores * (1.0 - t * t);
  }
  dscores = dscores * rule.scale;
  return {attention_mix(dscores, k, rows),
          attention_mix_transposed(dscores, q, rows, k.dim(0), group),
          attention_mix_transposed(pattern, dz, rows, v.dim(0), group)};
}
// Where key rows are as many as query rows, as in training, one op gives the three, one after the
// other: [group + 2, rows, key head, e], of which the first `group` are dq.
Grads vjp_attention(const VjpCall& c) {
  AttentionRule rule = c.as<AttentionRule>();
  rule.prefix.clear();
  const Value &q = c.in[0], &k = c.in[1], &v = c.in[2];
  const RowValues rows = row_values(c.in, 3);
  if (q.dim(0) == k.dim(0) && q.dim(1) > 0 && q.dim(2) == v.dim(2) && k.shape() == v.shape()) {
    const Value all =
        c.builder.emit(kAttentionGrad, {q, k, v, c.grad, rows.sequence, rows.position, rows.keys},
                       rule, SourceLine::here());
    const std::int64_t group = q.dim(1) / k.dim(1);
    const auto part = [&](std::int64_t from, std::int64_t to, const Shape& shape) {
      return reshape(slice(all, 0, from, to), shape);
    };
    return {part(0, group, q.shape()),
            part(group, group + 1, k.shape()),
            part(group + 1, group + 2, k.shape()),
            Value(),
            Value(),
            Value()};
  }
  const AttentionGrads g = grads_in_steps(c.builder, q, k, v, c.grad, rows, rule);
  return {g.dq, g.dk, g.dv, Value(), Value(), Value()};
}
// Inputs of attention_grad: q, k, v, dz, sequence, position, keys -> [group + 2, rows, key head, e]
Type infer_attention_grad(const InferCall& c) {
  const Type &q = c.in[0], &k = c.in[1], &dz = c.in[3];
  const Type in[] = {q, c.in[1], c.in[2], c.in[4], c.in[5], c.in[6]};
  const Type z = infer_attention({in, c.attributes});
  require(k == c.in[2] && q.shape[0] == k.shape[0] && q.shape[2] == k.shape[2],
          "q {}, k {} and v {} must be alike, but for groups of heads", to_string(q), to_string(k),
          to_string(c.in[2]));
  require(dz == z, "dz must be {}, not {}", to_string(z), to_string(dz));
  return {q.dtype, {group_of(q.shape[1], k.shape[1]) + 2, k.shape[0], k.shape[1], k.shape[2]}};
}
Value expand_attention_grad(const ExpandCall& c) {
  const AttentionGrads g = grads_in_steps(c.builder, c.in[0], c.in[1], c.in[2], c.in[3],
                                          row_values(c.in, 4), c.as<AttentionRule>());
  const Value &q = c.in[0], &k = c.in[1];
  const auto as = [&](const Value& x, std::int64_t n) {
    return reshape(x, {n, k.dim(0), k.dim(1), k.dim(2)});
  };
  const std::int64_t group = group_of(q.dim(1), k.dim(1));
  return concat({as(g.dq, group), as(g.dk, 1), as(g.dv, 1)}, 0);
}
// Only the head is kept apart, where there are no groups: rows of dq are query rows, those of dk and
// dv key rows. The expansion tells more.
Reach reach_attention_grad(const ReachCall& c) {
  InputReach head;
  if (c.in[0].shape[1] == c.in[1].shape[1]) head.links.push_back(same_axis(1, 2));
  return with_tables({head, head, head, head});
}
std::vector<InteriorSite> attention_sites(const InferCall& c, const Type& out) {
  const std::string& prefix = c.as<AttentionRule>().prefix;
  if (prefix.empty()) return {};
  const Type pattern{out.dtype, {out.shape[0], out.shape[1], c.in[5].shape[1]}};
  return {{{prefix + ".hook_attn_scores", kPatternAxes}, pattern},
          {{prefix + ".hook_pattern", kPatternAxes}, pattern}};
}

// How many keys a row sees at most.
std::int64_t most_keys(const InferCall& c, std::size_t table) {
  const std::int64_t keys = c.in[table].shape[1], window = c.as<AttentionRule>().window;
  return window == 0 ? keys : std::min(keys, window);
}
std::int64_t flops_attention(const InferCall& c, const Type& out) {
  const std::int64_t keys = most_keys(c, 5);
  return 2 * keys * (numel(c.in[0].shape) + numel(out.shape)) +
         8 * keys * out.shape[0] * out.shape[1];
}
std::int64_t flops_attention_grad(const InferCall& c, const Type&) {  // five products and a softmax
  const std::int64_t keys = most_keys(c, 6);
  return 10 * keys * numel(c.in[0].shape) + 12 * keys * c.in[0].shape[0] * c.in[0].shape[1];
}

}  // namespace

extern constinit const OpDef kAttention = {
    .name = "attention",
    .doc = "z = softmax(mask(softcap(q k^T scale))) v, per head  (Vaswani et al. 2017)",
    .kind = OpKind::attention,
    .linear_in = only_inputs({2}),
    .frozen = &kSoftmax,
    .infer = infer_attention,
    .eval =
        [](const EvalCall& c) {
          const AttentionRule& rule = c.as<AttentionRule>();
          const auto attend = kernels::attention_is_dense(c.in[0], tables(c, 3))
                                  ? kernels::attention_dense
                                  : kernels::attention;
          attend(c.pool, c.in[0], c.in[1], c.in[2], tables(c, 3), kernel_rule(rule), c.out);
        },
    .vjp = vjp_attention,
    .reach = reach_attention,
    .parts = parts_keyed<2>,
    .flops = flops_attention,
    .expand = expand_attention,
    .interior = attention_sites};
extern constinit const OpDef kAttentionGrad = {
    .name = "attention_grad",
    .doc =
        "dq, dk and dv of attention side by side, given dz: dS = P (dz v^T - sum P dz v^T), dq = "
        "scale dS k, dk = scale dS^T q, dv = P^T dz",
    .kind = OpKind::other,
    .linear_in = only_inputs({2, 3}),
    .infer = infer_attention_grad,
    .eval =
        [](const EvalCall& c) {
          kernels::attention_grad(c.pool, c.in[0], c.in[1], c.in[2], c.in[3], tables(c, 4),
                                  kernel_rule(c.as<AttentionRule>()), c.out);
        },
    .reach = reach_attention_grad,
    .flops = flops_attention_grad,
    .expand = expand_attention_grad};

Value attention(const Value& q, const Value& k, const Value& v, const RowValues& rows, double scale,
                std::string_view prefix, std::int64_t offset, SourceLine line) {
  return attention(q, k, v, rows, AttentionOptions{.scale = scale, .offset = offset}, prefix, line);
}
Value attention(const Value& q, const Value& k, const Value& v, const RowValues& rows,
                const AttentionOptions& options, std::string_view prefix, SourceLine line) {
  return q.builder().emit(kAttention, {q, k, v, rows.sequence, rows.position, rows.keys},
                          AttentionRule{options.scale, options.offset, std::string(prefix),
                                        options.window, options.softcap},
                          line);
}

}  // namespace vitrine
