// Loops over all weights of a model: bound by memory, so each array is read and written once.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "tensor/kernels_simd_training.cpp"
// After HWY_TARGET_INCLUDE.
#include "hwy/foreach_target.h"
// After foreach_target.h.
#include <cmath>

#include "hwy/highway.h"
#include "tensor/kernels_simd.h"

HWY_BEFORE_NAMESPACE();
namespace vitrine::simd {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// One vector of weights; D is a tag of one lane at the end of the array, which gives the same bits.
template <class D, class T>
HWY_INLINE void AdamWAt(D d, const AdamWStep& r, const T* w, const T* m, const T* v, const T* g,
                        T* w2, T* m2, T* v2) {
  const auto number = [&](double x) { return hn::Set(d, static_cast<T>(x)); };
  const auto gradient = hn::Mul(hn::LoadU(d, g), number(r.gradient_scale));
  const auto first =
      hn::MulAdd(number(r.beta1), hn::LoadU(d, m), hn::Mul(number(1 - r.beta1), gradient));
  const auto second = hn::MulAdd(number(r.beta2), hn::LoadU(d, v),
                                 hn::Mul(number(1 - r.beta2), hn::Mul(gradient, gradient)));
  const auto size = hn::MulAdd(hn::Sqrt(second), number(r.root), number(r.eps));
  const auto change = hn::Div(hn::Mul(number(r.step), first), size);
  hn::StoreU(hn::MulSub(number(r.keep), hn::LoadU(d, w), change), d, w2);
  hn::StoreU(first, d, m2);
  hn::StoreU(second, d, v2);
}

template <class T>
void AdamW(const AdamWStep& r, const T* w, const T* m, const T* v, const T* g, T* w2, T* m2, T* v2,
           std::int64_t n) {
  const hn::ScalableTag<T> d;
  const hn::CappedTag<T, 1> one;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  std::int64_t i = 0;
  for (; i + lanes <= n; i += lanes)
    AdamWAt(d, r, w + i, m + i, v + i, g + i, w2 + i, m2 + i, v2 + i);
  for (; i < n; ++i) AdamWAt(one, r, w + i, m + i, v + i, g + i, w2 + i, m2 + i, v2 + i);
}

HWY_INLINE auto LoadF64(const float* x) {
  const hn::ScalableTag<double> d;
  return hn::PromoteTo(d, hn::LoadU(hn::Rebind<float, decltype(d)>(), x));
}
HWY_INLINE auto LoadF64(const double* x) { return hn::LoadU(hn::ScalableTag<double>(), x); }

template <class T>
double SumSquares(const T* x, std::int64_t n) {
  const hn::ScalableTag<double> d;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  auto s0 = hn::Zero(d), s1 = s0, s2 = s0, s3 = s0;
  std::int64_t i = 0;
  for (; i + 4 * lanes <= n; i += 4 * lanes) {
    const auto a = LoadF64(x + i), b = LoadF64(x + i + lanes), c = LoadF64(x + i + 2 * lanes),
               e = LoadF64(x + i + 3 * lanes);
    s0 = hn::MulAdd(a, a, s0);
    s1 = hn::MulAdd(b, b, s1);
    s2 = hn::MulAdd(c, c, s2);
    s3 = hn::MulAdd(e, e, s3);
  }
  double sum = hn::GetLane(hn::SumOfLanes(d, hn::Add(hn::Add(s0, s1), hn::Add(s2, s3))));
  for (; i < n; ++i) sum += static_cast<double>(x[i]) * static_cast<double>(x[i]);
  return sum;
}

template <class T>
const Training<T>* TrainingTable() {
  static constexpr Training<T> table{AdamW<T>, SumSquares<T>};
  return &table;
}
const Training<float>* TrainingF32() { return TrainingTable<float>(); }
const Training<double>* TrainingF64() { return TrainingTable<double>(); }

// NOLINTNEXTLINE(google-readability-namespace-comments)
}  // namespace HWY_NAMESPACE
}  // namespace vitrine::simd
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace vitrine::simd {

HWY_EXPORT(TrainingF32);
HWY_EXPORT(TrainingF64);

template <>
const Training<float>& training<float>() {
  return *HWY_DYNAMIC_DISPATCH(TrainingF32)();
}
template <>
const Training<double>& training<double>() {
  return *HWY_DYNAMIC_DISPATCH(TrainingF64)();
}

}  // namespace vitrine::simd
#endif  // HWY_ONCE
