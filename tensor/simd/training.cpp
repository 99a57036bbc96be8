// Loops over all weights of a model: bound by memory, so each array is read and written once. And
// dropout, which draws its mask as it goes.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "tensor/simd/training.cpp"
// After HWY_TARGET_INCLUDE.
#include "hwy/foreach_target.h"
// After foreach_target.h.
#include <cmath>

#include "hwy/highway.h"
#include "tensor/simd/simd.h"

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

// ---- dropout ----------------------------------------------------------------------------------
// The low half of each 64-bit lane times a 32-bit factor.
template <class V>
HWY_INLINE V TimesLow(V x, std::uint32_t factor) {
  const hn::ScalableTag<std::uint64_t> d;
#if HWY_TARGET == HWY_SCALAR  // has no half lanes
  return hn::Set(d, (hn::GetLane(x) & 0xffffffff) * factor);
#else
  const hn::Repartition<std::uint32_t, decltype(d)> half;
  return hn::MulEven(hn::BitCast(half, x), hn::Set(half, factor));
#endif
}

// Words [0, 4 blocks) of the Philox stream from block `first` on: random::philox, a block in each
// 64-bit lane. `blocks` is rounded up to whole vectors; `out` has room for them.
HWY_INLINE void Philox(std::uint64_t key, std::uint64_t first, std::uint64_t* out,
                       std::int64_t blocks) {
  const hn::ScalableTag<std::uint64_t> d;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  const auto word = hn::Set(d, 0xffffffff);
  for (std::int64_t i = 0; i < blocks; i += lanes) {
    // A word is the low half of its lane; what lies above it does not matter until the end.
    auto c0 = hn::Iota(d, first + static_cast<std::uint64_t>(i));
    auto c1 = hn::ShiftRight<32>(c0), c2 = hn::Zero(d), c3 = c2;
    auto low = static_cast<std::uint32_t>(key), high = static_cast<std::uint32_t>(key >> 32);
    for (int round = 0; round < 10; ++round) {
      const auto a = TimesLow(c0, 0xD2511F53);
      const auto b = TimesLow(c2, 0xCD9E8D57);
      c0 = hn::Xor(hn::Xor(hn::ShiftRight<32>(b), c1), hn::Set(d, std::uint64_t{low}));
      c2 = hn::Xor(hn::Xor(hn::ShiftRight<32>(a), c3), hn::Set(d, std::uint64_t{high}));
      c1 = b;
      c3 = a;
      low += 0x9E3779B9;
      high += 0xBB67AE85;
    }
    hn::StoreInterleaved2(hn::Or(hn::And(c0, word), hn::ShiftLeft<32>(c1)),
                          hn::Or(hn::And(c2, word), hn::ShiftLeft<32>(c3)), d, out + 2 * i);
  }
}

// The words as wide as the elements they decide on.
HWY_INLINE auto LoadWords(hn::ScalableTag<float>, const std::uint32_t* words) {
  return hn::LoadU(hn::ScalableTag<std::uint32_t>(), words);
}
HWY_INLINE auto LoadWords(hn::ScalableTag<double>, const std::uint32_t* words) {
  const hn::ScalableTag<std::uint64_t> d;
  return hn::PromoteTo(d, hn::LoadU(hn::Rebind<std::uint32_t, decltype(d)>(), words));
}

template <class T>
void Dropout(const DropStep& step, std::uint64_t block, const T* x, T* y, std::int64_t n) {
  constexpr std::int64_t kBlocks = 64;  // at a time: 256 words
  const hn::ScalableTag<T> d;
  const hn::RebindToUnsigned<decltype(d)> whole;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  const auto scale = static_cast<T>(step.scale);
  const auto bound = hn::Set(whole, step.below);
  HWY_ALIGN std::uint64_t pairs[2 * kBlocks];
  HWY_ALIGN std::uint32_t words[4 * kBlocks];
  for (std::int64_t at = 0; at < n; at += 4 * kBlocks) {
    const std::int64_t count = n - at < 4 * kBlocks ? n - at : 4 * kBlocks;
    Philox(step.key, block + static_cast<std::uint64_t>(at) / 4, pairs, (count + 3) / 4);
    hwy::CopyBytes<sizeof(pairs)>(pairs, words);  // little endian: low words first
    std::int64_t i = 0;
    for (; i + lanes <= count; i += lanes) {
      const auto drop = hn::RebindMask(d, hn::Lt(LoadWords(d, words + i), bound));
      const auto kept = hn::Mul(hn::LoadU(d, x + at + i), hn::Set(d, scale));
      hn::StoreU(hn::IfThenZeroElse(drop, kept), d, y + at + i);
    }
    for (; i < count; ++i) y[at + i] = words[i] < step.below ? T{0} : x[at + i] * scale;
  }
}

template <class T>
const Training<T>* TrainingTable() {
  static constexpr Training<T> table{AdamW<T>, SumSquares<T>, Dropout<T>};
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
