// The loops of products of a few rows with a large matrix, for b of f32, f64, or stored in 16 bits and
// widened as it is read. Included once per CPU target, hence the unusual include guard.
#include "hwy/highway.h"

#if defined(VITRINE_TENSOR_SIMD_SKINNY_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef VITRINE_TENSOR_SIMD_SKINNY_INL_H_
#undef VITRINE_TENSOR_SIMD_SKINNY_INL_H_
#else
#define VITRINE_TENSOR_SIMD_SKINNY_INL_H_
#endif

#include <cstdint>

#include "tensor/simd/turn-inl.h"
#include "tensor/simd/widen-inl.h"

HWY_BEFORE_NAMESPACE();
namespace vitrine::simd {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

template <class T>
using Tag = hn::ScalableTag<T>;

// ---- b [k, n]: columns lie side by side ---------------------------------------------------------
// AVX-512 has 32 vector registers, the others 16 (or fewer): accumulators for 8 rows of 3 vectors,
// or 6 rows of 2.
constexpr bool kManyRegisters = HWY_MAX_BYTES >= 64;
constexpr int kRowsAtOnce = kManyRegisters ? 8 : 6;
constexpr int kVectors = kManyRegisters ? 3 : 2;

// b is read in blocks: columns of kPanels panels, kVectors vectors each, and as many rows as stay
// in the first-level cache for all rows of a.
constexpr int kPanels = 4;
template <class T>
HWY_INLINE std::int64_t PanelColumns() {
  return kVectors * static_cast<std::int64_t>(hn::Lanes(Tag<T>()));
}
template <class T>
HWY_INLINE std::int64_t Depth() {
  return 2 * PanelColumns<T>();
}

// What comes next from memory is asked for while the present block is worked on, in the order in
// which it lies there: at step i a piece as long as a panel is wide, 2^kShift pieces to a run.
template <class T, class B>
struct Ahead {
  const B* from = nullptr;
  std::int64_t stride = 0;  // from run to run
  int shift = 0;

  HWY_INLINE void Ask(std::int64_t i) const {
    const B* piece = from + (i >> shift) * stride + (i & ((1 << shift) - 1)) * PanelColumns<T>();
    VITRINE_UNROLL
    for (int v = 0; v < kVectors; ++v)
      __builtin_prefetch(piece + v * static_cast<std::int64_t>(hn::Lanes(Tag<T>())), 0, 2);
  }
};

// out[0, kRows)[0, kWidth vectors) (+)= a [kRows, depth] b [depth, ...]. The accumulators live in
// registers.
template <int kRows, int kWidth, bool kAhead, class T, class B, class P>
HWY_INLINE void SideBlock(const T* a, std::int64_t lda, const B* b, std::int64_t ldb,
                          std::int64_t depth, bool first, T* out, std::int64_t ldo,
                          const Ahead<T, P>& ahead) {
  const Tag<T> d;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  hn::Vec<Tag<T>> acc[kRows][kWidth];
  VITRINE_UNROLL
  for (int r = 0; r < kRows; ++r) {
    VITRINE_UNROLL
    for (int v = 0; v < kWidth; ++v) acc[r][v] = hn::Zero(d);
  }
  for (std::int64_t i = 0; i < depth; ++i) {
    const B* row = b + i * ldb;
    if constexpr (kAhead) ahead.Ask(i);
    hn::Vec<Tag<T>> column[kWidth];
    VITRINE_UNROLL
    for (int v = 0; v < kWidth; ++v) column[v] = LoadWide(d, row + v * lanes);
    VITRINE_UNROLL
    for (int r = 0; r < kRows; ++r) {
      const auto factor = hn::Set(d, a[r * lda + i]);
      VITRINE_UNROLL
      for (int v = 0; v < kWidth; ++v) acc[r][v] = hn::MulAdd(factor, column[v], acc[r][v]);
    }
  }
  VITRINE_UNROLL
  for (int r = 0; r < kRows; ++r) {
    VITRINE_UNROLL
    for (int v = 0; v < kWidth; ++v) {
      T* to = out + r * ldo + v * lanes;
      hn::StoreU(first ? acc[r][v] : hn::Add(hn::LoadU(d, to), acc[r][v]), d, to);
    }
  }
}

// All m rows of one panel of columns, kRows at a time.
template <int kWidth, int kRows, bool kAhead, class T, class B, class P = B>
HWY_INLINE void SidePanel(const T* a, std::int64_t lda, std::int64_t m, const B* b,
                          std::int64_t ldb, std::int64_t depth, bool first, T* out,
                          std::int64_t ldo, const Ahead<T, P>& ahead = {}) {
  std::int64_t r = 0;
  if constexpr (kAhead) {  // by the first rows alone
    if (m >= kRows) {
      SideBlock<kRows, kWidth, true>(a, lda, b, ldb, depth, first, out, ldo, ahead);
      r = kRows;
    }
  }
  for (; r + kRows <= m; r += kRows) {
    SideBlock<kRows, kWidth, false>(a + r * lda, lda, b, ldb, depth, first, out + r * ldo, ldo,
                                    ahead);
  }
  if constexpr (kRows > 1) {
    if (r == 0)
      SidePanel<kWidth, kRows / 2, kAhead>(a, lda, m, b, ldb, depth, first, out, ldo, ahead);
    else if (r < m)
      SidePanel<kWidth, kRows / 2, false>(a + r * lda, lda, m - r, b, ldb, depth, first,
                                          out + r * ldo, ldo);
  }
}

// Columns that do not fill a vector.
template <class T, class B>
HWY_INLINE void SideRest(const T* a, std::int64_t lda, std::int64_t m, const B* b, std::int64_t ldb,
                         std::int64_t depth, std::int64_t columns, bool first, T* out,
                         std::int64_t ldo) {
  for (std::int64_t j = 0; j < columns; ++j) {
    for (std::int64_t r = 0; r < m; ++r) {
      T sum = first ? T(0) : out[r * ldo + j];
      for (std::int64_t t = 0; t < depth; ++t) sum += a[r * lda + t] * Wide(b[t * ldb + j]);
      out[r * ldo + j] = sum;
    }
  }
}

template <class T, class B>
void SideBySide(const T* a, std::int64_t lda, std::int64_t m, const B* b, std::int64_t ldb,
                std::int64_t k, std::int64_t n, T* out, std::int64_t ldo) {
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(Tag<T>()));
  const std::int64_t panel = PanelColumns<T>(), step = Depth<T>();
  for (std::int64_t j = 0; j < n; j += kPanels * panel) {
    const std::int64_t columns = HWY_MIN(kPanels * panel, n - j);
    for (std::int64_t i = 0; i < k; i += step) {
      const std::int64_t depth = HWY_MIN(step, k - i);
      const bool first = i == 0;
      const B* block = b + i * ldb + j;
      const T* factors = a + i;
      // The next block: further down, or at the top of the next columns.
      Ahead<T, B> ahead{i + step < k ? block + step * ldb : b + j + kPanels * panel, ldb, 2};
      T* to = out + j;
      std::int64_t c = 0;
      for (; c + panel <= columns; c += panel) {
        SidePanel<kVectors, kRowsAtOnce, true>(factors, lda, m, block + c, ldb, depth, first,
                                               to + c, ldo, ahead);
        ahead.from += step / kPanels * ldb;
      }
      for (; c + lanes <= columns; c += lanes) {
        SidePanel<1, kRowsAtOnce, false>(factors, lda, m, block + c, ldb, depth, first, to + c,
                                         ldo);
      }
      SideRest(factors, lda, m, block + c, ldb, depth, columns - c, first, to + c, ldo);
    }
  }
}

// ---- b [n, k]: each column is contiguous --------------------------------------------------------
// A panel of columns is turned, a block at a time, into the order that SideBlock reads.

// The columns where they are. A source gives entries [i, i + depth) of `count` columns, `stride`
// apart, and what is next in memory: further down, or the top of the columns that follow.
template <class T>
struct Plain {
  static constexpr bool kAhead = true;
  const T* b;
  std::int64_t stride;
  Plain columns(std::int64_t j) const { return {b + j * stride, stride}; }
  const T* piece(std::int64_t i, std::int64_t, std::int64_t) { return b + i; }
  Ahead<T, T> next(std::int64_t i, std::int64_t k, std::int64_t count) const {
    return {i < k ? b + i : b + count * stride, stride, 1};
  }
};

// `columns` columns, kWidth vectors of them or, with kWidth = 0, fewer than a vector.
template <int kWidth, class T, class Source>
HWY_INLINE void TurnedPanel(const T* a, std::int64_t lda, std::int64_t m, Source source,
                            std::int64_t k, std::int64_t columns, T* out, std::int64_t ldo) {
  constexpr std::size_t kMost = kVectors * HWY_MAX_BYTES / sizeof(T);
  HWY_ALIGN T turned[2 * kMost * kMost];
  const std::int64_t step = Depth<T>();
  for (std::int64_t i = 0; i < k; i += step) {
    const std::int64_t depth = HWY_MIN(step, k - i);
    const T* piece = source.piece(i, depth, columns);
    TurnPanel(piece, source.stride, depth, columns, turned, columns);
    if constexpr (kWidth == kVectors && Source::kAhead) {
      SidePanel<kWidth, kRowsAtOnce, true>(a + i, lda, m, turned, columns, depth, i == 0, out, ldo,
                                           source.next(i + step, k, columns));
    } else if constexpr (kWidth > 0) {
      SidePanel<kWidth, kRowsAtOnce, false>(a + i, lda, m, turned, columns, depth, i == 0, out,
                                            ldo);
    } else {
      SideRest(a + i, lda, m, turned, columns, depth, columns, i == 0, out, ldo);
    }
  }
}

template <class T, class Source>
void Turned(const T* a, std::int64_t lda, std::int64_t m, const Source& b, std::int64_t k,
            std::int64_t n, T* out, std::int64_t ldo) {
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(Tag<T>()));
  std::int64_t j = 0;
  for (; j + kVectors * lanes <= n; j += kVectors * lanes)
    TurnedPanel<kVectors>(a, lda, m, b.columns(j), k, kVectors * lanes, out + j, ldo);
  for (; j + lanes <= n; j += lanes)
    TurnedPanel<1>(a, lda, m, b.columns(j), k, lanes, out + j, ldo);
  if (j < n) TurnedPanel<0>(a, lda, m, b.columns(j), k, n - j, out + j, ldo);
}

// Few rows do not pay for turning b: dot products, kRows * kColumns at a time so that every load is
// used several times.
constexpr int kDotRows = kManyRegisters ? 4 : 2;
constexpr int kDotColumns = 4;
constexpr std::int64_t kDotRowsAtMost = 4;

template <int kRows, int kColumns, class T, class B>
HWY_INLINE void DotBlock(const T* a, std::int64_t lda, const B* b, std::int64_t ldb, std::int64_t k,
                         T* out, std::int64_t ldo) {
  const Tag<T> d;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  hn::Vec<Tag<T>> acc[kRows][kColumns];
  VITRINE_UNROLL
  for (int r = 0; r < kRows; ++r) {
    VITRINE_UNROLL
    for (int c = 0; c < kColumns; ++c) acc[r][c] = hn::Zero(d);
  }
  std::int64_t i = 0;
  for (; i + lanes <= k; i += lanes) {
    hn::Vec<Tag<T>> column[kColumns];
    VITRINE_UNROLL
    for (int c = 0; c < kColumns; ++c) column[c] = LoadWide(d, b + c * ldb + i);
    VITRINE_UNROLL
    for (int r = 0; r < kRows; ++r) {
      const auto row = hn::LoadU(d, a + r * lda + i);
      VITRINE_UNROLL
      for (int c = 0; c < kColumns; ++c) acc[r][c] = hn::MulAdd(row, column[c], acc[r][c]);
    }
  }
  VITRINE_UNROLL
  for (int r = 0; r < kRows; ++r) {
    VITRINE_UNROLL
    for (int c = 0; c < kColumns; ++c) {
      T sum = hn::GetLane(hn::SumOfLanes(d, acc[r][c]));
      for (std::int64_t t = i; t < k; ++t) sum += a[r * lda + t] * Wide(b[c * ldb + t]);
      out[r * ldo + c] = sum;
    }
  }
}

template <int kColumns, int kRows, class T, class B>
HWY_INLINE void DotPanel(const T* a, std::int64_t lda, std::int64_t m, const B* b, std::int64_t ldb,
                         std::int64_t k, T* out, std::int64_t ldo) {
  std::int64_t r = 0;
  for (; r + kRows <= m; r += kRows) {
    DotBlock<kRows, kColumns>(a + r * lda, lda, b, ldb, k, out + r * ldo, ldo);
  }
  if constexpr (kRows > 1) {
    if (r < m)
      DotPanel<kColumns, kRows / 2>(a + r * lda, lda, m - r, b, ldb, k, out + r * ldo, ldo);
  }
}

template <class T, class B>
void Dots(const T* a, std::int64_t lda, std::int64_t m, const B* b, std::int64_t ldb,
          std::int64_t k, std::int64_t n, T* out, std::int64_t ldo) {
  std::int64_t j = 0;
  for (; j + kDotColumns <= n; j += kDotColumns)
    DotPanel<kDotColumns, kDotRows>(a, lda, m, b + j * ldb, ldb, k, out + j, ldo);
  for (; j < n; ++j) DotPanel<1, kDotRows>(a, lda, m, b + j * ldb, ldb, k, out + j, ldo);
}

// NOLINTNEXTLINE(google-readability-namespace-comments)
}  // namespace HWY_NAMESPACE
}  // namespace vitrine::simd
HWY_AFTER_NAMESPACE();

#endif  // include guard
