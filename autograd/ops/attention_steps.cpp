// The steps of attention over row tables: scores, mix and their transposes. They are one family: the
// gradient of each is written with the others.
#include "autograd/ops/row_tables.h"

namespace vitrine {
namespace {

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

std::int64_t flops_pattern(const InferCall& c,
                           const Type&) {  // a multiply and an add per (row, head, key, e)
  return 2 * numel(c.in[0].shape) * c.in[4].shape[1];
}
std::int64_t flops_mix_family(const InferCall& c, const Type&) {
  return 2 * numel(c.in[0].shape) * c.in[1].shape[2];
}

}  // namespace

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

}  // namespace vitrine
