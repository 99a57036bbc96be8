// The inner loops of a matrix product, after Goto & van de Geijn (2008), "Anatomy of
// High-Performance Matrix Multiplication": both sides are packed into panels, and a block of the
// result stays in vector registers while it sums over k.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "tensor/simd/gemm.cpp"
// After HWY_TARGET_INCLUDE.
#include "hwy/foreach_target.h"
// After foreach_target.h.
#include <algorithm>

#include "hwy/cache_control.h"
#include "hwy/highway.h"
#include "tensor/simd/simd.h"
#include "tensor/simd/turn-inl.h"

HWY_BEFORE_NAMESPACE();
namespace vitrine::simd {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

template <class T>
using Tag = hn::ScalableTag<T>;

// The block in registers: 8 rows of 3 vectors where there are 32 registers (AVX-512, and NEON,
// whose vectors are short), else 6 rows of 2, with 3 registers left for operands.
constexpr bool kManyRegisters =
    HWY_MAX_BYTES >= 64 || HWY_TARGET == HWY_NEON || HWY_TARGET == HWY_SVE;
constexpr std::int64_t kRows = kManyRegisters ? 8 : 6;
constexpr std::int64_t kVectors = kManyRegisters ? 3 : 2;

template <class T>
HWY_INLINE std::int64_t Lanes() {
  return static_cast<std::int64_t>(hn::Lanes(Tag<T>()));
}

// ---- packing ------------------------------------------------------------------------------------
// to[i * width + c] = x[c, i] for c < n <= width, zeros beyond n.
template <class T>
HWY_INLINE void PackPanel(const T* x, std::int64_t n_stride, std::int64_t k_stride, std::int64_t n,
                          std::int64_t k, std::int64_t width, T* to) {
  if (n < width) std::fill_n(to, width * k, T(0));
  if (k_stride == 1) return TurnPanel(x, n_stride, k, n, to, width);
  for (std::int64_t c = 0; c < n; ++c) {
    for (std::int64_t i = 0; i < k; ++i) to[i * width + c] = x[c * n_stride + i * k_stride];
  }
}

// Copies kCount elements, the number known to the compiler.
template <std::int64_t kCount, class T>
HWY_INLINE void CopyFew(const T* from, T* to) {
  constexpr std::int64_t kLanes = HWY_MIN(HWY_LANES(T), kCount >= 16  ? 16
                                                        : kCount >= 8 ? 8
                                                        : kCount >= 4 ? 4
                                                        : kCount >= 2 ? 2
                                                                      : 1);
  const hn::CappedTag<T, kLanes> d;
  hn::StoreU(hn::LoadU(d, from), d, to);
  if constexpr (kCount > kLanes) CopyFew<kCount - kLanes>(from + kLanes, to + kLanes);
}

// Panels of `full` entries, the last one as wide as last(entries). Where the entries of one k lie
// side by side, all panels are filled together, so that memory is read in its own order.
template <std::int64_t kFull, class T, class Last>
HWY_INLINE void Pack(const T* x, std::int64_t n_stride, std::int64_t k_stride, std::int64_t n,
                     std::int64_t k, T* to, const Last& last) {
  const std::int64_t whole = n_stride == 1 ? n / kFull : 0;
  for (std::int64_t i = 0; i < k && whole > 0; ++i) {
    const T* from = x + i * k_stride;
    for (std::int64_t p = 0; p < whole; ++p) {
      hwy::Prefetch(from + 8 * k_stride + p * kFull);
      CopyFew<kFull>(from + p * kFull, to + (p * k + i) * kFull);
    }
  }
  for (std::int64_t c = whole * kFull; c < n; c += kFull) {
    const std::int64_t here = std::min(kFull, n - c);
    PackPanel(x + c * n_stride, n_stride, k_stride, here, k, here < kFull ? last(here) : kFull,
              to + c * k);
  }
}

template <class T>
void PackA(const T* x, std::int64_t n_stride, std::int64_t k_stride, std::int64_t n, std::int64_t k,
           T* to) {
  Pack<kRows>(x, n_stride, k_stride, n, k, to, [](std::int64_t) { return kRows; });
}

// The last panel has as many vectors as it needs.
template <class T>
void PackB(const T* x, std::int64_t n_stride, std::int64_t k_stride, std::int64_t n, std::int64_t k,
           T* to) {
  const std::int64_t lanes = Lanes<T>();
  Pack<kVectors * HWY_LANES(T)>(x, n_stride, k_stride, n, k, to, [=](std::int64_t columns) {
    return (columns + lanes - 1) / lanes * lanes;
  });
}

// ---- the block ----------------------------------------------------------------------------------
// out [kRows, kWidth vectors] (+)= a b over k.
template <int kWidth, class T>
HWY_INLINE void Block(const T* a, const T* next, const T* b, std::int64_t k, bool add, T* out,
                      std::int64_t ldo) {
  const Tag<T> d;
  const std::int64_t lanes = Lanes<T>();
  hn::Vec<Tag<T>> acc[kRows][kWidth];
  VITRINE_UNROLL
  for (int r = 0; r < kRows; ++r) {
    VITRINE_UNROLL
    for (int v = 0; v < kWidth; ++v) {
      hwy::Prefetch(out + r * ldo + v * lanes);
      acc[r][v] = hn::Zero(d);
    }
  }
  for (std::int64_t i = 0; i < k; ++i) {
    hwy::Prefetch(next);
    hn::Vec<Tag<T>> column[kWidth];
    VITRINE_UNROLL
    for (int v = 0; v < kWidth; ++v) column[v] = hn::LoadU(d, b + v * lanes);
    VITRINE_UNROLL
    for (int r = 0; r < kRows; ++r) {
      const auto factor = hn::Set(d, a[r]);
      VITRINE_UNROLL
      for (int v = 0; v < kWidth; ++v) acc[r][v] = hn::MulAdd(factor, column[v], acc[r][v]);
    }
    a += kRows;
    next += kRows;
    b += kWidth * lanes;
  }
  VITRINE_UNROLL
  for (int r = 0; r < kRows; ++r) {
    VITRINE_UNROLL
    for (int v = 0; v < kWidth; ++v) {
      T* to = out + r * ldo + v * lanes;
      hn::StoreU(add ? hn::Add(hn::LoadU(d, to), acc[r][v]) : acc[r][v], d, to);
    }
  }
}

// At the edges of out: rows <= kRows, columns <= kWidth vectors.
template <int kWidth, class T>
HWY_INLINE void EdgeBlock(const T* a, const T* next, const T* b, std::int64_t k, std::int64_t rows,
                          std::int64_t columns, bool add, T* out, std::int64_t ldo) {
  HWY_ALIGN T block[kRows * kVectors * HWY_MAX_BYTES / sizeof(T)];
  const std::int64_t width = kWidth * Lanes<T>();
  Block<kWidth>(a, next, b, k, false, block, width);
  for (std::int64_t r = 0; r < rows; ++r) {
    T* to = out + r * ldo;
    const T* from = block + r * width;
    if (add) {
      for (std::int64_t c = 0; c < columns; ++c) to[c] += from[c];
    } else {
      std::copy_n(from, columns, to);
    }
  }
}

template <int kWidth, class T>
HWY_INLINE void AnyBlock(const T* a, const T* next, const T* b, std::int64_t k, std::int64_t rows,
                         std::int64_t columns, bool add, T* out, std::int64_t ldo) {
  if (rows == kRows && columns == kWidth * Lanes<T>()) Block<kWidth>(a, next, b, k, add, out, ldo);
  else EdgeBlock<kWidth>(a, next, b, k, rows, columns, add, out, ldo);
}

template <class T>
void Multiply(const T* a, std::int64_t ka, const T* b, std::int64_t m, std::int64_t n,
              std::int64_t k, bool add, T* out, std::int64_t ldo) {
  const std::int64_t lanes = Lanes<T>(), full = kVectors * lanes;
  // The panel of a stays in the first-level cache, all panels of b in the second.
  for (std::int64_t r = 0; r < m; r += kRows, a += kRows * ka) {
    const std::int64_t rows = std::min<std::int64_t>(kRows, m - r);
    const T* panel = b;
    for (std::int64_t c = 0; c < n; c += full, panel += full * k) {
      const std::int64_t columns = std::min(full, n - c);
      T* to = out + r * ldo + c;
      const T* next = c + full >= n ? a + kRows * ka : a;
      if (columns > 2 * lanes && kVectors > 2)
        AnyBlock<kVectors>(a, next, panel, k, rows, columns, add, to, ldo);
      else if (columns > lanes) AnyBlock<2>(a, next, panel, k, rows, columns, add, to, ldo);
      else AnyBlock<1>(a, next, panel, k, rows, columns, add, to, ldo);
    }
  }
}

template <class T>
const Gemm<T>* GemmTable() {
  static const Gemm<T> table{kRows, kVectors * Lanes<T>(), PackA<T>, PackB<T>, Multiply<T>};
  return &table;
}
const Gemm<float>* GemmF32() { return GemmTable<float>(); }
const Gemm<double>* GemmF64() { return GemmTable<double>(); }

// NOLINTNEXTLINE(google-readability-namespace-comments)
}  // namespace HWY_NAMESPACE
}  // namespace vitrine::simd
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace vitrine::simd {

HWY_EXPORT(GemmF32);
HWY_EXPORT(GemmF64);

template <>
const Gemm<float>& gemm<float>() {
  return *HWY_DYNAMIC_DISPATCH(GemmF32)();
}
template <>
const Gemm<double>& gemm<double>() {
  return *HWY_DYNAMIC_DISPATCH(GemmF64)();
}

}  // namespace vitrine::simd
#endif  // HWY_ONCE
