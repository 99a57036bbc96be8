// Products of a few rows with a large matrix. They are bound by reading the matrix once;
// packing it first would cost as much again. Here it is read in place.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "tensor/simd/skinny.cpp"
// After HWY_TARGET_INCLUDE.
#include "hwy/foreach_target.h"
// After foreach_target.h.
#include "hwy/highway.h"
#include "tensor/simd/simd.h"
#include "tensor/simd/skinny-inl.h"

HWY_BEFORE_NAMESPACE();
namespace vitrine::simd {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

template <class T>
void Spread(const T* at, std::int64_t m, const T* b, std::int64_t ldb, std::int64_t k,
            std::int64_t n, T* out, std::int64_t ldo) {
  SpreadOf(at, m, Plain<T>{b, ldb}, k, n, out, ldo);
}

template <class T>
const Skinny<T>* SkinnyTable() {
  static constexpr Skinny<T> table{kManyRegisters ? 96 : 32,
                               96,
                               kDotRowsAtMost,
                               SideBySide<T, T>,
                               Dots<T, T>,
                               TurnedSize<T>,
                               TurnRows<T>,
                               Spread<T>};
  return &table;
}
const Skinny<float>* SkinnyF32() { return SkinnyTable<float>(); }
const Skinny<double>* SkinnyF64() { return SkinnyTable<double>(); }

// NOLINTNEXTLINE(google-readability-namespace-comments)
}  // namespace HWY_NAMESPACE
}  // namespace vitrine::simd
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace vitrine::simd {

HWY_EXPORT(SkinnyF32);
HWY_EXPORT(SkinnyF64);

template <>
const Skinny<float>& skinny<float>() {
  return *HWY_DYNAMIC_DISPATCH(SkinnyF32)();
}
template <>
const Skinny<double>& skinny<double>() {
  return *HWY_DYNAMIC_DISPATCH(SkinnyF64)();
}

}  // namespace vitrine::simd
#endif  // HWY_ONCE
