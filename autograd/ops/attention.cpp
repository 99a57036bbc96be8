// Attention over row tables. Queries, keys and values are packed rows [rows, head, e]; the tables
// say which key row holds position c of a row's sequence, so one mechanism serves ragged batches,
// the worlds of a sweep and cached keys.
//
// scores, mix and mix_transposed are one family: the gradient of each is written with the others.
#include <algorithm>
#include <cmath>
#include <limits>

#include "autograd/graph/parts.h"
#include "autograd/ops/common.h"
#include "tensor/kernels/dense.h"
#include "tensor/kernels/kernels.h"
#include "tensor/kernels/place.h"

namespace vitrine {

extern const OpDef kMask;  // its own gradient emits it again
extern const OpDef kAttentionGrad;
extern const OpDef kSoftmax;

namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

kernels::AttendRule kernel_rule(const AttentionRule& rule) {
  return {rule.scale, rule.offset, rule.window, rule.softcap};
}
kernels::Tables tables(const EvalCall& c, std::size_t first) {
  return {c.in[first], c.in[first + 1], c.in[first + 2]};
}
RowValues row_values(std::span<const Value> in, std::size_t first) {
  return {in[first], in[first + 1], in[first + 2]};
}

void require_tables(const InferCall& c, std::size_t first, std::int64_t rows) {
  for (std::size_t i = first; i < first + 3; ++i) {
    require(c.in[i].dtype == DType::i32, "row tables must be i32, not {}", name_of(c.in[i].dtype));
  }
  for (std::size_t i = first; i < first + 2; ++i) {
    require(c.in[i].shape == Shape{rows},
            "the {} table must have one entry for each of the {} query rows, not {}",
            i == first ? "sequence" : "position", rows, to_string(c.in[i].shape));
  }
  require(c.in[first + 2].shape.size() == 2,
          "the keys table must be [sequences, key positions], not {}",
          to_string(c.in[first + 2].shape));
}
void require_heads(const Type& t, std::string_view name) {
  require_float(t, name);
  require(t.shape.size() == 3, "{} must be [rows, head, e], not {}", name, to_string(t.shape));
}

// ---- grouped heads: head h reads key head h / group -------------------------------------------
// How many of `heads` share each of `key_heads`, 0 where they do not divide into groups.
std::int64_t group_of(std::int64_t heads, std::int64_t key_heads) {
  if (heads == key_heads) return 1;
  return key_heads > 0 && heads % key_heads == 0 ? heads / key_heads : 0;
}
// From a key head to the heads of its group, and back; axis 1 of both.
Link from_key_head(std::int64_t group) {
  Link l = same_axis(1, 1);
  if (group != 1) l.relation = Relation::out_block, l.step = group;
  return l;
}
Link to_key_head(std::int64_t group) {
  Link l = same_axis(1, 1);
  if (group != 1) l.relation = Relation::in_block, l.step = group;
  return l;
}

// Inputs: q, k, sequence, position, keys -> [rows, head, key positions]
Type infer_scores(const InferCall& c) {
  const Type &q = c.in[0], &k = c.in[1];
  require_heads(q, "q");
  require_heads(k, "k");
  require_same_dtype(q, k);
  require(q.shape[2] == k.shape[2] && group_of(q.shape[1], k.shape[1]) > 0,
          "q {} and k {} must have the same width, and the same heads or whole groups of q's for "
          "each of k's",
          to_string(q.shape), to_string(k.shape));
  require_tables(c, 2, q.shape[0]);
  return {q.dtype, {q.shape[0], q.shape[1], c.in[4].shape[1]}};
}
void require_pattern(const InferCall& c) {  // p [rows, head, key positions], x [.., head, e]
  const Type &p = c.in[0], &x = c.in[1];
  require_heads(x, "the rows");
  require_same_dtype(p, x);
  require(p.shape.size() == 3 && group_of(p.shape[1], x.shape[1]) > 0,
          "pattern {} and rows {} must have the same heads, or whole groups of the pattern's for "
          "each of the rows'",
          to_string(p.shape), to_string(x.shape));
  require_tables(c, 2, p.shape[0]);
  require(p.shape[2] == c.in[4].shape[1], "the pattern has {} key positions, the keys table {}",
          p.shape[2], c.in[4].shape[1]);
}
Type infer_mix(const InferCall& c) {
  require_pattern(c);
  return {c.in[0].dtype, {c.in[0].shape[0], c.in[0].shape[1], c.in[1].shape[2]}};
}
Type infer_mix_transposed(const InferCall& c) {
  require_pattern(c);
  require(c.in[0].shape[0] == c.in[1].shape[0], "pattern {} and rows {} must have the same rows",
          to_string(c.in[0].shape), to_string(c.in[1].shape));
  const RowCount& rule = c.as<RowCount>();
  const std::int64_t heads = c.in[0].shape[1];
  require(heads == c.in[1].shape[1], "pattern {} and rows {} must have the same heads",
          to_string(c.in[0].shape), to_string(c.in[1].shape));
  require(rule.group > 0 && heads % rule.group == 0, "{} heads do not divide into groups of {}",
          heads, rule.group);
  return {c.in[0].dtype, {rule.rows, heads / rule.group, c.in[1].shape[2]}};
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

// ---- reach: key rows are found through the tables: their coordinates are sequence, position ---
Link link(int in_axis, Coordinate in, int out_axis, Coordinate out,
          Relation relation = Relation::same, std::int64_t offset = 0) {
  return {.in_axis = in_axis,
          .in = in,
          .out_axis = out_axis,
          .out = out,
          .relation = relation,
          .offset = offset};
}
Link same_sequence(int in_axis, int out_axis) {
  return link(in_axis, Coordinate::sequence, out_axis, Coordinate::sequence);
}
Reach with_tables(Reach reach) {
  for (int i = 0; i < 3; ++i) reach.push_back(reach_all());
  return reach;
}
// The ops that find keys by sequence alone: where a query stands only matters to the mask.
Reach with_unread_position(Reach reach) {
  reach.insert(reach.end(), {reach_all(), no_reach(), reach_all()});
  return reach;
}
Reach reach_scores(const ReachCall& c) {
  const InputReach q{.links = {same_axis(0, 0), same_axis(1, 1)}};
  const InputReach k{.links = {same_sequence(0, 0),
                               link(0, Coordinate::position, 2, Coordinate::index),
                               from_key_head(group_of(c.in[0].shape[1], c.in[1].shape[1]))}};
  return with_unread_position({q, k});
}
// What a query sees of the keys, and what of the queries sees a key: places of key rows and queries.
void see(InputReach& keys, std::int64_t offset, std::int64_t window) {
  constexpr Coordinate kPlace = Coordinate::position;
  keys.links.push_back(link(0, kPlace, 0, kPlace, Relation::at_most, offset));
  if (window > 0) keys.links.push_back(link(0, kPlace, 0, kPlace, Relation::at_least, 1 - window));
}
void seen(InputReach& queries, std::int64_t offset, std::int64_t window) {
  constexpr Coordinate kPlace = Coordinate::position;
  queries.links.push_back(link(0, kPlace, 0, kPlace, Relation::at_least, -offset));
  if (window > 0)
    queries.links.push_back(link(0, kPlace, 0, kPlace, Relation::at_most, window - 1));
}
// Whether the pattern has exact zeros beyond position + offset on [rows, head, keys], by the same
// position table that this op's coordinates are read from.
bool causal(const ReachCall& c) {
  constexpr std::size_t kPosition = 3;
  const Fact& f = c.facts[0];
  const bool same_table = c.inputs.empty() || f.table == c.inputs[kPosition];
  return f.kind == Fact::Kind::zero && f.query == Coordinate::position && f.query_axis == 0 &&
         f.key_axis == 2 && same_table;
}
Reach reach_mix(const ReachCall& c) {
  const InputReach p{.links = {same_axis(0, 0), same_axis(1, 1)}};
  InputReach v{.links = {same_sequence(0, 0),
                         from_key_head(group_of(c.in[0].shape[1], c.in[1].shape[1])),
                         same_axis(2, 2)}};
  if (const Fact& f = c.facts[0]; causal(c)) see(v, f.offset, f.window);
  return with_unread_position({p, v});
}
Reach reach_mix_transposed(const ReachCall& c) {
  const Link head = to_key_head(c.as<RowCount>().group);
  const InputReach p{
      .links = {same_sequence(0, 0), link(2, Coordinate::index, 0, Coordinate::position), head}};
  InputReach x{.links = {same_sequence(0, 0), head, same_axis(2, 2)}};
  if (const Fact& f = c.facts[0]; causal(c)) seen(x, f.offset, f.window);
  return with_unread_position({p, x});
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

// A query, or a head of one, at a time; keys and values are found through the tables.
template <int keyed>
std::optional<InputParts> parts_keyed(const ReachCall&, int lead) {
  if (lead > 2) return std::nullopt;
  InputParts parts = {InputPart::same};
  for (int i = 0; i < keyed; ++i) parts.push_back(InputPart::keyed);
  parts.insert(parts.end(), {InputPart::same, InputPart::same, InputPart::whole});
  return parts;
}

// ---- mask -------------------------------------------------------------------------------------
Type infer_mask(const InferCall& c) {
  const Visibility& rule = c.as<Visibility>();
  require_float(c.in[0], "the scores");
  require_axis(rule.query_axis, c.in[0]);
  require_axis(rule.key_axis, c.in[0]);
  require(rule.query_axis != rule.key_axis, "the query and key axes must differ");
  require(rule.window >= 0, "the window must be 0 (none) or more, not {}", rule.window);
  if (c.in.size() > 1) {
    require(c.in[1].dtype == DType::i32, "the position table must be i32, not {}",
            name_of(c.in[1].dtype));
    require(c.in[1].shape == Shape{c.in[0].shape[rule.query_axis]},
            "the position table must have one entry for each of the {} queries, not {}",
            c.in[0].shape[rule.query_axis], to_string(c.in[1].shape));
  }
  return c.in[0];
}
void eval_mask(const EvalCall& c) {
  const Visibility& rule = c.as<Visibility>();
  kernels::mask_keys(
      c.pool, c.in[0], c.in.size() > 1 ? c.in[1] : View{},
      {rule.query_axis, rule.key_axis, rule.offset, rule.zero ? 0.0 : -kInfinity, rule.window},
      c.out);
}
Fact fact_mask(const ReachCall& c) {
  const Visibility& rule = c.as<Visibility>();
  return {rule.zero ? Fact::Kind::zero : Fact::Kind::masked,
          rule.query_axis,
          rule.key_axis,
          c.in.size() > 1 ? Coordinate::position : Coordinate::index,
          rule.offset,
          c.in.size() > 1 && c.inputs.size() > 1 ? c.inputs[1] : -1,
          rule.window};
}
Grads vjp_mask(const VjpCall& c) {  // nothing flows through what was replaced
  Visibility rule = c.as<Visibility>();
  rule.zero = true;
  std::vector<Value> in(c.in.begin(), c.in.end());
  in[0] = c.grad;
  Grads grads{c.builder.emit(kMask, in, rule, SourceLine::here())};
  if (in.size() > 1) grads.emplace_back();
  return grads;
}
// What is replaced reads nothing: key <= query + offset, key > query - window
Reach reach_mask(const ReachCall& c) {
  const Visibility& rule = c.as<Visibility>();
  const bool by_table = c.in.size() > 1;
  Reach reach = reach_elementwise({c.in.first(1), c.out, c.attributes, c.facts.first(1)});
  const Coordinate place = by_table ? Coordinate::position : Coordinate::index;
  reach[0].links.push_back(link(rule.key_axis, Coordinate::index, rule.query_axis, place,
                                Relation::at_most, rule.offset));
  if (rule.window > 0) {
    reach[0].links.push_back(link(rule.key_axis, Coordinate::index, rule.query_axis, place,
                                  Relation::at_least, 1 - rule.window));
  }
  if (by_table) reach.push_back({.links = {same_axis(0, rule.query_axis)}});
  return reach;
}

// Without a table a query's place is its index, which packing changes.
std::optional<InputParts> parts_mask(const ReachCall& c, int lead) {
  const Visibility& rule = c.as<Visibility>();
  if (c.in.size() < 2) {
    if (rule.query_axis < lead || rule.key_axis < lead) return std::nullopt;
    return InputParts{InputPart::same};
  }
  if (rule.query_axis != 0 || rule.key_axis < lead) return std::nullopt;
  return InputParts{InputPart::same, InputPart::same};
}

// ---- the composite ----------------------------------------------------------------------------
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

std::int64_t flops_pattern(const InferCall& c,
                           const Type&) {  // a multiply and an add per (row, head, key, e)
  return 2 * numel(c.in[0].shape) * c.in[4].shape[1];
}
std::int64_t flops_mix_family(const InferCall& c, const Type&) {
  return 2 * numel(c.in[0].shape) * c.in[1].shape[2];
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

extern constinit const OpDef kMask = {
    .name = "mask",
    .doc =
        "y = x where key index <= query position + offset (and > query position - window), else "
        "-inf (0 in gradients)",
    .kind = OpKind::other,
    .linear_in = kEveryInput,
    .infer = infer_mask,
    .eval = eval_mask,
    .vjp = vjp_mask,
    .reach = reach_mask,
    .parts = parts_mask,
    .fact = fact_mask};
extern constinit const OpDef kAttentionScores = {
    .name = "attention_scores",
    .doc = "y[r, h, c] = scale q[r, h] . k[key row of position c, h / group], -inf without a key",
    .kind = OpKind::other,
    .linear_in = kEveryInput,
    .infer = infer_scores,
    .eval =
        [](const EvalCall& c) {
          kernels::attention_scores(c.pool, c.in[0], c.in[1], tables(c, 2),
                                    c.as<ScoreScale>().scale, c.out);
        },
    .vjp =
        [](const VjpCall& c) {
          const Value g = c.grad * c.as<ScoreScale>().scale;
          const RowValues rows = row_values(c.in, 2);
          return Grads{attention_mix(g, c.in[1], rows),
                       attention_mix_transposed(g, c.in[0], rows, c.in[1].dim(0),
                                                group_of(c.in[0].dim(1), c.in[1].dim(1))),
                       Value(), Value(), Value()};
        },
    .reach = reach_scores,
    .parts = parts_keyed<1>,
    .flops = flops_pattern};
extern constinit const OpDef kAttentionOuter = {
    .name = "attention_outer",
    .doc = "y[r, h, c] = x[r, h] . k[key row of position c, h / group], 0 without a key",
    .kind = OpKind::other,
    .linear_in = kEveryInput,
    .infer = infer_scores,
    .eval =
        [](const EvalCall& c) {
          kernels::attention_outer(c.pool, c.in[0], c.in[1], tables(c, 2), c.out);
        },
    .vjp =
        [](const VjpCall& c) {
          const RowValues rows = row_values(c.in, 2);
          return Grads{attention_mix(c.grad, c.in[1], rows),
                       attention_mix_transposed(c.grad, c.in[0], rows, c.in[1].dim(0),
                                                group_of(c.in[0].dim(1), c.in[1].dim(1))),
                       Value(), Value(), Value()};
        },
    .reach = reach_scores,
    .parts = parts_keyed<1>,
    .flops = flops_pattern};
extern constinit const OpDef kAttentionMix = {
    .name = "attention_mix",
    .doc = "y[r, h] = sum_c p[r, h, c] v[key row of position c, h / group]",
    .kind = OpKind::other,
    .linear_in = kEveryInput,
    .infer = infer_mix,
    .eval =
        [](const EvalCall& c) {
          kernels::attention_mix(c.pool, c.in[0], c.in[1], tables(c, 2), c.out);
        },
    .vjp =
        [](const VjpCall& c) {
          const RowValues rows = row_values(c.in, 2);
          return Grads{attention_outer(c.grad, c.in[1], rows),
                       attention_mix_transposed(c.in[0], c.grad, rows, c.in[1].dim(0),
                                                group_of(c.in[0].dim(1), c.in[1].dim(1))),
                       Value(), Value(), Value()};
        },
    .reach = reach_mix,
    .parts = parts_keyed<1>,
    .flops = flops_mix_family};
extern constinit const OpDef kAttentionMixTransposed = {
    .name = "attention_mix_transposed",
    .doc = "y[j, g] = the sum of p[r, h, c] x[r, h] where j is row r's key row at c, h in group g",
    .kind = OpKind::other,
    .linear_in = kEveryInput,
    .infer = infer_mix_transposed,
    .eval =
        [](const EvalCall& c) {
          if (c.out.numel() == 0) return;
          kernels::attention_mix_transposed(c.pool, c.in[0], c.in[1], tables(c, 2), c.out);
        },
    .vjp =
        [](const VjpCall& c) {
          const RowValues rows = row_values(c.in, 2);
          return Grads{attention_outer(c.in[1], c.grad, rows), attention_mix(c.in[0], c.grad, rows),
                       Value(), Value(), Value()};
        },
    .reach = reach_mix_transposed,
    .flops = flops_mix_family};
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

Value mask(const Value& scores, int query_axis, int key_axis, std::int64_t offset,
           SourceLine line) {
  const Visibility rule{axis_given(query_axis, scores.rank()), axis_given(key_axis, scores.rank()),
                        offset};
  return scores.builder().emit(kMask, {scores}, rule, line);
}
Value mask(const Value& scores, const Value& position, int query_axis, int key_axis,
           std::int64_t offset, SourceLine line) {
  const Visibility rule{axis_given(query_axis, scores.rank()), axis_given(key_axis, scores.rank()),
                        offset};
  return scores.builder().emit(kMask, {scores, position}, rule, line);
}
Value mask(const Value& scores, const Value& position, const Visibility& rule, SourceLine line) {
  Visibility given = rule;
  given.query_axis = axis_given(rule.query_axis, scores.rank());
  given.key_axis = axis_given(rule.key_axis, scores.rank());
  std::vector<Value> inputs{scores};
  if (position.defined()) inputs.push_back(position);
  return scores.builder().emit(kMask, inputs, given, line);
}
Value attention_scores(const Value& q, const Value& k, const RowValues& rows, double scale,
                       SourceLine line) {
  return q.builder().emit(kAttentionScores, {q, k, rows.sequence, rows.position, rows.keys},
                          ScoreScale{scale}, line);
}
Value attention_outer(const Value& q, const Value& k, const RowValues& rows, SourceLine line) {
  return q.builder().emit(kAttentionOuter, {q, k, rows.sequence, rows.position, rows.keys},
                          NoAttributes{}, line);
}
Value attention_mix(const Value& p, const Value& v, const RowValues& rows, SourceLine line) {
  return p.builder().emit(kAttentionMix, {p, v, rows.sequence, rows.position, rows.keys},
                          NoAttributes{}, line);
}
Value attention_mix_transposed(const Value& p, const Value& x, const RowValues& rows,
                               std::int64_t key_rows, SourceLine line) {
  return attention_mix_transposed(p, x, rows, key_rows, 1, line);
}
Value attention_mix_transposed(const Value& p, const Value& x, const RowValues& rows,
                               std::int64_t key_rows, std::int64_t group, SourceLine line) {
  return p.builder().emit(kAttentionMixTransposed, {p, x, rows.sequence, rows.position, rows.keys},
                          RowCount{key_rows, group}, line);
}
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
