// Softcap: numbers held between -cap and cap, smoothly (Bello et al. 2016); of attention scores and of
// logits.
#include <cmath>

#include "autograd/ops/common.h"
#include "tensor/kernels/kernels.h"

namespace vitrine {

extern constinit const OpDef kSoftcap = {
    .name = "softcap",
    .doc = "y = cap tanh(x / cap), -inf stays; dx = (1 - tanh(x / cap)^2) dy",
    .kind = OpKind::other,
    .nonlinear = Nonlinear::kept,
    .infer =
        [](const InferCall& c) {
          const double cap = c.as<SoftcapRule>().cap;
          require_float(c.in[0], "the input");
          require(cap > 0 && std::isfinite(cap), "the cap must be a number above 0, not {}", cap);
          return c.in[0];
        },
    .eval =
        [](const EvalCall& c) {
          kernels::softcap(c.pool, c.as<SoftcapRule>().cap, c.in[0], c.out);
        },
    .vjp =
        [](const VjpCall& c) {
          const Value t = tanh(c.in[0] * (1 / c.as<SoftcapRule>().cap));
          return Grads{c.grad * (1.0 - t * t)};
        },
    .reach = reach_elementwise,
    .flops = [](const InferCall&, const Type& out) { return 6 * numel(out.shape); },
    .fact = keep_fact,
    .in_place = OpDef::InPlace::any_input};

Value softcap(const Value& x, double cap, SourceLine line) {
  return x.builder().emit(kSoftcap, {x}, SoftcapRule{cap}, line);
}
}  // namespace vitrine
