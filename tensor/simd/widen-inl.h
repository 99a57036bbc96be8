// Stored numbers as vectors of f32: 16-bit floats, and groups of 32 elements of quantised blocks.
// Every step but the last addition is exact in f32, so that any order of them gives the bits of
// `widen` (tensor/blocks.h), the sign of zero included. Included once per CPU target, hence the
// unusual include guard.
#include "hwy/highway.h"

#if defined(VITRINE_TENSOR_SIMD_WIDEN_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef VITRINE_TENSOR_SIMD_WIDEN_INL_H_
#undef VITRINE_TENSOR_SIMD_WIDEN_INL_H_
#else
#define VITRINE_TENSOR_SIMD_WIDEN_INL_H_
#endif

#include <cstdint>
#include <cstring>

#include "tensor/dtype.h"

HWY_BEFORE_NAMESPACE();
namespace vitrine::simd {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// ---- 16-bit floats ------------------------------------------------------------------------------
// f16 bits in u32 lanes as f32, for CPUs without an instruction: half_to_float of dtype.cpp.
template <class D>
HWY_INLINE hn::Vec<D> HalfBits(D d, hn::Vec<hn::Rebind<std::uint32_t, D>> bits) {
  const hn::Rebind<std::uint32_t, D> du;
  const auto sign = hn::ShiftLeft<16>(hn::And(bits, hn::Set(du, 0x8000u)));
  const auto magnitude = hn::ShiftLeft<13>(hn::And(bits, hn::Set(du, 0x7fffu)));
  const auto bias = hn::Set(du, (127u - 15u) << 23), top = hn::Set(du, 0x7c00u << 13);
  const auto exponent = hn::And(magnitude, top), normal = hn::Add(magnitude, bias);
  const auto least = hn::Set(d, 0x1p-14f);
  const auto small = hn::Sub(hn::BitCast(d, hn::Add(magnitude, hn::BitCast(du, least))), least);
  auto out = hn::IfThenElse(hn::Eq(exponent, hn::Zero(du)), hn::BitCast(du, small), normal);
  out = hn::IfThenElse(hn::Eq(exponent, top), hn::Add(normal, bias), out);
  return hn::BitCast(d, hn::Or(out, sign));
}

template <class D>
HWY_INLINE hn::Vec<D> LoadWide(D d, const Half* p) {
#if HWY_TARGET <= HWY_AVX2 || HWY_TARGET == HWY_NEON
  const hn::Rebind<hwy::float16_t, D> dh;
  return hn::PromoteTo(d, hn::LoadU(dh, reinterpret_cast<const hwy::float16_t*>(p)));
#else
  const hn::Rebind<std::uint16_t, D> dh;
  const hn::Rebind<std::uint32_t, D> du;
  return HalfBits(d, hn::PromoteTo(du, hn::LoadU(dh, reinterpret_cast<const std::uint16_t*>(p))));
#endif
}
template <class D>
HWY_INLINE hn::Vec<D> LoadWide(D d, const BFloat16* p) {
  const hn::Rebind<std::uint16_t, D> dh;
  const hn::Rebind<std::uint32_t, D> du;
  const auto bits = hn::PromoteTo(du, hn::LoadU(dh, reinterpret_cast<const std::uint16_t*>(p)));
  return hn::BitCast(d, hn::ShiftLeft<16>(bits));
}
template <class D, class T>
HWY_INLINE hn::Vec<D> LoadWide(D d, const T* p) {  // what is not stored
  return hn::LoadU(d, p);
}

inline float Wide(Half x) { return to_float(x); }
inline float Wide(BFloat16 x) { return to_float(x); }
inline float Wide(float x) { return x; }
inline double Wide(double x) { return x; }

// ---- quantised blocks ---------------------------------------------------------------------------
// Vectors of at most 16 lanes: two or more make a group of 32 elements.
using GroupTag = hn::CappedTag<float, 16>;
using GroupVec = hn::Vec<GroupTag>;
constexpr int kGroupLanes = HWY_MIN(16, HWY_LANES(float));
constexpr int kGroupVectors = 32 / kGroupLanes;

HWY_INLINE float HalfAt(const std::uint8_t* p) {
#if HWY_TARGET <= HWY_AVX2 || HWY_TARGET == HWY_NEON
  const hn::FixedTag<float, 4> d;
  const hn::Rebind<hwy::float16_t, decltype(d)> dh;
  const hn::Rebind<std::uint16_t, decltype(d)> du;
  std::uint16_t bits;
  std::memcpy(&bits, p, sizeof bits);
  return hn::GetLane(hn::PromoteTo(d, hn::BitCast(dh, hn::Set(du, bits))));
#else
  Half x;
  std::memcpy(&x.bits, p, sizeof x.bits);
  return to_float(x);
#endif
}

using GroupInts = hn::Vec<hn::Rebind<std::int32_t, GroupTag>>;
HWY_INLINE GroupInts Bytes(const std::uint8_t* p) {
  const hn::Rebind<std::uint8_t, GroupTag> db;
  return hn::PromoteTo(hn::Rebind<std::int32_t, GroupTag>(), hn::LoadU(db, p));
}
HWY_INLINE GroupInts Ints(std::int32_t x) {
  return hn::Set(hn::Rebind<std::int32_t, GroupTag>(), x);
}
HWY_INLINE GroupVec Floats(GroupInts x) { return hn::ConvertTo(GroupTag(), x); }
HWY_INLINE GroupVec All(float x) { return hn::Set(GroupTag(), x); }

// Each decoder has `Scales`, what a block says of all its elements; Begin reads them; Group gives
// elements [32 g, 32 g + 32) of the block. Layouts are ggml-common.h's, in the comments.
template <DType kType>
struct Decoder;

template <>
struct Decoder<DType::q8_0> {  // f16 d; i8 q[32]: d q
  using Scales = float;
  static HWY_INLINE Scales Begin(const std::uint8_t* block) { return HalfAt(block); }
  static HWY_INLINE void Group(const std::uint8_t* block, Scales s, int, GroupVec* out) {
    const hn::Rebind<std::int8_t, GroupTag> db;
    const hn::Rebind<std::int32_t, GroupTag> di;
    const GroupVec d = All(s);
    for (int v = 0; v < kGroupVectors; ++v) {
      const auto q = reinterpret_cast<const std::int8_t*>(block + 2 + v * kGroupLanes);
      out[v] = hn::Mul(Floats(hn::PromoteTo(di, hn::LoadU(db, q))), d);
    }
  }
};

// Nibbles: the low ones of 16 bytes are the first 16 elements, the high ones the others.
HWY_INLINE GroupInts Nibbles(const std::uint8_t* q, int v) {
  constexpr int kHalf = kGroupVectors / 2;
  const GroupInts bytes = Bytes(q + v % kHalf * kGroupLanes);
  return v < kHalf ? hn::And(bytes, Ints(15)) : hn::ShiftRight<4>(bytes);
}
// 16 where the bit of the element is set.
HWY_INLINE GroupInts FifthBit(std::uint32_t bits, int v) {
  const hn::Rebind<std::int32_t, GroupTag> di;
  const GroupInts own = hn::Shl(Ints(1), hn::Iota(di, v * kGroupLanes));
  const auto set = hn::Ne(hn::And(Ints(static_cast<std::int32_t>(bits)), own), hn::Zero(di));
  return hn::IfThenElseZero(set, Ints(16));
}
HWY_INLINE std::uint32_t Word(const std::uint8_t* p) {
  std::uint32_t word;
  std::memcpy(&word, p, sizeof word);
  return word;
}
struct ScaleAndMinimum {
  float d, m;
};

template <>
struct Decoder<DType::q4_0> {  // f16 d; nibbles q[32]: d (q - 8)
  using Scales = float;
  static HWY_INLINE Scales Begin(const std::uint8_t* block) { return HalfAt(block); }
  static HWY_INLINE void Group(const std::uint8_t* block, Scales s, int, GroupVec* out) {
    const GroupVec d = All(s);
    for (int v = 0; v < kGroupVectors; ++v)
      out[v] = hn::Mul(Floats(hn::Sub(Nibbles(block + 2, v), Ints(8))), d);
  }
};
template <>
struct Decoder<DType::q4_1> {  // f16 d, m; nibbles q[32]: d q + m
  using Scales = ScaleAndMinimum;
  static HWY_INLINE Scales Begin(const std::uint8_t* block) {
    return {HalfAt(block), HalfAt(block + 2)};
  }
  static HWY_INLINE void Group(const std::uint8_t* block, Scales s, int, GroupVec* out) {
    const GroupVec d = All(s.d), m = All(s.m);
    for (int v = 0; v < kGroupVectors; ++v)
      out[v] = hn::MulAdd(Floats(Nibbles(block + 4, v)), d, m);
  }
};
template <>
struct Decoder<DType::q5_0> {  // f16 d; u32 fifth bits; nibbles: d (q - 16)
  using Scales = float;
  static HWY_INLINE Scales Begin(const std::uint8_t* block) { return HalfAt(block); }
  static HWY_INLINE void Group(const std::uint8_t* block, Scales s, int, GroupVec* out) {
    const std::uint32_t fifth = Word(block + 2);
    const GroupVec d = All(s);
    for (int v = 0; v < kGroupVectors; ++v) {
      const GroupInts q = hn::Or(Nibbles(block + 6, v), FifthBit(fifth, v));
      out[v] = hn::Mul(Floats(hn::Sub(q, Ints(16))), d);
    }
  }
};
template <>
struct Decoder<DType::q5_1> {  // f16 d, m; u32 fifth bits; nibbles: d q + m
  using Scales = ScaleAndMinimum;
  static HWY_INLINE Scales Begin(const std::uint8_t* block) {
    return {HalfAt(block), HalfAt(block + 2)};
  }
  static HWY_INLINE void Group(const std::uint8_t* block, Scales s, int, GroupVec* out) {
    const std::uint32_t fifth = Word(block + 4);
    const GroupVec d = All(s.d), m = All(s.m);
    for (int v = 0; v < kGroupVectors; ++v) {
      const GroupInts q = hn::Or(Nibbles(block + 8, v), FifthBit(fifth, v));
      out[v] = hn::MulAdd(Floats(q), d, m);
    }
  }
};

// ---- K types: blocks of 256 whose groups have scales of their own -------------------------------
// Scale and minimum of group g, 6 bits each, of the 12 bytes of q4_k and q5_k.
struct SixBits {
  int scale, minimum;
};
HWY_INLINE SixBits SixBitsOf(const std::uint8_t* s, int g) {
  if (g < 4) return {s[g] & 63, s[g + 4] & 63};
  return {(s[g + 4] & 15) | ((s[g - 4] >> 6) << 4), (s[g + 4] >> 4) | ((s[g] >> 6) << 4)};
}
// Bits [shift, shift + width) of each of 32 bytes.
HWY_INLINE GroupInts Field(const std::uint8_t* p, int v, int shift, int mask) {
  return hn::And(hn::ShiftRightSame(Bytes(p + v * kGroupLanes), shift), Ints(mask));
}

template <>
struct Decoder<DType::q4_k> {  // f16 d, dmin; 12 bytes of scales; nibbles: d sc q - dmin min
  using Scales = ScaleAndMinimum;
  static HWY_INLINE Scales Begin(const std::uint8_t* block) {
    return {HalfAt(block), HalfAt(block + 2)};
  }
  static HWY_INLINE void Group(const std::uint8_t* block, Scales s, int g, GroupVec* out) {
    const SixBits bits = SixBitsOf(block + 4, g);
    const GroupVec d = All(s.d * static_cast<float>(bits.scale)),
                   m = All(-s.m * static_cast<float>(bits.minimum));
    const std::uint8_t* q = block + 16 + g / 2 * 32;
    for (int v = 0; v < kGroupVectors; ++v)
      out[v] = hn::MulAdd(Floats(Field(q, v, g % 2 * 4, 15)), d, m);
  }
};
template <>
struct Decoder<DType::q5_k> {  // as q4_k, with fifth bits [32] before the nibbles, bit g of each
  using Scales = ScaleAndMinimum;
  static HWY_INLINE Scales Begin(const std::uint8_t* block) {
    return {HalfAt(block), HalfAt(block + 2)};
  }
  static HWY_INLINE void Group(const std::uint8_t* block, Scales s, int g, GroupVec* out) {
    const SixBits bits = SixBitsOf(block + 4, g);
    const GroupVec d = All(s.d * static_cast<float>(bits.scale)),
                   m = All(-s.m * static_cast<float>(bits.minimum));
    const std::uint8_t* q = block + 48 + g / 2 * 32;
    for (int v = 0; v < kGroupVectors; ++v) {
      const GroupInts fifth = hn::ShiftLeft<4>(Field(block + 16, v, g, 1));
      out[v] = hn::MulAdd(Floats(hn::Or(Field(q, v, g % 2 * 4, 15), fifth)), d, m);
    }
  }
};
template <>
struct Decoder<DType::q6_k> {  // nibbles [128]; 2 bits each [64]; i8 sc[16]; f16 d: d sc (q - 32)
  using Scales = float;
  static HWY_INLINE Scales Begin(const std::uint8_t* block) { return HalfAt(block + 208); }
  static HWY_INLINE void Group(const std::uint8_t* block, Scales s, int g, GroupVec* out) {
    const int half = g / 4, part = g % 4;
    const std::uint8_t *low = block + half * 64 + part % 2 * 32, *high = block + 128 + half * 32;
    const std::uint8_t* scales = block + 192 + 2 * g;
    for (int v = 0; v < kGroupVectors; ++v) {
      const auto sc = static_cast<std::int8_t>(scales[v * kGroupLanes / 16]);
      const float d = s * static_cast<float>(sc);
      const GroupInts top = hn::ShiftLeft<4>(Field(high, v, 2 * part, 3));
      const GroupInts q = hn::Or(Field(low, v, part / 2 * 4, 15), top);
      out[v] = hn::Mul(Floats(hn::Sub(q, Ints(32))), All(d));
    }
  }
};
template <>
struct Decoder<DType::q2_k> {  // sc[16], two nibbles each; 2 bits each [64]; f16 d, dmin
  using Scales = ScaleAndMinimum;
  static HWY_INLINE Scales Begin(const std::uint8_t* block) {
    return {HalfAt(block + 80), HalfAt(block + 82)};
  }
  static HWY_INLINE void Group(const std::uint8_t* block, Scales s, int g, GroupVec* out) {
    const std::uint8_t *q = block + 16 + g / 4 * 32, *scales = block + 2 * g;
    for (int v = 0; v < kGroupVectors; ++v) {
      const int sc = scales[v * kGroupLanes / 16];
      out[v] = hn::MulAdd(Floats(Field(q, v, g % 4 * 2, 3)), All(s.d * static_cast<float>(sc & 15)),
                          All(-s.m * static_cast<float>(sc >> 4)));
    }
  }
};
template <>
struct Decoder<
    DType::q3_k> {  // third bits [32]; 2 bits each [64]; 12 bytes of sc; f16 d: d sc (q - 4)
  using Scales = float;
  static HWY_INLINE Scales Begin(const std::uint8_t* block) { return HalfAt(block + 108); }
  // sc of 16 elements, 6 bits less 32: low nibbles first, then the two high bits.
  static HWY_INLINE int Scale(const std::uint8_t* s, int i) {
    const int low = i < 8 ? s[i] & 15 : s[i - 8] >> 4;
    return (low | ((s[8 + i % 4] >> (i / 4 * 2)) & 3) << 4) - 32;
  }
  static HWY_INLINE void Group(const std::uint8_t* block, Scales s, int g, GroupVec* out) {
    const std::uint8_t* q = block + 32 + g / 4 * 32;
    for (int v = 0; v < kGroupVectors; ++v) {
      const float d = s * static_cast<float>(Scale(block + 96, 2 * g + v * kGroupLanes / 16));
      const GroupInts third = hn::ShiftLeft<2>(Field(block, v, g, 1));
      const GroupInts value = hn::Sub(hn::Or(Field(q, v, g % 4 * 2, 3), third), Ints(4));
      out[v] = hn::Mul(Floats(value), All(d));
    }
  }
};

// NOLINTNEXTLINE(google-readability-namespace-comments)
}  // namespace HWY_NAMESPACE
}  // namespace vitrine::simd
HWY_AFTER_NAMESPACE();

#endif  // include guard
