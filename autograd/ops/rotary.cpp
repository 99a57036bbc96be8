// Rotary position embedding: what tells a query how far away a key is, where a model adds no
// positions to the residual stream.
#include "autograd/graph/parts.h"
#include "autograd/ops/common.h"
#include "autograd/ops/op_table.h"
#include "tensor/kernels/kernels.h"

namespace vitrine {
namespace {

// Inputs: x [rows, head, e], position i32 [rows] -> like x
Type infer_rotary(const InferCall& c) {
  const Type &x = c.in[0], &position = c.in[1];
  const auto n = static_cast<std::int64_t>(2 * c.as<RotaryRule>().inverse.size());
  require_float(x, "x");
  require(x.shape.size() == 3, "x must be [rows, head, e], not {}", to_string(x.shape));
  require(position == Type{DType::i32, {x.shape[0]}},
          "the position table must be i32[{}], one entry for each row, not {}", x.shape[0],
          to_string(position));
  require(n <= x.shape[2], "the rule turns {} entries of each head, but a head has {}", n,
          x.shape[2]);
  return x;
}

// The transpose of a rotation is the rotation back.
Grads vjp_rotary(const VjpCall& c) {
  RotaryRule back = c.as<RotaryRule>();
  for (double& frequency : back.inverse) frequency = -frequency;
  return {rotary(c.grad, c.in[1], back), Value()};
}

}  // namespace

extern constinit const OpDef kRotary = {
    .name = "rotary",
    .doc =
        "y = (a cos - b sin, b cos + a sin, rest) of x = (a, b, rest) and the angles position * "
        "inverse frequency, per head  (Su et al. 2021)",
    .kind = OpKind::other,
    .linear_in = only_inputs({0}),
    .infer = infer_rotary,
    .eval =
        [](const EvalCall& c) {
          const RotaryRule& rule = c.as<RotaryRule>();
          kernels::rotary(c.pool, c.in[0], c.in[1], rule.inverse, rule.scale, c.out);
        },
    .vjp = vjp_rotary,
    .reach =
        [](const ReachCall&) {
          return Reach{{.links = {same_axis(0, 0), same_axis(1, 1)}}, {.links = {same_axis(0, 0)}}};
        },
    // A head of a row reads the position of that row.
    .parts = [](const ReachCall&, int) -> std::optional<InputParts> {
      return InputParts{InputPart::same, InputPart::same};
    },
    .flops =
        [](const InferCall& c, const Type& out) {
          const auto pairs = static_cast<std::int64_t>(c.as<RotaryRule>().inverse.size());
          return 6 * pairs * out.shape[0] * out.shape[1];
        },
    .in_place = OpDef::InPlace::first_input};

Value rotary(const Value& x, const Value& position, const RotaryRule& rule, SourceLine line) {
  return x.builder().emit(kRotary, {x, position}, rule, line);
}

}  // namespace vitrine
