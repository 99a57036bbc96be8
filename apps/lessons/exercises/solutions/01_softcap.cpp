// A solution of exercise 1, of many.
#include <cmath>

#include "apps/lessons/exercises/01_softcap.h"
#include "autograd/ops/common.h"

namespace vitrine::exercise {

const OpDef kMySoftcap = {
    .name = "my_softcap",
    .doc = "y = cap tanh(x / cap); dx = (1 - tanh(x / cap)^2) dy",
    .kind = OpKind::activation,
    .infer =
        [](const InferCall& c) {
          require_float(c.in[0], "the input");
          return c.in[0];
        },
    .eval =
        [](const EvalCall& c) {
          const double cap = c.as<SoftcapRule>().cap;
          const double* x = c.in[0].as<const double>();
          double* y = c.out.as<double>();
          for (std::int64_t i = 0; i < c.out.numel(); ++i) y[i] = cap * std::tanh(x[i] / cap);
        },
    .vjp =
        [](const VjpCall& c) {  // d tanh(u) / du = 1 - tanh(u)^2, and u = x / cap
          const Value t = tanh(c.in[0] / c.as<SoftcapRule>().cap);
          return Grads{c.grad * (1.0 - t * t)};
        },
    .reach = reach_elementwise,
};

}  // namespace vitrine::exercise
