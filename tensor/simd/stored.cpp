// Products of a few rows with a large matrix that is stored in fewer bits: f16, bf16, or quantised
// blocks. It is read once, where it is, and widened in registers or in the first-level cache.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "tensor/simd/stored.cpp"
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

// Calls f with a null Half*, BFloat16* or Decoder*: what stands for the type.
template <class F>
HWY_INLINE void ByType(DType dtype, const F& f) {
  switch (dtype) {
    case DType::f16:
      return f(static_cast<const Half*>(nullptr));
    case DType::bf16:
      return f(static_cast<const BFloat16*>(nullptr));
    case DType::q8_0:
      return f(static_cast<const Decoder<DType::q8_0>*>(nullptr));
    case DType::q4_0:
      return f(static_cast<const Decoder<DType::q4_0>*>(nullptr));
    case DType::q4_1:
      return f(static_cast<const Decoder<DType::q4_1>*>(nullptr));
    case DType::q5_0:
      return f(static_cast<const Decoder<DType::q5_0>*>(nullptr));
    case DType::q5_1:
      return f(static_cast<const Decoder<DType::q5_1>*>(nullptr));
    case DType::q2_k:
      return f(static_cast<const Decoder<DType::q2_k>*>(nullptr));
    case DType::q3_k:
      return f(static_cast<const Decoder<DType::q3_k>*>(nullptr));
    case DType::q4_k:
      return f(static_cast<const Decoder<DType::q4_k>*>(nullptr));
    case DType::q5_k:
      return f(static_cast<const Decoder<DType::q5_k>*>(nullptr));
    case DType::q6_k:
      return f(static_cast<const Decoder<DType::q6_k>*>(nullptr));
    default:
      return;  // not stored: nobody asks
  }
}

template <DType kType>
constexpr DType TypeOf(const Decoder<kType>*) {
  return kType;
}

// ---- widening a run of elements -----------------------------------------------------------------
template <class B>
HWY_INLINE void WidenRun(const B*, const std::byte* data, std::int64_t first, std::int64_t n,
                         float* to) {
  const hn::ScalableTag<float> d;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  const B* from = reinterpret_cast<const B*>(data) + first;
  std::int64_t i = 0;
  for (; i + lanes <= n; i += lanes) hn::StoreU(LoadWide(d, from + i), d, to + i);
  for (; i < n; ++i) to[i] = Wide(from[i]);
}
template <DType kType>
HWY_INLINE void WidenRun(const Decoder<kType>*, const std::byte* data, std::int64_t first,
                         std::int64_t n, float* to) {
  using Blocks = Decoder<kType>;
  constexpr Block kBlock = block_of(kType);
  for (std::int64_t i = first; i < first + n;) {
    const auto* block =
        reinterpret_cast<const std::uint8_t*>(data) + i / kBlock.elements * kBlock.bytes;
    const auto scales = Blocks::Begin(block);
    for (std::int64_t at = i % kBlock.elements; at < kBlock.elements && i < first + n;
         at += 32, i += 32, to += 32) {
      GroupVec group[kGroupVectors];
      Blocks::Group(block, scales, static_cast<int>(at / 32), group);
      for (int v = 0; v < kGroupVectors; ++v)
        hn::StoreU(group[v], GroupTag(), to + v * kGroupLanes);
    }
  }
}

void Widen(DType dtype, const std::byte* data, std::int64_t first, std::int64_t n, float* to) {
  ByType(dtype, [&](auto type) { WidenRun(type, data, first, n, to); });
}

// ---- few rows -----------------------------------------------------------------------------------
void StoredSideBySide(DType dtype, const float* a, std::int64_t lda, std::int64_t m,
                      const std::byte* b, std::int64_t first, std::int64_t ldb, std::int64_t k,
                      std::int64_t n, float* out, std::int64_t ldo) {
  if (dtype == DType::f16)
    return SideBySide(a, lda, m, reinterpret_cast<const Half*>(b) + first, ldb, k, n, out, ldo);
  SideBySide(a, lda, m, reinterpret_cast<const BFloat16*>(b) + first, ldb, k, n, out, ldo);
}

// The source of SpreadOf: pieces are widened into a buffer that stays in the first-level cache.
struct Widened {
  static constexpr std::int64_t kGroup = 32;
  static constexpr std::int64_t
      stride =  // Depth<float>() or more; one line more keeps columns apart
      HWY_MAX(kGroup, 2 * kVectors * HWY_LANES(float)) + 16;
  DType dtype;
  const std::byte* b;
  std::int64_t first, ldb;
  HWY_ALIGN float buffer[kSpreadSums * stride];

  Widened(DType type, const std::byte* data, std::int64_t begin, std::int64_t column_stride)
      : dtype(type), b(data), first(begin), ldb(column_stride) {}
  static const float* after(std::int64_t, std::int64_t, std::int64_t) { return nullptr; }
  Widened columns(std::int64_t j) const { return {dtype, b, first + j * ldb, ldb}; }
  const float* piece(std::int64_t i, std::int64_t depth, std::int64_t count) {
    // Whole groups, of which short vectors take a part.
    const std::int64_t from = i / kGroup * kGroup, skipped = i - from,
                       run = is_blocked(dtype) ? HWY_MAX(depth, kGroup) : skipped + depth;
    const std::int64_t bytes = run * block_of(dtype).bytes / block_of(dtype).elements;
    ByType(dtype, [&](auto type) {
      for (std::int64_t c = 0; c < count; ++c) {
        const std::int64_t at = first + c * ldb + from;
        const std::byte* next = b + bytes_of(dtype, at + run);
        for (std::int64_t line = 0; line <= bytes; line += 64)
          __builtin_prefetch(next + line, 0, 2);
        WidenRun(type, b, at, run, buffer + c * stride);
      }
    });
    return buffer + skipped;
  }
};

// What the blocks of a few columns begin with, an f16 scale and perhaps an f16 minimum, widened for
// all rows: many at a time, which takes a fraction of the instructions that each would take in its
// turn.
template <int kColumns, DType kType>
struct ScaleTable {
  static constexpr bool kUsed = block_of(kType).elements == 32;
  static constexpr int kMost = kUsed ? kLongestFewRows / 32 : 1;
  HWY_ALIGN float d[kColumns][kMost], m[kColumns][kMost];

  void Read(const std::uint8_t* b, std::int64_t ldb, std::int64_t count) {
    for (int c = 0; c < kColumns; ++c) ReadColumn(b + c * ldb, count, d[c], m[c]);
  }

 private:
  static HWY_INLINE void ReadColumn(const std::uint8_t* b, std::int64_t count, float* ds,
                                    float* ms) {
    constexpr std::int64_t kBytes = block_of(kType).bytes;
    std::int64_t i = 0;
#if HWY_TARGET <= HWY_AVX2
    const GroupTag df;
    const hn::Rebind<std::int32_t, GroupTag> di;
    const hn::Rebind<std::uint32_t, GroupTag> du;
    const auto offsets = hn::Mul(hn::Iota(di, 0), hn::Set(di, static_cast<std::int32_t>(kBytes)));
    while (count - i > 0 && count >= kGroupLanes) {
      i = HWY_MIN(i, count - kGroupLanes);  // the last ones overlap with those before
      const auto words = hn::BitCast(
          du, hn::GatherOffset(di, reinterpret_cast<const std::int32_t*>(b + i * kBytes), offsets));
      hn::StoreU(HalfBits(df, hn::And(words, hn::Set(du, 0xffffu))), df, ds + i);
      hn::StoreU(HalfBits(df, hn::ShiftRight<16>(words)), df, ms + i);
      i += kGroupLanes;
    }
#endif
    for (; i < count; ++i) {
      ds[i] = HalfAt(b + i * kBytes);
      ms[i] = HalfAt(b + i * kBytes + 2);
    }
  }
};
HWY_INLINE void SetScales(float d, float, float& scales) { scales = d; }
HWY_INLINE void SetScales(float d, float m, ScaleAndMinimum& scales) { scales = {d, m}; }

// DotBlock of skinny-inl.h for blocks: the same sums in the same order.
template <int kRows, int kColumns, DType kType>
HWY_INLINE void BlockDots(const ScaleTable<kColumns, kType>& table, const float* a,
                          std::int64_t lda, const std::uint8_t* b, std::int64_t ldb, std::int64_t k,
                          float* out, std::int64_t ldo) {
  using Blocks = Decoder<kType>;
  constexpr Block kBlock = block_of(kType);
  constexpr int kGroups = static_cast<int>(kBlock.elements / 32);
  const GroupTag d;
  GroupVec acc[kRows][kColumns];
  VITRINE_UNROLL
  for (int r = 0; r < kRows; ++r) {
    VITRINE_UNROLL
    for (int c = 0; c < kColumns; ++c) acc[r][c] = hn::Zero(d);
  }
  for (std::int64_t i = 0; i < k; i += kBlock.elements, b += kBlock.bytes) {
    typename Blocks::Scales scales[kColumns];
    VITRINE_UNROLL
    for (int c = 0; c < kColumns; ++c) {
      __builtin_prefetch(b + (c + kColumns) * ldb, 0, 2);
      if constexpr (kGroups == 1) SetScales(table.d[c][i / 32], table.m[c][i / 32], scales[c]);
      else scales[c] = Blocks::Begin(b + c * ldb);
    }
    for (int g = 0; g < kGroups; ++g) {
      VITRINE_UNROLL
      for (int c = 0; c < kColumns; ++c) {
        GroupVec group[kGroupVectors];
        Blocks::Group(b + c * ldb, scales[c], g, group);
        VITRINE_UNROLL
        for (int v = 0; v < kGroupVectors; ++v) {
          VITRINE_UNROLL
          for (int r = 0; r < kRows; ++r) {
            const auto row = hn::LoadU(d, a + r * lda + i + g * 32 + v * kGroupLanes);
            acc[r][c] = hn::MulAdd(row, group[v], acc[r][c]);
          }
        }
      }
    }
  }
  VITRINE_UNROLL
  for (int r = 0; r < kRows; ++r) {
    VITRINE_UNROLL
    for (int c = 0; c < kColumns; ++c) out[r * ldo + c] = hn::GetLane(hn::SumOfLanes(d, acc[r][c]));
  }
}

template <int kColumns, int kRows, DType kType>
HWY_INLINE void BlockDotPanel(const ScaleTable<kColumns, kType>& table, const float* a,
                              std::int64_t lda, std::int64_t m, const std::uint8_t* b,
                              std::int64_t ldb, std::int64_t k, float* out, std::int64_t ldo) {
  std::int64_t r = 0;
  for (; r + kRows <= m; r += kRows)
    BlockDots<kRows, kColumns>(table, a + r * lda, lda, b, ldb, k, out + r * ldo, ldo);
  if constexpr (kRows > 1) {
    if (r < m)
      BlockDotPanel<kColumns, kRows / 2>(table, a + r * lda, lda, m - r, b, ldb, k, out + r * ldo,
                                         ldo);
  }
}

// Columns from j on, kColumns at a time; returns the first that is left.
template <int kColumns, DType kType>
HWY_INLINE std::int64_t BlockDotColumns(std::int64_t j, const float* a, std::int64_t lda,
                                        std::int64_t m, const std::uint8_t* b, std::int64_t ldb,
                                        std::int64_t k, std::int64_t n, float* out,
                                        std::int64_t ldo) {
  ScaleTable<kColumns, kType> table;
  for (; j + kColumns <= n; j += kColumns) {
    if constexpr (ScaleTable<kColumns, kType>::kUsed) table.Read(b + j * ldb, ldb, k / 32);
    BlockDotPanel<kColumns, kDotRows>(table, a, lda, m, b + j * ldb, ldb, k, out + j, ldo);
  }
  return j;
}

template <class B>
HWY_INLINE void DotsOf(const B*, const float* a, std::int64_t lda, std::int64_t m,
                       const std::byte* b, std::int64_t first, std::int64_t ldb, std::int64_t k,
                       std::int64_t n, float* out, std::int64_t ldo) {
  Dots(a, lda, m, reinterpret_cast<const B*>(b) + first, ldb, k, n, out, ldo);
}
template <DType kType>
HWY_INLINE void DotsOf(const Decoder<kType>*, const float* a, std::int64_t lda, std::int64_t m,
                       const std::byte* b, std::int64_t first, std::int64_t ldb, std::int64_t k,
                       std::int64_t n, float* out, std::int64_t ldo) {
  const auto* from = reinterpret_cast<const std::uint8_t*>(b) + bytes_of(kType, first);
  const std::int64_t stride = bytes_of(kType, ldb);
  std::int64_t j = 0;
  // One column at a time the sums are the same: x86 without AVX2 makes do with that, and is compiled for in half the time.
#if !HWY_ARCH_X86 || HWY_TARGET <= HWY_AVX2
  j = BlockDotColumns<kDotColumns, kType>(0, a, lda, m, from, stride, k, n, out, ldo);
#endif
  BlockDotColumns<1, kType>(j, a, lda, m, from, stride, k, n, out, ldo);
}

void StoredDots(DType dtype, const float* a, std::int64_t lda, std::int64_t m, const std::byte* b,
                std::int64_t first, std::int64_t ldb, std::int64_t k, std::int64_t n, float* out,
                std::int64_t ldo) {
  const Block block = block_of(dtype);
  if (first % block.elements != 0 || k % block.elements != 0) {  // a head's part of a large block
    HWY_ALIGN float column[kLongestFewRows];
    for (std::int64_t j = 0; j < n; ++j) {
      Widen(dtype, b, first + j * ldb, k, column);
      Dots(a, lda, m, column, k, k, 1, out + j, ldo);
    }
    return;
  }
  ByType(dtype, [&](auto type) { DotsOf(type, a, lda, m, b, first, ldb, k, n, out, ldo); });
}

void StoredSpread(DType dtype, const float* at, std::int64_t m, const std::byte* b,
                  std::int64_t first, std::int64_t ldb, std::int64_t k, std::int64_t n, float* out,
                  std::int64_t ldo) {
  SpreadOf(at, m, Widened(dtype, b, first, ldb), k, n, out, ldo);
}

const Stored* StoredTable() {
  static constexpr Stored table{StoredSideBySide, StoredDots, StoredSpread, Widen};
  return &table;
}

// NOLINTNEXTLINE(google-readability-namespace-comments)
}  // namespace HWY_NAMESPACE
}  // namespace vitrine::simd
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace vitrine::simd {

HWY_EXPORT(StoredTable);

const Stored& stored() { return *HWY_DYNAMIC_DISPATCH(StoredTable)(); }

}  // namespace vitrine::simd
#endif  // HWY_ONCE
