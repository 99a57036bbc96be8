// Masks over (query, key) axes: what a query may see of the keys, and the fact that says so.
#include <limits>

#include "autograd/graph/parts.h"
#include "autograd/ops/common.h"
#include "autograd/ops/row_tables.h"
#include "tensor/kernels/place.h"

namespace vitrine {

extern const OpDef kMask;  // its own gradient emits it again

namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

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

}  // namespace vitrine
