// exp and friends for whole vectors with the edges that C's math library has: Highway's own Exp and
// Log leave NaN and the infinities undefined. Included once per CPU target by the
// files of simd/, hence the unusual include guard.
#include "hwy/highway.h"
// After highway.h.
#include "hwy/contrib/math/math-inl.h"

#if defined(VITRINE_TENSOR_KERNELS_SIMD_MATH_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef VITRINE_TENSOR_KERNELS_SIMD_MATH_INL_H_
#undef VITRINE_TENSOR_KERNELS_SIMD_MATH_INL_H_
#else
#define VITRINE_TENSOR_KERNELS_SIMD_MATH_INL_H_
#endif

#include <limits>

HWY_BEFORE_NAMESPACE();
namespace vitrine::simd {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

template <class T>
using Tag = hn::ScalableTag<T>;
template <class D>
using V = hn::Vec<D>;
template <class D>
using Scalar = hn::TFromD<D>;

template <class D>
HWY_INLINE V<D> Const(D d, double value) {
  return hn::Set(d, static_cast<Scalar<D>>(value));
}

template <class D>
HWY_INLINE auto IsNan(D, V<D> x) {
  return hn::IsNaN(x);  // Ne(x, x) is an ordered comparison on some targets: false for NaN
}

// max(a, b), NaN if either is: the x86 instruction alone would return b.
template <class D>
HWY_INLINE V<D> MaxOrNan(D d, V<D> a, V<D> b) {
  return hn::IfThenElse(IsNan(d, a), a, hn::IfThenElse(hn::Gt(a, b), a, b));
}

template <class D>
HWY_INLINE V<D> MinOrNan(D d, V<D> a, V<D> b) {
  return hn::IfThenElse(IsNan(d, a), a, hn::IfThenElse(hn::Lt(a, b), a, b));
}

// x brought into [low, high]; NaN stays.
template <class D>
HWY_INLINE V<D> Clamp(D d, V<D> x, double low, double high) {
  const V<D> lo = Const(d, low), hi = Const(d, high);
  return hn::IfThenElse(hn::Lt(x, lo), lo, hn::IfThenElse(hn::Gt(x, hi), hi, x));
}

// e^x: 0 below the smallest subnormal, inf above the largest finite value, NaN for NaN.
template <class D>
HWY_INLINE V<D> ExpFull(D d, V<D> x) {
  using T = Scalar<D>;
  // The largest x whose exponential is finite.
  const double top = sizeof(T) == 4 ? 88.72283172607421875 : 709.782712893383973096;
  const V<D> y = hn::Exp(d, x);
  const V<D> inf = hn::Set(d, std::numeric_limits<T>::infinity());
  return hn::IfThenElse(IsNan(d, x), x, hn::IfThenElse(hn::Gt(x, Const(d, top)), inf, y));
}

// ln x: -inf at 0, NaN below, inf at inf. Subnormals are fine.
template <class D>
HWY_INLINE V<D> LogFull(D d, V<D> x) {
  using T = Scalar<D>;
  const V<D> zero = hn::Zero(d);
  const V<D> inf = hn::Set(d, std::numeric_limits<T>::infinity());
  const V<D> nan = hn::Set(d, std::numeric_limits<T>::quiet_NaN());
  V<D> y = hn::Log(d, x);
  y = hn::IfThenElse(hn::Eq(x, inf), inf, y);
  y = hn::IfThenElse(hn::Eq(x, zero), hn::Neg(inf), y);
  y = hn::IfThenElse(hn::Lt(x, zero), nan, y);
  return hn::IfThenElse(IsNan(d, x), x, y);
}

// 1 / (1 + e^-x) with the exponential of -|x|, which cannot overflow. `slope` receives s (1 - s)
// without cancellation.
template <class D>
HWY_INLINE V<D> Sigmoid(D d, V<D> x, V<D>* slope = nullptr) {
  const V<D> one = Const(d, 1);
  const V<D> e = ExpFull(d, hn::Neg(hn::Abs(x)));
  const V<D> r = hn::Div(one, hn::Add(one, e));
  if (slope != nullptr) *slope = hn::Mul(hn::Mul(e, r), r);
  return hn::IfThenElse(hn::Lt(x, hn::Zero(d)), hn::Mul(e, r), r);
}

// NOLINTNEXTLINE(google-readability-namespace-comments)
}  // namespace HWY_NAMESPACE
}  // namespace vitrine::simd
HWY_AFTER_NAMESPACE();

#endif  // include guard
