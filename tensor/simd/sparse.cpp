// Selection: which entries of a row are above a bar. Rows are long and few entries are, so the loop
// looks at a vector at a time and stores only what it finds.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "tensor/simd/sparse.cpp"
// After HWY_TARGET_INCLUDE.
#include "hwy/foreach_target.h"
// After foreach_target.h.
#include "hwy/highway.h"
#include "tensor/simd/simd.h"

HWY_BEFORE_NAMESPACE();
namespace vitrine::simd {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

template <class T>
std::int64_t AboveOneByOne(const T* h, const T* scale, const T* bar, T least, std::int32_t first,
                           std::int64_t n, T* scores, std::int32_t* index) {
  std::int64_t count = 0;
  for (std::int64_t i = 0; i < n; ++i) {
    const T score = h[i] * scale[i];
    if (!(score > bar[i] && score > least)) continue;
    scores[count] = score;
    index[count++] = first + static_cast<std::int32_t>(i);
  }
  return count;
}

std::int64_t Above(const float* h, const float* scale, const float* bar, float least,
                   std::int32_t first, std::int64_t n, float* scores, std::int32_t* index) {
  const hn::ScalableTag<float> d;
  const hn::RebindToSigned<decltype(d)> di;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  static_assert(HWY_MAX_BYTES / sizeof(float) <= Sparse<float>::kPadding);
  const auto lowest = hn::Set(d, least);
  std::int64_t count = 0, i = 0;
  for (; i + lanes <= n; i += lanes) {
    const auto score = hn::Mul(hn::LoadU(d, h + i), hn::LoadU(d, scale + i));
    const auto found = hn::And(hn::Gt(score, hn::LoadU(d, bar + i)), hn::Gt(score, lowest));
    if (hn::AllFalse(d, found)) continue;
    // To a register and then whole: some CPUs compress to memory at a hundredth of the speed.
    const auto number = hn::Iota(di, first + static_cast<std::int32_t>(i));
    hn::StoreU(hn::Compress(score, found), d, scores + count);
    hn::StoreU(hn::Compress(number, hn::RebindMask(di, found)), di, index + count);
    count += static_cast<std::int64_t>(hn::CountTrue(d, found));
  }
  return count + AboveOneByOne(h + i, scale + i, bar + i, least,
                               first + static_cast<std::int32_t>(i), n - i, scores + count,
                               index + count);
}

const Sparse<float>* SparseF32() {
  static constexpr Sparse<float> table{Above};
  return &table;
}
const Sparse<double>* SparseF64() {
  static constexpr Sparse<double> table{AboveOneByOne<double>};
  return &table;
}

// NOLINTNEXTLINE(google-readability-namespace-comments)
}  // namespace HWY_NAMESPACE
}  // namespace vitrine::simd
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace vitrine::simd {

HWY_EXPORT(SparseF32);
HWY_EXPORT(SparseF64);

template <>
const Sparse<float>& sparse<float>() {
  return *HWY_DYNAMIC_DISPATCH(SparseF32)();
}
template <>
const Sparse<double>& sparse<double>() {
  return *HWY_DYNAMIC_DISPATCH(SparseF64)();
}

}  // namespace vitrine::simd
#endif  // HWY_ONCE
