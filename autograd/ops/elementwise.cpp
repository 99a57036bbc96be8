// Elementwise ops: arithmetic, the usual functions, comparisons and select.
#include <cmath>

#include "autograd/ops/common.h"
#include "tensor/kernels/kernels.h"

namespace vitrine {
namespace {

using kernels::Binary;
using kernels::Compare;
using kernels::Logic;
using kernels::Unary;

// ---- shape rules ------------------------------------------------------------------------------
Type infer_unary(const InferCall& c) {
  require_float(c.in[0], "the input");
  return c.in[0];
}

Type infer_broadcast(const InferCall& c) {
  require_same_dtype(c.in[0], c.in[1]);
  const auto shape = broadcast_shapes(c.in[0].shape, c.in[1].shape);
  require(
      shape.has_value(),
      "shapes {} and {} do not broadcast: aligned from the right, each pair of axes must be equal "
      "or have a 1",
      to_string(c.in[0].shape), to_string(c.in[1].shape));
  return {c.in[0].dtype, *shape};
}

Type infer_binary(const InferCall& c) {
  require_float(c.in[0], "the left side");
  return infer_broadcast(c);
}

Type infer_compare(const InferCall& c) { return {DType::boolean, infer_broadcast(c).shape}; }

Type infer_order(const InferCall& c) {
  require(c.in[0].dtype != DType::boolean, "booleans have no order: use equal or logical_and");
  return infer_compare(c);
}

Type infer_logic(const InferCall& c) {
  for (const Type& t : c.in) {
    require(t.dtype == DType::boolean, "the inputs must be boolean, not {}", name_of(t.dtype));
  }
  return c.in.size() == 1 ? c.in[0] : infer_broadcast(c);
}

Type infer_select(const InferCall& c) {
  require(c.in[0].dtype == DType::boolean, "the mask must be boolean, not {}",
          name_of(c.in[0].dtype));
  require_same_dtype(c.in[1], c.in[2]);
  auto shape = broadcast_shapes(c.in[1].shape, c.in[2].shape);
  if (shape) shape = broadcast_shapes(*shape, c.in[0].shape);
  require(shape.has_value(), "mask {}, a {} and b {} do not broadcast", to_string(c.in[0].shape),
          to_string(c.in[1].shape), to_string(c.in[2].shape));
  return {c.in[1].dtype, *shape};
}

// ---- kernels ----------------------------------------------------------------------------------
template <Unary op>
void eval_unary(const EvalCall& c) {
  kernels::unary(c.pool, op, c.in[0], c.out);
}

template <Binary op>
void eval_binary(const EvalCall& c) {
  kernels::binary(c.pool, op, broadcast_view(c.in[0], c.out.shape),
                  broadcast_view(c.in[1], c.out.shape), c.out);
}
template <Compare op>
void eval_compare(const EvalCall& c) {
  kernels::compare(c.pool, op, broadcast_view(c.in[0], c.out.shape),
                   broadcast_view(c.in[1], c.out.shape), c.out);
}
template <Logic op>
void eval_logic(const EvalCall& c) {
  kernels::logic(c.pool, op, broadcast_view(c.in[0], c.out.shape),
                 broadcast_view(c.in[c.in.size() - 1], c.out.shape), c.out);
}

template <int per_element>
std::int64_t flops(const InferCall&, const Type& out) {
  return per_element * numel(out.shape);
}

// ---- rows of the table ------------------------------------------------------------------------
// What transformations have to know of a function of single elements.
struct Claim {
  OpKind kind = OpKind::other;
  std::uint32_t linear_in = 0;
  Nonlinear nonlinear = Nonlinear::refused;
};
constexpr Claim kFunction;                          // a nonlinear one without a policy
constexpr Claim kAffine{.linear_in = kEveryInput};  // -x, a + b; a b in each factor
constexpr Claim kActivation{.kind = OpKind::activation};
constexpr Claim kStepOfNorm{.nonlinear = Nonlinear::kept};  // of sqrt(mean(x^2) + eps), 1 / scale
constexpr Claim kQuotient{.linear_in = only_inputs({0}),
                          .nonlinear = Nonlinear::kept};  // x / scale

// The gradient of a unary op: x, y = f(x), g = d metric / dy.
struct OneGrad {
  Value x, y, g;
};
template <Value (*rule)(const OneGrad&)>
Grads unary_vjp(const VjpCall& c) {
  return {rule({c.in[0], c.out, c.grad})};
}

constexpr OpDef unary_op(std::string_view name, std::string_view doc, const Claim& claim,
                         void (*eval)(const EvalCall&), Grads (*vjp)(const VjpCall&),
                         std::int64_t (*count)(const InferCall&, const Type&),
                         Value (*expand)(const ExpandCall&) = nullptr,
                         Fact (*fact)(const ReachCall&) = nullptr) {
  return {.name = name,
          .doc = doc,
          .kind = claim.kind,
          .linear_in = claim.linear_in,
          .nonlinear = claim.nonlinear,
          .infer = infer_unary,
          .eval = eval,
          .vjp = vjp,
          .reach = reach_elementwise,
          .flops = count,
          .expand = expand,
          .fact = fact,
          .in_place = OpDef::InPlace::any_input};
}

constexpr double kSqrt2OverPi = 0.79788456080286535588;  // sqrt(2 / pi)
constexpr double kInvSqrt2 = 0.70710678118654752440;
constexpr double kInvSqrt2Pi = 0.39894228040143267794;  // 1 / sqrt(2 pi)
constexpr double kCubic = 0.044715;

Value gelu_inner(const Value& x) { return kSqrt2OverPi * (x + kCubic * x * x * x); }

// 0 stays 0 under these, so a fact about exact zeros survives them.
Fact keep_zero(const ReachCall& c) {
  return c.facts[0].kind == Fact::Kind::zero ? c.facts[0] : Fact{};
}
Fact keep_zero_product(const ReachCall& c) {
  for (std::size_t i = 0; i < 2; ++i) {
    if (c.facts[i].kind == Fact::Kind::zero && c.in[i].shape == c.out.shape) return c.facts[i];
  }
  return {};
}

Grads vjp_add(const VjpCall& c) {  // d(a+b) = da + db
  return {sum_to(c.grad, c.in[0].shape()), sum_to(c.grad, c.in[1].shape())};
}
Grads vjp_sub(const VjpCall& c) {
  return {sum_to(c.grad, c.in[0].shape()), -sum_to(c.grad, c.in[1].shape())};
}
Grads vjp_mul(const VjpCall& c) {  // d(ab) = b da + a db
  return {sum_to(c.grad * c.in[1], c.in[0].shape()), sum_to(c.grad * c.in[0], c.in[1].shape())};
}
Grads vjp_div(const VjpCall& c) {  // d(a/b) = da / b - (a/b) db / b
  const Value da = c.grad / c.in[1];
  return {sum_to(da, c.in[0].shape()), -sum_to(da * c.out, c.in[1].shape())};
}
template <bool want_max>
Grads vjp_extreme(const VjpCall& c) {  // the larger (smaller) side gets it, a on a tie
  const Value first = want_max ? less_equal(c.in[1], c.in[0]) : less_equal(c.in[0], c.in[1]);
  const Value zero = c.builder.scalar(0, c.grad.dtype());
  return {sum_to(select(first, c.grad, zero), c.in[0].shape()),
          sum_to(select(first, zero, c.grad), c.in[1].shape())};
}
Grads vjp_select(const VjpCall& c) {
  const Value zero = c.builder.scalar(0, c.grad.dtype());
  return {Value(), sum_to(select(c.in[0], c.grad, zero), c.in[1].shape()),
          sum_to(select(c.in[0], zero, c.grad), c.in[2].shape())};
}

constexpr OpDef binary_op(std::string_view name, std::string_view doc, const Claim& claim,
                          void (*eval)(const EvalCall&), Grads (*vjp)(const VjpCall&),
                          Fact (*fact)(const ReachCall&) = nullptr) {
  return {.name = name,
          .doc = doc,
          .kind = claim.kind,
          .linear_in = claim.linear_in,
          .nonlinear = claim.nonlinear,
          .infer = infer_binary,
          .eval = eval,
          .vjp = vjp,
          .reach = reach_elementwise,
          .flops = flops<1>,
          .fact = fact,
          .in_place = OpDef::InPlace::any_input};
}
constexpr OpDef truth_op(std::string_view name, std::string_view doc,
                         Type (*infer)(const InferCall&), void (*eval)(const EvalCall&)) {
  return {.name = name,
          .doc = doc,
          .kind = OpKind::other,
          .infer = infer,
          .eval = eval,
          .reach = reach_elementwise,
          .flops = flops<1>,
          .integer_only = true};
}

}  // namespace

// ---- unary ------------------------------------------------------------------------------------
extern constinit const OpDef kNeg =
    unary_op("neg", "y = -x", kAffine, eval_unary<Unary::neg>,
             unary_vjp<[](const OneGrad& d) { return -d.g; }>, flops<1>, nullptr, keep_zero);
extern constinit const OpDef kAbs = unary_op(
    "abs", "y = |x|; dx = sign(x) dy", kFunction, eval_unary<Unary::abs>,
    unary_vjp<[](const OneGrad& d) { return d.g * sign(d.x); }>, flops<1>, nullptr, keep_zero);
extern constinit const OpDef kSign =
    unary_op("sign", "y = -1, 0 or 1; dx = 0", kFunction, eval_unary<Unary::sign>,
             unary_vjp<[](const OneGrad&) { return Value(); }>, flops<1>, nullptr, keep_zero);
extern constinit const OpDef kSquare = unary_op(
    "square", "y = x^2; dx = 2 x dy", kStepOfNorm, eval_unary<Unary::square>,
    unary_vjp<[](const OneGrad& d) { return 2.0 * d.x * d.g; }>, flops<1>, nullptr, keep_zero);
extern constinit const OpDef kSqrt = unary_op(
    "sqrt", "y = sqrt(x); dx = dy / (2 y)", kStepOfNorm, eval_unary<Unary::sqrt>,
    unary_vjp<[](const OneGrad& d) { return 0.5 * d.g / d.y; }>, flops<1>, nullptr, keep_zero);
extern constinit const OpDef kRsqrt =
    unary_op("rsqrt", "y = 1 / sqrt(x); dx = -y^3 dy / 2", kStepOfNorm, eval_unary<Unary::rsqrt>,
             unary_vjp<[](const OneGrad& d) { return -0.5 * d.y * d.y * d.y * d.g; }>, flops<2>);
extern constinit const OpDef kReciprocal =
    unary_op("reciprocal", "y = 1 / x; dx = -y^2 dy", kStepOfNorm, eval_unary<Unary::reciprocal>,
             unary_vjp<[](const OneGrad& d) { return -(d.y * d.y * d.g); }>, flops<1>);
extern constinit const OpDef kExp =
    unary_op("exp", "y = e^x; dx = y dy", kFunction, eval_unary<Unary::exp>,
             unary_vjp<[](const OneGrad& d) { return d.y * d.g; }>, flops<4>, nullptr,
             [](const ReachCall& c) {  // e^-inf = 0
               Fact f = c.facts[0].kind == Fact::Kind::masked ? c.facts[0] : Fact{};
               if (f.kind == Fact::Kind::masked) f.kind = Fact::Kind::zero;
               return f;
             });
extern constinit const OpDef kLog =
    unary_op("log", "y = ln x; dx = dy / x", kFunction, eval_unary<Unary::log>,
             unary_vjp<[](const OneGrad& d) { return d.g / d.x; }>, flops<4>);
extern constinit const OpDef kSin = unary_op(
    "sin", "y = sin x; dx = cos(x) dy", kFunction, eval_unary<Unary::sin>,
    unary_vjp<[](const OneGrad& d) { return cos(d.x) * d.g; }>, flops<4>, nullptr, keep_zero);
extern constinit const OpDef kCos =
    unary_op("cos", "y = cos x; dx = -sin(x) dy", kFunction, eval_unary<Unary::cos>,
             unary_vjp<[](const OneGrad& d) { return -(sin(d.x) * d.g); }>, flops<4>);
extern constinit const OpDef kTanh =
    unary_op("tanh", "y = tanh x; dx = (1 - y^2) dy", kActivation, eval_unary<Unary::tanh>,
             unary_vjp<[](const OneGrad& d) { return d.g - d.y * d.y * d.g; }>, flops<4>, nullptr,
             keep_zero);
extern constinit const OpDef kErf = unary_op(
    "erf", "y = erf x; dx = 2/sqrt(pi) e^(-x^2) dy", kFunction, eval_unary<Unary::erf>,
    unary_vjp<[](const OneGrad& d) { return 1.12837916709551257390 * exp(-(d.x * d.x)) * d.g; }>,
    flops<8>, nullptr, keep_zero);
extern constinit const OpDef kSigmoid = unary_op(
    "sigmoid", "y = 1 / (1 + e^-x); dx = y (1 - y) dy", kActivation, eval_unary<Unary::sigmoid>,
    unary_vjp<[](const OneGrad& d) { return d.y * (1.0 - d.y) * d.g; }>, flops<5>);
extern constinit const OpDef kRelu =
    unary_op("relu", "y = max(x, 0); dx = dy where x > 0", kActivation, eval_unary<Unary::relu>,
             unary_vjp<[](const OneGrad& d) {
               const Value zero = d.x.builder().scalar(0, d.x.dtype());
               return select(less(zero, d.y), d.g, zero);  // y > 0 where x > 0
             }>,
             flops<1>, nullptr, keep_zero);
extern constinit const OpDef kSilu = unary_op(
    "silu", "y = x s, s = 1 / (1 + e^-x); dx = (s + y (1 - s)) dy  (Elfwing et al. 2018)",
    kActivation, eval_unary<Unary::silu>, unary_vjp<[](const OneGrad& d) {
      const Value s = sigmoid(d.x);
      return (s + d.y * (1.0 - s)) * d.g;
    }>,
    flops<6>, [](const ExpandCall& c) { return c.in[0] * sigmoid(c.in[0]); }, keep_zero);
extern constinit const OpDef kGeluTanh = unary_op(
    "gelu_tanh", "y = x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3)))  (Hendrycks & Gimpel 2016)",
    kActivation, eval_unary<Unary::gelu_tanh>,
    unary_vjp<[](const OneGrad& d) { return d.g * gelu_tanh_slope(d.x); }>, flops<10>,
    [](const ExpandCall& c) { return 0.5 * c.in[0] * (1.0 + tanh(gelu_inner(c.in[0]))); },
    keep_zero);
extern constinit const OpDef kGeluErf = unary_op(
    "gelu_erf", "y = x/2 (1 + erf(x / sqrt 2))", kActivation, eval_unary<Unary::gelu_erf>,
    unary_vjp<[](const OneGrad& d) { return d.g * gelu_erf_slope(d.x); }>, flops<10>,
    [](const ExpandCall& c) { return 0.5 * c.in[0] * (1.0 + erf(kInvSqrt2 * c.in[0])); },
    keep_zero);
extern constinit const OpDef kGeluTanhSlope = unary_op(
    "gelu_tanh_slope",
    "y = d gelu_tanh / dx = (1 + t)/2 + x/2 (1 - t^2) u',  t = tanh u,  u' = sqrt(2/pi) "
    "(1 + 3*0.044715 x^2)",
    kFunction, eval_unary<Unary::gelu_tanh_slope>, nullptr, flops<15>, [](const ExpandCall& c) {
      const Value x = c.in[0], t = tanh(gelu_inner(x));
      const Value du = kSqrt2OverPi * (1.0 + 3 * kCubic * x * x);
      return 0.5 * (1.0 + t) + 0.5 * x * (1.0 - t * t) * du;
    });
extern constinit const OpDef kGeluErfSlope = unary_op(
    "gelu_erf_slope", "y = d gelu_erf / dx = (1 + erf(x / sqrt 2))/2 + x e^(-x^2/2) / sqrt(2 pi)",
    kFunction, eval_unary<Unary::gelu_erf_slope>, nullptr, flops<15>, [](const ExpandCall& c) {
      const Value x = c.in[0];
      return 0.5 * (1.0 + erf(kInvSqrt2 * x)) + kInvSqrt2Pi * x * exp(-0.5 * x * x);
    });

// ---- softcap ----------------------------------------------------------------------------------
extern constinit const OpDef kSoftcap = {
    .name = "softcap",
    .doc = "y = cap tanh(x / cap), -inf stays; dx = (1 - tanh(x / cap)^2) dy",
    .kind = OpKind::other,
    .nonlinear = Nonlinear::kept,
    .infer =
        [](const InferCall& c) {
          const double cap = c.as<SoftcapRule>().cap;
          require(cap > 0 && std::isfinite(cap), "the cap must be a number above 0, not {}", cap);
          return infer_unary(c);
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
    .flops = flops<6>,
    .fact = keep_fact,
    .in_place = OpDef::InPlace::any_input};

// ---- binary -----------------------------------------------------------------------------------
extern constinit const OpDef kAdd =
    binary_op("add", "y = a + b", kAffine, eval_binary<Binary::add>, vjp_add);
extern constinit const OpDef kSub =
    binary_op("sub", "y = a - b", kAffine, eval_binary<Binary::sub>, vjp_sub);
extern constinit const OpDef kMul = binary_op("mul", "y = a b; da = b dy, db = a dy", kAffine,
                                              eval_binary<Binary::mul>, vjp_mul, keep_zero_product);
extern constinit const OpDef kDiv = binary_op("div", "y = a / b; da = dy / b, db = -y dy / b",
                                              kQuotient, eval_binary<Binary::div>, vjp_div);
extern constinit const OpDef kMaximum = binary_op("maximum", "y = max(a, b)", kFunction,
                                                  eval_binary<Binary::maximum>, vjp_extreme<true>);
extern constinit const OpDef kMinimum = binary_op("minimum", "y = min(a, b)", kFunction,
                                                  eval_binary<Binary::minimum>, vjp_extreme<false>);

// ---- truth ------------------------------------------------------------------------------------
extern constinit const OpDef kEqual =
    truth_op("equal", "y = (a == b)", infer_compare, eval_compare<Compare::equal>);
extern constinit const OpDef kLess =
    truth_op("less", "y = (a < b)", infer_order, eval_compare<Compare::less>);
extern constinit const OpDef kLessEqual =
    truth_op("less_equal", "y = (a <= b)", infer_order, eval_compare<Compare::less_equal>);
extern constinit const OpDef kLogicalAnd =
    truth_op("logical_and", "y = a and b", infer_logic, eval_logic<Logic::and_>);
extern constinit const OpDef kLogicalOr =
    truth_op("logical_or", "y = a or b", infer_logic, eval_logic<Logic::or_>);
extern constinit const OpDef kLogicalNot =
    truth_op("logical_not", "y = not a", infer_logic, eval_logic<Logic::not_>);
extern constinit const OpDef kSelect = {
    .name = "select",
    .doc = "y = mask ? a : b",
    .kind = OpKind::other,
    .linear_in = kEveryInput,
    .infer = infer_select,
    .eval =
        [](const EvalCall& c) {
          kernels::select(c.pool, broadcast_view(c.in[0], c.out.shape),
                          broadcast_view(c.in[1], c.out.shape),
                          broadcast_view(c.in[2], c.out.shape), c.out);
        },
    .vjp = vjp_select,
    .reach = reach_elementwise,
};

// ---- functions --------------------------------------------------------------------------------
#define VITRINE_UNARY(NAME, OP)                             \
  Value NAME(const Value& x, SourceLine line) {             \
    return x.builder().emit(OP, {x}, NoAttributes{}, line); \
  }
VITRINE_UNARY(neg, kNeg)
VITRINE_UNARY(abs, kAbs)
VITRINE_UNARY(sign, kSign)
VITRINE_UNARY(square, kSquare)
VITRINE_UNARY(sqrt, kSqrt)
VITRINE_UNARY(rsqrt, kRsqrt)
VITRINE_UNARY(reciprocal, kReciprocal)
VITRINE_UNARY(exp, kExp)
VITRINE_UNARY(log, kLog)
VITRINE_UNARY(sin, kSin)
VITRINE_UNARY(cos, kCos)
VITRINE_UNARY(tanh, kTanh)
VITRINE_UNARY(erf, kErf)
VITRINE_UNARY(sigmoid, kSigmoid)
VITRINE_UNARY(relu, kRelu)
VITRINE_UNARY(silu, kSilu)
VITRINE_UNARY(gelu_tanh, kGeluTanh)
VITRINE_UNARY(gelu_erf, kGeluErf)
VITRINE_UNARY(gelu_tanh_slope, kGeluTanhSlope)
VITRINE_UNARY(gelu_erf_slope, kGeluErfSlope)
VITRINE_UNARY(logical_not, kLogicalNot)
#undef VITRINE_UNARY

#define VITRINE_BINARY(NAME, OP)                                \
  Value NAME(const Value& a, const Value& b, SourceLine line) { \
    return a.builder().emit(OP, {a, b}, NoAttributes{}, line);  \
  }
VITRINE_BINARY(add, kAdd)
VITRINE_BINARY(sub, kSub)
VITRINE_BINARY(mul, kMul)
VITRINE_BINARY(div, kDiv)
VITRINE_BINARY(maximum, kMaximum)
VITRINE_BINARY(minimum, kMinimum)
VITRINE_BINARY(equal, kEqual)
VITRINE_BINARY(less, kLess)
VITRINE_BINARY(less_equal, kLessEqual)
VITRINE_BINARY(logical_and, kLogicalAnd)
VITRINE_BINARY(logical_or, kLogicalOr)
#undef VITRINE_BINARY

Value softcap(const Value& x, double cap, SourceLine line) {
  return x.builder().emit(kSoftcap, {x}, SoftcapRule{cap}, line);
}
Value select(const Value& mask, const Value& a, const Value& b, SourceLine line) {
  return mask.builder().emit(kSelect, {mask, a, b}, NoAttributes{}, line);
}

#define VITRINE_OPERATOR(SYMBOL, NAME)                                                  \
  Value operator SYMBOL(At a, At b) { return NAME(a.value, b.value, a.line); }          \
  Value operator SYMBOL(At a, double b) {                                               \
    return NAME(a.value, a.value.builder().scalar(b, a.value.dtype(), a.line), a.line); \
  }                                                                                     \
  Value operator SYMBOL(double a, At b) {                                               \
    return NAME(b.value.builder().scalar(a, b.value.dtype(), b.line), b.value, b.line); \
  }
VITRINE_OPERATOR(+, add)
VITRINE_OPERATOR(-, sub)
VITRINE_OPERATOR(*, mul)
VITRINE_OPERATOR(/, div)
#undef VITRINE_OPERATOR
Value operator-(At x) { return neg(x.value, x.line); }

}  // namespace vitrine
