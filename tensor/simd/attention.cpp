// Attention's inner loops: one query row of one head against rows of a key or value table, picked
// by index.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "tensor/simd/attention.cpp"
// After HWY_TARGET_INCLUDE.
#include "hwy/foreach_target.h"
// After foreach_target.h.
#include "hwy/highway.h"
#include "tensor/simd/simd.h"

HWY_BEFORE_NAMESPACE();
namespace vitrine::simd {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// A head has 64 entries in every GPT-2, four vectors of 16 floats: four accumulators hide the
// latency of a fused multiply-add and keep a whole head in registers.
template <class T>
HWY_INLINE T Dot(const T* a, const T* b, std::int64_t e) {
  const hn::ScalableTag<T> d;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  auto s0 = hn::Zero(d), s1 = s0, s2 = s0, s3 = s0;
  std::int64_t i = 0;
  for (; i + 4 * lanes <= e; i += 4 * lanes) {
    s0 = hn::MulAdd(hn::LoadU(d, a + i), hn::LoadU(d, b + i), s0);
    s1 = hn::MulAdd(hn::LoadU(d, a + i + lanes), hn::LoadU(d, b + i + lanes), s1);
    s2 = hn::MulAdd(hn::LoadU(d, a + i + 2 * lanes), hn::LoadU(d, b + i + 2 * lanes), s2);
    s3 = hn::MulAdd(hn::LoadU(d, a + i + 3 * lanes), hn::LoadU(d, b + i + 3 * lanes), s3);
  }
  for (; i + lanes <= e; i += lanes) s0 = hn::MulAdd(hn::LoadU(d, a + i), hn::LoadU(d, b + i), s0);
  T sum = hn::GetLane(hn::SumOfLanes(d, hn::Add(hn::Add(s0, s1), hn::Add(s2, s3))));
  for (; i < e; ++i) sum += a[i] * b[i];
  return sum;
}

template <class T>
void Scores(const T* q, const T* table, std::int64_t stride, const std::int32_t* rows,
            std::int64_t count, std::int64_t e, T scale, T* out) {
  for (std::int64_t i = 0; i < count; ++i) out[i] = scale * Dot(q, table + rows[i] * stride, e);
}

// out[0, kVectors * lanes) = sum_i p[i] * table[rows[i]], the sums held in registers; with kMore,
// they go on from what out holds.
template <int kVectors, bool kMore, class T>
HWY_INLINE void MixBlock(const T* p, const T* table, std::int64_t stride, const std::int32_t* rows,
                         std::int64_t count, T* out) {
  const hn::ScalableTag<T> d;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  auto s0 = hn::Zero(d), s1 = s0, s2 = s0, s3 = s0, s4 = s0, s5 = s0, s6 = s0, s7 = s0;
  if constexpr (kMore) {
    s0 = hn::LoadU(d, out);
    if constexpr (kVectors > 1) s1 = hn::LoadU(d, out + lanes);
    if constexpr (kVectors > 2) s2 = hn::LoadU(d, out + 2 * lanes);
    if constexpr (kVectors > 3) s3 = hn::LoadU(d, out + 3 * lanes);
    if constexpr (kVectors > 4) s4 = hn::LoadU(d, out + 4 * lanes);
    if constexpr (kVectors > 5) s5 = hn::LoadU(d, out + 5 * lanes);
    if constexpr (kVectors > 6) s6 = hn::LoadU(d, out + 6 * lanes);
    if constexpr (kVectors > 7) s7 = hn::LoadU(d, out + 7 * lanes);
  }
  for (std::int64_t i = 0; i < count; ++i) {
    const T* row = table + rows[i] * stride;
    const auto weight = hn::Set(d, p[i]);
    s0 = hn::MulAdd(weight, hn::LoadU(d, row), s0);
    if constexpr (kVectors > 1) s1 = hn::MulAdd(weight, hn::LoadU(d, row + lanes), s1);
    if constexpr (kVectors > 2) s2 = hn::MulAdd(weight, hn::LoadU(d, row + 2 * lanes), s2);
    if constexpr (kVectors > 3) s3 = hn::MulAdd(weight, hn::LoadU(d, row + 3 * lanes), s3);
    if constexpr (kVectors > 4) s4 = hn::MulAdd(weight, hn::LoadU(d, row + 4 * lanes), s4);
    if constexpr (kVectors > 5) s5 = hn::MulAdd(weight, hn::LoadU(d, row + 5 * lanes), s5);
    if constexpr (kVectors > 6) s6 = hn::MulAdd(weight, hn::LoadU(d, row + 6 * lanes), s6);
    if constexpr (kVectors > 7) s7 = hn::MulAdd(weight, hn::LoadU(d, row + 7 * lanes), s7);
  }
  hn::StoreU(s0, d, out);
  if constexpr (kVectors > 1) hn::StoreU(s1, d, out + lanes);
  if constexpr (kVectors > 2) hn::StoreU(s2, d, out + 2 * lanes);
  if constexpr (kVectors > 3) hn::StoreU(s3, d, out + 3 * lanes);
  if constexpr (kVectors > 4) hn::StoreU(s4, d, out + 4 * lanes);
  if constexpr (kVectors > 5) hn::StoreU(s5, d, out + 5 * lanes);
  if constexpr (kVectors > 6) hn::StoreU(s6, d, out + 6 * lanes);
  if constexpr (kVectors > 7) hn::StoreU(s7, d, out + 7 * lanes);
}

template <bool kMore, class T>
void MixRows(const T* p, const T* table, std::int64_t stride, const std::int32_t* rows,
             std::int64_t count, std::int64_t e, T* out) {
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(hn::ScalableTag<T>()));
  std::int64_t c = 0;
  for (; c + 8 * lanes <= e; c += 8 * lanes)
    MixBlock<8, kMore>(p, table + c, stride, rows, count, out + c);
  for (; c + 4 * lanes <= e; c += 4 * lanes)
    MixBlock<4, kMore>(p, table + c, stride, rows, count, out + c);
  for (; c + lanes <= e; c += lanes) MixBlock<1, kMore>(p, table + c, stride, rows, count, out + c);
  for (; c < e; ++c) {
    T sum = kMore ? out[c] : 0;
    for (std::int64_t i = 0; i < count; ++i) sum += p[i] * table[rows[i] * stride + c];
    out[c] = sum;
  }
}

template <class T>
void Mix(const T* p, const T* table, std::int64_t stride, const std::int32_t* rows,
         std::int64_t count, std::int64_t e, T* out) {
  MixRows<false>(p, table, stride, rows, count, e, out);
}
template <class T>
void MixMore(const T* p, const T* table, std::int64_t stride, const std::int32_t* rows,
             std::int64_t count, std::int64_t e, T* out) {
  MixRows<true>(p, table, stride, rows, count, e, out);
}

template <class T>
void Spread(const T* p, const T* x, const std::int32_t* rows, std::int64_t count, std::int64_t e,
            T* table, std::int64_t stride) {
  const hn::ScalableTag<T> d;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  for (std::int64_t i = 0; i < count; ++i) {
    T* row = table + rows[i] * stride;
    const auto weight = hn::Set(d, p[i]);
    std::int64_t c = 0;
    for (; c + lanes <= e; c += lanes) {
      hn::StoreU(hn::MulAdd(weight, hn::LoadU(d, x + c), hn::LoadU(d, row + c)), d, row + c);
    }
    for (; c < e; ++c) row[c] += p[i] * x[c];
  }
}

template <class T>
void Rotate(const T* x, const T* cosine, const T* sine, T* out, std::int64_t n) {
  const hn::ScalableTag<T> d;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  std::int64_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    const auto a = hn::LoadU(d, x + i), b = hn::LoadU(d, x + n + i);
    const auto c = hn::LoadU(d, cosine + i), s = hn::LoadU(d, sine + i);
    hn::StoreU(hn::NegMulAdd(b, s, hn::Mul(a, c)), d, out + i);
    hn::StoreU(hn::MulAdd(a, s, hn::Mul(b, c)), d, out + n + i);
  }
  for (; i < n; ++i) {
    const T a = x[i], b = x[n + i];
    out[i] = a * cosine[i] - b * sine[i];
    out[n + i] = b * cosine[i] + a * sine[i];
  }
}

template <class T>
const Attention<T>* AttentionTable() {
  static constexpr Attention<T> table{Scores<T>, Mix<T>, MixMore<T>, Spread<T>, Rotate<T>};
  return &table;
}
const Attention<float>* AttentionF32() { return AttentionTable<float>(); }
const Attention<double>* AttentionF64() { return AttentionTable<double>(); }

// NOLINTNEXTLINE(google-readability-namespace-comments)
}  // namespace HWY_NAMESPACE
}  // namespace vitrine::simd
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace vitrine::simd {

HWY_EXPORT(AttentionF32);
HWY_EXPORT(AttentionF64);

template <>
const Attention<float>& attention<float>() {
  return *HWY_DYNAMIC_DISPATCH(AttentionF32)();
}
template <>
const Attention<double>& attention<double>() {
  return *HWY_DYNAMIC_DISPATCH(AttentionF64)();
}

}  // namespace vitrine::simd
#endif  // HWY_ONCE
