// Elementwise functions over contiguous spans: f32 and the simple f64 ones in SIMD, the other f64
// ones by the C library.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "tensor/simd/math.cpp"
// After HWY_TARGET_INCLUDE.
#include "hwy/foreach_target.h"
// After foreach_target.h.
#include "hwy/highway.h"
#include "tensor/simd/math-inl.h"
#include "tensor/simd/simd.h"

HWY_BEFORE_NAMESPACE();
namespace vitrine::simd {
namespace HWY_NAMESPACE {

using kernels::Binary;
using kernels::Unary;

// out[i] = f(x[i]). The tail goes through a buffer, padded with ones, because Highway may not read
// past the span.
template <class D, class F, class T>
HWY_INLINE void Map(D d, const F& f, const T* x, T* out, std::int64_t n) {
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  std::int64_t i = 0;
  for (; i + lanes <= n; i += lanes) hn::StoreU(f(d, hn::LoadU(d, x + i)), d, out + i);
  if (i == n) return;
  HWY_ALIGN T tail[HWY_MAX_BYTES / sizeof(T)];
  hn::Store(Const(d, 1), d, tail);
  for (std::int64_t j = i; j < n; ++j) tail[j - i] = x[j];
  hn::Store(f(d, hn::Load(d, tail)), d, tail);
  for (std::int64_t j = i; j < n; ++j) out[j] = tail[j - i];
}

// out[i] = f(a[i], b[i])
template <class F, class T>
HWY_INLINE void Map(const F& f, const T* a, const T* b, T* out, std::int64_t n) {
  const Tag<T> d;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  std::int64_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    hn::StoreU(f(d, hn::LoadU(d, a + i), hn::LoadU(d, b + i)), d, out + i);
  }
  if (i == n) return;
  HWY_ALIGN T left[HWY_MAX_BYTES / sizeof(T)], right[HWY_MAX_BYTES / sizeof(T)];
  hn::Store(Const(d, 1), d, left);
  hn::Store(Const(d, 1), d, right);
  for (std::int64_t j = i; j < n; ++j) left[j - i] = a[j], right[j - i] = b[j];
  hn::Store(f(d, hn::Load(d, left), hn::Load(d, right)), d, left);
  for (std::int64_t j = i; j < n; ++j) out[j] = left[j - i];
}

// A function of one or two vectors as a type: lambdas would not inherit the target attributes with
// every compiler.
#define VITRINE_UNARY(NAME, EXPRESSION)             \
  struct NAME {                                     \
    template <class D>                              \
    HWY_INLINE V<D> operator()(D d, V<D> x) const { \
      (void)d;                                      \
      return EXPRESSION;                            \
    }                                               \
  }
#define VITRINE_BINARY(NAME, EXPRESSION)                    \
  struct NAME {                                             \
    template <class D>                                      \
    HWY_INLINE V<D> operator()(D d, V<D> a, V<D> b) const { \
      (void)d;                                              \
      return EXPRESSION;                                    \
    }                                                       \
  }

VITRINE_UNARY(NegOp, hn::Neg(x));
VITRINE_UNARY(AbsOp, hn::Abs(x));
// +-1 with the sign of x; zeros and NaN stay themselves.
VITRINE_UNARY(SignOp,
              hn::IfThenElse(hn::Gt(hn::Abs(x), hn::Zero(d)), hn::CopySign(Const(d, 1), x), x));
VITRINE_UNARY(SquareOp, hn::Mul(x, x));
VITRINE_UNARY(SqrtOp, hn::Sqrt(x));
VITRINE_UNARY(RsqrtOp, hn::Div(Const(d, 1), hn::Sqrt(x)));
VITRINE_UNARY(ReciprocalOp, hn::Div(Const(d, 1), x));
VITRINE_UNARY(ReluOp, hn::IfThenElse(hn::Le(x, hn::Zero(d)), hn::Zero(d), x));  // NaN stays
VITRINE_UNARY(ExpOp, ExpFull(d, x));
VITRINE_UNARY(LogOp, LogFull(d, x));
VITRINE_UNARY(TanhOp, hn::Tanh(d, x));
VITRINE_UNARY(SigmoidOp, Sigmoid(d, x));

VITRINE_BINARY(AddOp, hn::Add(a, b));
VITRINE_BINARY(SubOp, hn::Sub(a, b));
VITRINE_BINARY(MulOp, hn::Mul(a, b));
VITRINE_BINARY(DivOp, hn::Div(a, b));
VITRINE_BINARY(MaximumOp, MaxOrNan(d, a, b));
VITRINE_BINARY(MinimumOp, MinOrNan(d, a, b));

// x sigmoid(x). Below -110 the sigmoid is exactly 0, where x itself may be infinite: keep 0 * inf
// away.
struct SiluOp {
  template <class D>
  HWY_INLINE V<D> operator()(D d, V<D> x) const {
    const V<D> bounded = Clamp(d, x, -110, std::numeric_limits<double>::infinity());
    return hn::Mul(bounded, Sigmoid(d, bounded));
  }
};

// ---- GELU, tanh form ----------------------------------------------------------------------------
// (1 + tanh u) / 2 = sigmoid(2u), so gelu(x) = x sigmoid(2u),
// where 2u = 2 sqrt(2/pi) (x + 0.044715 x^3).
constexpr double kTwoSqrtTwoOverPi = 1.5957691216057307117597842397375;
constexpr double kCubic = 0.044715;

template <class D>
HWY_INLINE V<D> GeluArgument(D d, V<D> x) {
  const V<D> factor =
      hn::MulAdd(Const(d, kTwoSqrtTwoOverPi * kCubic), hn::Mul(x, x), Const(d, kTwoSqrtTwoOverPi));
  return hn::Mul(x, factor);
}

struct GeluTanhOp {
  template <class D>
  HWY_INLINE V<D> operator()(D d, V<D> x) const {
    // The sigmoid is exactly 0 below -30, where x itself may be infinite: keep 0 * inf away.
    const V<D> bounded = Clamp(d, x, -30, std::numeric_limits<double>::infinity());
    return hn::Mul(bounded, Sigmoid(d, GeluArgument(d, bounded)));
  }
};

// s + x s (1 - s) d(2u)/dx
struct GeluTanhSlopeOp {
  template <class D>
  HWY_INLINE V<D> operator()(D d, V<D> x) const {
    const V<D> bounded = Clamp(d, x, -30, 30);  // the slope is 0 or 1 out there
    V<D> s_slope;
    const V<D> s = Sigmoid(d, GeluArgument(d, bounded), &s_slope);
    const V<D> inner = hn::MulAdd(Const(d, 3 * kTwoSqrtTwoOverPi * kCubic),
                                  hn::Mul(bounded, bounded), Const(d, kTwoSqrtTwoOverPi));
    return hn::MulAdd(hn::Mul(bounded, s_slope), inner, s);
  }
};

// ---- erf and the GELU built on it ---------------------------------------------------------------
// Evaluated in f64 lanes, so that only the final rounding to f32 remains. Two ranges:
//   |x| <= 1  erf(x) = x P(x^2)                          P of degree 8, relative error 1e-12
//   |x| > 1   erfc(x) = e^(-x^2) t Q(t), t = 1/(2 + x)   Q of degree 10, relative error 1e-10
// Coefficients: interpolation at Chebyshev nodes of series (P) and continued fraction (Q), in
// 50-digit arithmetic.
template <class D>
HWY_INLINE V<D> Polynomial(D d, V<D> x, const double* c, int degree) {
  V<D> y = hn::Set(d, c[degree]);
  for (int i = degree - 1; i >= 0; --i) y = hn::MulAdd(y, x, hn::Set(d, c[i]));
  return y;
}

constexpr double kErfP[] = {1.1283791670946768,    -0.3761263888963531,     0.11283791308604582,
                            -0.026866133235095593, 0.005223783477189248,    -0.0008542637997087229,
                            0.0001195656256820733, -1.3909340021874599e-05, 1.058938064107502e-06};
constexpr double kErfcQ[] = {0.5641914273461837, 1.1282467559490177,  1.978849275599781,
                             2.744141928857208,  3.587133012219526,   -7.495596178731214,
                             31.77620050982222,  -154.51316459631607, 312.31086044351275,
                             -291.5875358734597, 106.61674935348323};

// erf(|x|) and erfc(|x|), each without cancellation, for f64 lanes.
struct ErfPair {
  V<Tag<double>> erf, erfc;
};
HWY_INLINE ErfPair ErfOfAbs(V<Tag<double>> x) {
  const Tag<double> d;
  const auto one = hn::Set(d, 1.0);
  const auto z = hn::Abs(x);
  const auto z2 = hn::Mul(z, z);
  const auto small = hn::Mul(z, Polynomial(d, z2, kErfP, 8));
  const auto t = hn::Div(one, hn::Add(hn::Set(d, 2.0), z));
  const auto large = hn::Mul(ExpFull(d, hn::Neg(z2)), hn::Mul(t, Polynomial(d, t, kErfcQ, 10)));
  const auto is_small = hn::Le(z, one);
  return {hn::IfThenElse(is_small, small, hn::Sub(one, large)),
          hn::IfThenElse(is_small, hn::Sub(one, small), large)};
}

// The standard normal distribution function, erfc(-x / sqrt 2) / 2.
HWY_INLINE V<Tag<double>> NormalCdf(V<Tag<double>> x) {
  const Tag<double> d;
  const ErfPair pair = ErfOfAbs(hn::Mul(x, hn::Set(d, 0.70710678118654752440)));
  const auto half = hn::Set(d, 0.5);
  return hn::IfThenElse(hn::Lt(x, hn::Zero(d)), hn::Mul(half, pair.erfc),
                        hn::MulAdd(half, pair.erf, half));
}

HWY_INLINE V<Tag<double>> ErfF64(V<Tag<double>> x) { return hn::CopySign(ErfOfAbs(x).erf, x); }
// Phi(x) + x phi(x)
HWY_INLINE V<Tag<double>> GeluErfSlopeF64(V<Tag<double>> x) {
  const Tag<double> d;
  const auto bounded = Clamp(d, x, -40, 40);
  const auto exponent = hn::Mul(hn::Set(d, -0.5), hn::Mul(bounded, bounded));
  const auto density = hn::Mul(hn::Set(d, 0.39894228040143267794), ExpFull(d, exponent));
  return hn::MulAdd(bounded, density, NormalCdf(bounded));
}

// f(x) for f32 lanes through f64: half a vector of them fills a vector of f64.
using Narrow = hn::Rebind<float, Tag<double>>;
#define VITRINE_VIA_F64(NAME, FUNCTION)                                  \
  struct NAME {                                                          \
    HWY_INLINE V<Narrow> operator()(Narrow d, V<Narrow> x) const {       \
      return hn::DemoteTo(d, FUNCTION(hn::PromoteTo(Tag<double>(), x))); \
    }                                                                    \
  }
VITRINE_VIA_F64(ErfOp, ErfF64);
VITRINE_VIA_F64(NormalCdfOp, NormalCdf);
VITRINE_VIA_F64(GeluErfSlopeOp, GeluErfSlopeF64);

// x Phi(x), the product in f32: x may be infinite.
struct GeluErfOp {
  HWY_INLINE V<Narrow> operator()(Narrow d, V<Narrow> x) const {
    const V<Narrow> bounded = Clamp(d, x, -40, std::numeric_limits<double>::infinity());
    return hn::Mul(bounded, NormalCdfOp()(d, bounded));
  }
};

// ---- softcap ------------------------------------------------------------------------------------
struct SoftcapOp {
  float cap;
  template <class D>
  HWY_INLINE V<D> operator()(D d, V<D> x) const {
    const V<D> lowest = hn::Set(d, -std::numeric_limits<float>::infinity());
    const V<D> c = hn::Set(d, cap);
    return hn::IfThenElse(hn::Eq(x, lowest), x, hn::Mul(c, hn::Tanh(d, hn::Div(x, c))));
  }
};
void SoftcapSpan(const float* x, float cap, float* out, std::int64_t n) {
  Map(Tag<float>(), SoftcapOp{cap}, x, out, n);
}

// ---- tables -------------------------------------------------------------------------------------
// Functions without a SIMD loop here: sin and cos (argument reduction far from 0), and f64 beyond
// arithmetic.
template <class T>
void UnarySpan(Unary op, const T* x, T* out, std::int64_t n) {
  switch (op) {
    case Unary::neg:
      return Map(Tag<T>(), NegOp(), x, out, n);
    case Unary::abs:
      return Map(Tag<T>(), AbsOp(), x, out, n);
    case Unary::sign:
      return Map(Tag<T>(), SignOp(), x, out, n);
    case Unary::square:
      return Map(Tag<T>(), SquareOp(), x, out, n);
    case Unary::sqrt:
      return Map(Tag<T>(), SqrtOp(), x, out, n);
    case Unary::rsqrt:
      return Map(Tag<T>(), RsqrtOp(), x, out, n);
    case Unary::reciprocal:
      return Map(Tag<T>(), ReciprocalOp(), x, out, n);
    case Unary::relu:
      return Map(Tag<T>(), ReluOp(), x, out, n);
    default:
      break;
  }
  if constexpr (sizeof(T) == sizeof(float)) {
    switch (op) {
      case Unary::exp:
        return Map(Tag<T>(), ExpOp(), x, out, n);
      case Unary::log:
        return Map(Tag<T>(), LogOp(), x, out, n);
      case Unary::tanh:
        return Map(Tag<T>(), TanhOp(), x, out, n);
      case Unary::sigmoid:
        return Map(Tag<T>(), SigmoidOp(), x, out, n);
      case Unary::silu:
        return Map(Tag<T>(), SiluOp(), x, out, n);
      case Unary::gelu_tanh:
        return Map(Tag<T>(), GeluTanhOp(), x, out, n);
      case Unary::gelu_tanh_slope:
        return Map(Tag<T>(), GeluTanhSlopeOp(), x, out, n);
      case Unary::erf:
        return Map(Narrow(), ErfOp(), x, out, n);
      case Unary::gelu_erf:
        return Map(Narrow(), GeluErfOp(), x, out, n);
      case Unary::gelu_erf_slope:
        return Map(Narrow(), GeluErfSlopeOp(), x, out, n);
      default:
        break;
    }
  }
  scalar_unary(op, x, out, n);
}

template <class T>
void BinarySpan(Binary op, const T* a, const T* b, T* out, std::int64_t n) {
  switch (op) {
    case Binary::add:
      return Map(AddOp(), a, b, out, n);
    case Binary::sub:
      return Map(SubOp(), a, b, out, n);
    case Binary::mul:
      return Map(MulOp(), a, b, out, n);
    case Binary::div:
      return Map(DivOp(), a, b, out, n);
    case Binary::maximum:
      return Map(MaximumOp(), a, b, out, n);
    case Binary::minimum:
      return Map(MinimumOp(), a, b, out, n);
  }
}

const Elementwise<float>* ElementwiseF32() {
  static constexpr Elementwise<float> table{UnarySpan<float>, BinarySpan<float>, SoftcapSpan};
  return &table;
}
const Elementwise<double>* ElementwiseF64() {
  static constexpr Elementwise<double> table{UnarySpan<double>, BinarySpan<double>, scalar_softcap};
  return &table;
}

// NOLINTNEXTLINE(google-readability-namespace-comments)
}  // namespace HWY_NAMESPACE
}  // namespace vitrine::simd
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace vitrine::simd {

HWY_EXPORT(ElementwiseF32);
HWY_EXPORT(ElementwiseF64);

template <>
const Elementwise<float>& elementwise<float>() {
  return *HWY_DYNAMIC_DISPATCH(ElementwiseF32)();
}
template <>
const Elementwise<double>& elementwise<double>() {
  return *HWY_DYNAMIC_DISPATCH(ElementwiseF64)();
}

}  // namespace vitrine::simd
#endif  // HWY_ONCE
