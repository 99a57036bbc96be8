// Transposing small blocks of a matrix in registers. Included once per CPU target by the
// files of simd/, hence the unusual include guard.
#include "hwy/highway.h"

#if defined(VITRINE_TENSOR_KERNELS_SIMD_TURN_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef VITRINE_TENSOR_KERNELS_SIMD_TURN_INL_H_
#undef VITRINE_TENSOR_KERNELS_SIMD_TURN_INL_H_
#else
#define VITRINE_TENSOR_KERNELS_SIMD_TURN_INL_H_
#endif

#include <cstdint>

HWY_BEFORE_NAMESPACE();
namespace vitrine::simd {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// Without unrolling, GCC at -O2 keeps arrays of accumulators in memory instead of registers.
#undef VITRINE_UNROLL
#undef VITRINE_UNROLL_MORE
#if defined(__GNUC__) && !defined(__clang__)
#define VITRINE_UNROLL _Pragma("GCC unroll 16")
#define VITRINE_UNROLL_MORE _Pragma("GCC unroll 24")
#else
#define VITRINE_UNROLL
#define VITRINE_UNROLL_MORE
#endif

#if HWY_TARGET == HWY_SCALAR
template <class T>
constexpr std::int64_t kEdge = 1;
template <class T>
HWY_INLINE void Turn(const T* b, std::int64_t, T* to, std::int64_t) {
  *to = *b;
}
#else
// to[i][c] = b[c][i] for four columns (two of f64) and as many entries, in 128-bit vectors.
template <class T>
constexpr std::int64_t kEdge = 16 / sizeof(T);
HWY_INLINE void Turn(const float* b, std::int64_t ldb, float* to, std::int64_t ldt) {
  const hn::FixedTag<float, 4> d;
  const hn::Repartition<double, decltype(d)> pairs;
  const auto r0 = hn::LoadU(d, b), r1 = hn::LoadU(d, b + ldb), r2 = hn::LoadU(d, b + 2 * ldb),
             r3 = hn::LoadU(d, b + 3 * ldb);
  const auto a = hn::BitCast(pairs, hn::InterleaveLower(d, r0, r1)),
             c = hn::BitCast(pairs, hn::InterleaveLower(d, r2, r3)),
             e = hn::BitCast(pairs, hn::InterleaveUpper(d, r0, r1)),
             g = hn::BitCast(pairs, hn::InterleaveUpper(d, r2, r3));
  hn::StoreU(hn::BitCast(d, hn::InterleaveLower(pairs, a, c)), d, to);
  hn::StoreU(hn::BitCast(d, hn::InterleaveUpper(pairs, a, c)), d, to + ldt);
  hn::StoreU(hn::BitCast(d, hn::InterleaveLower(pairs, e, g)), d, to + 2 * ldt);
  hn::StoreU(hn::BitCast(d, hn::InterleaveUpper(pairs, e, g)), d, to + 3 * ldt);
}
HWY_INLINE void Turn(const double* b, std::int64_t ldb, double* to, std::int64_t ldt) {
  const hn::FixedTag<double, 2> d;
  const auto r0 = hn::LoadU(d, b), r1 = hn::LoadU(d, b + ldb);
  hn::StoreU(hn::InterleaveLower(d, r0, r1), d, to);
  hn::StoreU(hn::InterleaveUpper(d, r0, r1), d, to + ldt);
}
#endif

// to[i * ldt + c] = x[c * ldx + i] for `depth` entries i of `columns` columns c.
template <class T>
HWY_INLINE void TurnPanel(const T* x, std::int64_t ldx, std::int64_t depth, std::int64_t columns,
                          T* to, std::int64_t ldt) {
  constexpr std::int64_t edge = kEdge<T>;
  std::int64_t c = 0;
  for (; c + edge <= columns; c += edge) {
    std::int64_t i = 0;
    for (; i + edge <= depth; i += edge) Turn(x + c * ldx + i, ldx, to + i * ldt + c, ldt);
    for (; i < depth; ++i) {
      for (std::int64_t j = c; j < c + edge; ++j) to[i * ldt + j] = x[j * ldx + i];
    }
  }
  for (; c < columns; ++c) {
    for (std::int64_t i = 0; i < depth; ++i) to[i * ldt + c] = x[c * ldx + i];
  }
}

// NOLINTNEXTLINE(google-readability-namespace-comments)
}  // namespace HWY_NAMESPACE
}  // namespace vitrine::simd
HWY_AFTER_NAMESPACE();

#endif  // include guard
