// The most that this CPU can do: multiply-adds that touch nothing but registers, and reading memory
// without doing anything with it. Rates of real work are compared with these.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "tensor/simd/peak.cpp"
// After HWY_TARGET_INCLUDE.
#include "hwy/foreach_target.h"
// After foreach_target.h.
#include "hwy/highway.h"
#include "tensor/simd/simd.h"

HWY_BEFORE_NAMESPACE();
namespace vitrine::simd {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using F32 = hn::ScalableTag<float>;

#undef VITRINE_UNROLL
#if defined(__GNUC__) && !defined(__clang__)
#define VITRINE_UNROLL _Pragma("GCC unroll 32")
#else
#define VITRINE_UNROLL
#endif

// A multiply-add takes 4 or 5 cycles and a core starts 2 in each (up to 4 on Arm): this many
// independent ones keep it busy. With the two operands they fit 16 registers (32 on Arm).
constexpr int kChains = HWY_ARCH_ARM ? 20 : 12;
constexpr int kStreams = 4;
constexpr std::int64_t kPage = 1024;  // 4 KB of floats

std::int64_t FlopsPerRound() { return 2 * kChains * static_cast<std::int64_t>(hn::Lanes(F32())); }

float MultiplyAdds(std::int64_t rounds, float factor) {
  const F32 d;
  hn::Vec<F32> acc[kChains];
  VITRINE_UNROLL
  for (int c = 0; c < kChains; ++c) acc[c] = hn::Set(d, static_cast<float>(c));
  // x = factor x + (1 - factor) stays near 1: neither infinite nor denormal.
  const auto x = hn::Set(d, factor), y = hn::Set(d, 1 - factor);
  for (std::int64_t i = 0; i < rounds; ++i) {
    VITRINE_UNROLL
    for (int c = 0; c < kChains; ++c) acc[c] = hn::MulAdd(acc[c], x, y);
  }
  auto sum = acc[0];
  VITRINE_UNROLL
  for (int c = 1; c < kChains; ++c) sum = hn::Add(sum, acc[c]);
  return hn::GetLane(hn::SumOfLanes(d, sum));
}

// kStreams pages side by side: the hardware fetches ahead within pages, and several at once.
float Read(const float* x, std::int64_t n) {
  const F32 d;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  hn::Vec<F32> acc[kStreams];
  VITRINE_UNROLL
  for (int s = 0; s < kStreams; ++s) acc[s] = hn::Zero(d);
  std::int64_t i = 0;
  for (; i + kStreams * kPage <= n; i += kStreams * kPage) {
    for (std::int64_t j = 0; j < kPage; j += lanes) {
      VITRINE_UNROLL
      for (int s = 0; s < kStreams; ++s) {
        acc[s] = hn::Add(acc[s], hn::LoadU(d, x + i + s * kPage + j));
      }
    }
  }
  auto sum = acc[0];
  VITRINE_UNROLL
  for (int s = 1; s < kStreams; ++s) sum = hn::Add(sum, acc[s]);
  float total = hn::GetLane(hn::SumOfLanes(d, sum));
  for (; i < n; ++i) total += x[i];
  return total;
}

const PeakLoops* PeakTable() {
  static const PeakLoops table{hwy::TargetName(HWY_TARGET), FlopsPerRound(), MultiplyAdds, Read};
  return &table;
}

// NOLINTNEXTLINE(google-readability-namespace-comments)
}  // namespace HWY_NAMESPACE
}  // namespace vitrine::simd
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace vitrine::simd {

HWY_EXPORT(PeakTable);

const PeakLoops& peak() { return *HWY_DYNAMIC_DISPATCH(PeakTable)(); }

}  // namespace vitrine::simd
#endif  // HWY_ONCE
