// The loops of products of a few rows with a large matrix, for b of f32, f64, or stored in 16 bits
// and widened as it is read. Included once per CPU target, hence the unusual include guard.
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
using LaneTag = hn::ScalableTag<T>;

// ---- b [k, n]: columns lie side by side ---------------------------------------------------------
// AVX-512 has 32 vector registers, the others 16 (or fewer): accumulators for 8 rows of 3 vectors,
// or 6 rows of 2.
constexpr bool kManyRegisters = HWY_MAX_BYTES >= 64;
constexpr int kRowsAtOnce = kManyRegisters ? 8 : 6;
constexpr int kVectors = kManyRegisters ? 3 : 2;

// b is read in blocks: columns of kPanels panels, kVectors vectors each, and as many rows as stay
// in the first-level cache for all rows of a. Wider blocks are slower on Sapphire Rapids.
constexpr int kPanels = 4;
template <class T>
HWY_INLINE std::int64_t PanelColumns() {
  return kVectors * static_cast<std::int64_t>(hn::Lanes(LaneTag<T>()));
}
template <class T>
HWY_INLINE std::int64_t Depth() {
  return 2 * PanelColumns<T>();
}

// What is done beside the sums, once with each step of the first rows.
struct Nothing {
  static constexpr bool kActive = false;
  HWY_INLINE void Step() {}
};

// What comes next from memory is asked for while the present block is worked on, in the order in
// which it lies there: a piece as long as a panel is wide with each step, `pieces` of them to a
// run.
template <class T, class B>
struct Ahead {
  static constexpr bool kActive = true;
  const B* run = nullptr;
  std::int64_t stride = 0;  // from run to run
  int pieces = 1;
  int at = 0;

  HWY_INLINE void Step() {
    constexpr std::int64_t kLine = 64;
    const std::int64_t bytes = PanelColumns<T>() * static_cast<std::int64_t>(sizeof(B));
    const char* from = reinterpret_cast<const char*>(run) + at * bytes;
    const std::int64_t before = -reinterpret_cast<std::intptr_t>(from) & (kLine - 1);
    for (std::int64_t line = before; line < bytes; line += kLine)
      __builtin_prefetch(from + line, 0, 2);
    if (++at == pieces) at = 0, run += stride;
  }
};

// out[0, kRows)[0, kWidth vectors) (+)= a [kRows, depth] b [depth, ...]. The accumulators live in
// registers.
template <int kRows, int kWidth, class T, class B, class Beside>
HWY_INLINE void SideBlock(const T* a, std::int64_t lda, const B* b, std::int64_t ldb,
                          std::int64_t depth, bool first, T* out, std::int64_t ldo,
                          Beside& beside) {
  const LaneTag<T> d;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  hn::Vec<LaneTag<T>> acc[kRows][kWidth];
  VITRINE_UNROLL
  for (int r = 0; r < kRows; ++r) {
    VITRINE_UNROLL
    for (int v = 0; v < kWidth; ++v) acc[r][v] = hn::Zero(d);
  }
  for (std::int64_t i = 0; i < depth; ++i) {
    const B* row = b + i * ldb;
    beside.Step();
    hn::Vec<LaneTag<T>> column[kWidth];
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
template <int kWidth, int kRows, class T, class B, class Beside>
HWY_INLINE void SidePanel(const T* a, std::int64_t lda, std::int64_t m, const B* b,
                          std::int64_t ldb, std::int64_t depth, bool first, T* out,
                          std::int64_t ldo, Beside& beside) {
  Nothing nothing;
  std::int64_t r = 0;
  if constexpr (Beside::kActive) {  // by the first rows alone
    if (m >= kRows) {
      SideBlock<kRows, kWidth>(a, lda, b, ldb, depth, first, out, ldo, beside);
      r = kRows;
    }
  }
  for (; r + kRows <= m; r += kRows)
    SideBlock<kRows, kWidth>(a + r * lda, lda, b, ldb, depth, first, out + r * ldo, ldo, nothing);
  if constexpr (kRows > 1) {
    if (r == 0) SidePanel<kWidth, kRows / 2>(a, lda, m, b, ldb, depth, first, out, ldo, beside);
    else if (r < m)
      SidePanel<kWidth, kRows / 2>(a + r * lda, lda, m - r, b, ldb, depth, first, out + r * ldo,
                                   ldo, nothing);
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

// What is left of a block to the right of its whole panels.
template <class T, class B>
HWY_INLINE void SideEdge(const T* a, std::int64_t lda, std::int64_t m, const B* b, std::int64_t ldb,
                         std::int64_t depth, std::int64_t columns, bool first, T* out,
                         std::int64_t ldo) {
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(LaneTag<T>()));
  Nothing nothing;
  std::int64_t c = 0;
  for (; c + lanes <= columns; c += lanes)
    SidePanel<1, kRowsAtOnce>(a, lda, m, b + c, ldb, depth, first, out + c, ldo, nothing);
  SideRest(a, lda, m, b + c, ldb, depth, columns - c, first, out + c, ldo);
}

// Columns of at most kPanels panels, block after block.
template <class T, class B>
void SideColumns(const T* a, std::int64_t lda, std::int64_t m, const B* b, std::int64_t ldb,
                 std::int64_t k, std::int64_t columns, T* out, std::int64_t ldo) {
  const std::int64_t panel = PanelColumns<T>(), step = Depth<T>();
  const std::int64_t panels = columns / panel, edge = panels * panel;
  for (std::int64_t i = 0; i < k; i += step) {
    const std::int64_t depth = HWY_MIN(step, k - i);
    const B* block = b + i * ldb;
    // The next block: further down, or at the top of the next columns.
    Ahead<T, B> ahead{i + step < k ? block + step * ldb : b + columns, ldb,
                      static_cast<int>(HWY_MAX(1, panels))};
    for (std::int64_t c = 0; c < edge; c += panel)
      SidePanel<kVectors, kRowsAtOnce>(a + i, lda, m, block + c, ldb, depth, i == 0, out + c, ldo,
                                       ahead);
    SideEdge(a + i, lda, m, block + edge, ldb, depth, columns - edge, i == 0, out + edge, ldo);
  }
}

template <class T, class B>
void SideBySide(const T* a, std::int64_t lda, std::int64_t m, const B* b, std::int64_t ldb,
                std::int64_t k, std::int64_t n, T* out, std::int64_t ldo) {
  const std::int64_t wide = kPanels * PanelColumns<T>();
  for (std::int64_t j = 0; j < n; j += wide)
    SideColumns(a, lda, m, b + j, ldb, k, HWY_MIN(wide, n - j), out + j, ldo);
}

// ---- b [n, k]: each column is contiguous --------------------------------------------------------
// a is turned once, so that its rows lie side by side in vectors; the entries of b, where they are,
// are what multiplies these.
constexpr int kRowVectors = 3;  // vectors of rows at once, at most
constexpr int kSpreadSums =
    kManyRegisters ? 24 : 12;   // accumulators: so many columns of one vector
constexpr int kSpreadRest = 4;  // columns at once where there are not so many

// Rows [row, m) begin a group of so many vectors: `at` holds group after group, each [k, vectors].
template <class T>
HWY_INLINE int VectorsOfGroup(std::int64_t row, std::int64_t m) {
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(LaneTag<T>()));
  return static_cast<int>(HWY_MIN(std::int64_t{kRowVectors}, (m - row + lanes - 1) / lanes));
}

template <class T>
std::int64_t TurnedSize(std::int64_t m, std::int64_t k) {
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(LaneTag<T>()));
  return (m + lanes - 1) / lanes * lanes * k;
}

template <class T>
void TurnRows(const T* a, std::int64_t lda, std::int64_t m, std::int64_t k, T* at) {
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(LaneTag<T>()));
  for (std::int64_t row = 0; row < m;) {
    const std::int64_t width = VectorsOfGroup<T>(row, m) * lanes, rows = HWY_MIN(width, m - row);
    if (rows < width) {
      for (std::int64_t i = 0; i < width * k; ++i) at[i] = T(0);
    }
    TurnPanel(a + row * lda, lda, k, rows, at, width);
    at += width * k;
    row += width;
  }
}

template <class T>
constexpr std::int64_t kLineOf = 64 / sizeof(T);

// The columns of b where they are. A source gives entries [i, i + depth) of `count` columns,
// `stride` apart.
template <class T>
struct Plain {
  const T* b;
  std::int64_t stride;
  Plain columns(std::int64_t j) const { return {b + j * stride, stride}; }
  const T* piece(std::int64_t i, std::int64_t, std::int64_t) { return b + i; }
  // What comes after entry i in memory: further down, or the columns that follow.
  const T* after(std::int64_t i, std::int64_t k, std::int64_t count) const {
    return i < k ? b + i : b + count * stride;
  }
};

// sums [kColumns, kWidth vectors] (+)= the products over `depth` entries. Asks for the next block,
// column after column, from `after` on; null: what made b has done so.
template <int kColumns, int kWidth, class T>
HWY_INLINE void SpreadBlock(const T* at, const T* b, std::int64_t stride, std::int64_t depth,
                            const T* after, bool first, T* sums) {
  const LaneTag<T> d;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  hn::Vec<LaneTag<T>> acc[kColumns][kWidth];
  VITRINE_UNROLL_MORE
  for (int c = 0; c < kColumns; ++c) {
    VITRINE_UNROLL
    for (int v = 0; v < kWidth; ++v) acc[c][v] = hn::Zero(d);
  }
  const std::int64_t steps = HWY_MAX(std::int64_t{1}, Depth<T>() / kColumns),
                     run = Depth<T>() / steps;
  std::int64_t left = steps;
  const T* next = after;
  for (std::int64_t i = 0; i < depth; ++i, at += kWidth * lanes) {
    if (after != nullptr) {
      __builtin_prefetch(next, 0, 2);
      if (run > kLineOf<T>) __builtin_prefetch(next + kLineOf<T>, 0, 2);
      next += run;
      if (--left == 0) left = steps, after += stride, next = after;
    }
    hn::Vec<LaneTag<T>> rows[kWidth];
    VITRINE_UNROLL
    for (int v = 0; v < kWidth; ++v) rows[v] = hn::LoadU(d, at + v * lanes);
    VITRINE_UNROLL_MORE
    for (int c = 0; c < kColumns; ++c) {
      const auto factor = hn::Set(d, b[c * stride + i]);
      VITRINE_UNROLL
      for (int v = 0; v < kWidth; ++v) acc[c][v] = hn::MulAdd(factor, rows[v], acc[c][v]);
    }
  }
  VITRINE_UNROLL_MORE
  for (int c = 0; c < kColumns; ++c) {
    VITRINE_UNROLL
    for (int v = 0; v < kWidth; ++v) {
      T* to = sums + (c * kWidth + v) * lanes;
      hn::StoreU(first ? acc[c][v] : hn::Add(hn::LoadU(d, to), acc[c][v]), d, to);
    }
  }
}

// Columns [j, j + kColumns) for `rows` rows, whose group at `at` has kWidth vectors.
template <int kColumns, int kWidth, class T, class Source>
HWY_INLINE void SpreadColumns(const T* at, std::int64_t rows, Source source, std::int64_t k, T* out,
                              std::int64_t ldo) {
  HWY_ALIGN T sums[kColumns * kWidth * HWY_MAX_BYTES / sizeof(T)] = {};
  const std::int64_t step = Depth<T>(),
                     width = kWidth * static_cast<std::int64_t>(hn::Lanes(LaneTag<T>()));
  for (std::int64_t i = 0; i < k; i += step) {
    const std::int64_t depth = HWY_MIN(step, k - i);
    const T* piece = source.piece(i, depth, kColumns);
    SpreadBlock<kColumns, kWidth>(at + i * width, piece, source.stride, depth,
                                  source.after(i + step, k, kColumns), i == 0, sums);
  }
  for (std::int64_t r = 0; r < rows; ++r) {
    for (int c = 0; c < kColumns; ++c) out[r * ldo + c] = sums[c * width + r];
  }
}

template <int kWidth, class T, class Source>
void SpreadGroup(const T* at, std::int64_t rows, const Source& b, std::int64_t k, std::int64_t n,
                 T* out, std::int64_t ldo) {
  constexpr int kColumns = kSpreadSums / kWidth;
  std::int64_t j = 0;
  for (; j + kColumns <= n; j += kColumns)
    SpreadColumns<kColumns, kWidth>(at, rows, b.columns(j), k, out + j, ldo);
  for (; j + kSpreadRest <= n; j += kSpreadRest)
    SpreadColumns<kSpreadRest, kWidth>(at, rows, b.columns(j), k, out + j, ldo);
  for (; j < n; ++j) SpreadColumns<1, kWidth>(at, rows, b.columns(j), k, out + j, ldo);
}

// All rows, `columns` columns at a time: they stay in the caches from group to group.
template <class T, class Source>
void SpreadOf(const T* at, std::int64_t m, const Source& b, std::int64_t k, std::int64_t n, T* out,
              std::int64_t ldo) {
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(LaneTag<T>()));
  for (std::int64_t j = 0; j < n; j += kSpreadSums) {
    const std::int64_t columns = HWY_MIN(std::int64_t{kSpreadSums}, n - j);
    const T* group = at;
    for (std::int64_t row = 0; row < m;) {
      const int width = VectorsOfGroup<T>(row, m);
      const std::int64_t rows = HWY_MIN(width * lanes, m - row);
      const auto& multiply = width == 1   ? SpreadGroup<1, T, Source>
                             : width == 2 ? SpreadGroup<2, T, Source>
                                          : SpreadGroup<3, T, Source>;
      multiply(group, rows, b.columns(j), k, columns, out + row * ldo + j, ldo);
      group += width * lanes * k;
      row += width * lanes;
    }
  }
}

// ---- very few rows ------------------------------------------------------------------------------
// They do not fill a vector: dot products, kRows * kColumns at a time so that every load is
// used several times.
constexpr int kDotRows = kManyRegisters ? 4 : 2;
constexpr int kDotColumns = 4;
constexpr std::int64_t kDotRowsAtMost = 4;

template <int kRows, int kColumns, class T, class B>
HWY_INLINE void DotBlock(const T* a, std::int64_t lda, const B* b, std::int64_t ldb, std::int64_t k,
                         T* out, std::int64_t ldo) {
  const LaneTag<T> d;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  hn::Vec<LaneTag<T>> acc[kRows][kColumns];
  VITRINE_UNROLL
  for (int r = 0; r < kRows; ++r) {
    VITRINE_UNROLL
    for (int c = 0; c < kColumns; ++c) acc[r][c] = hn::Zero(d);
  }
  std::int64_t i = 0;
  for (; i + lanes <= k; i += lanes) {
    hn::Vec<LaneTag<T>> column[kColumns];
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
