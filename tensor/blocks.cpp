#include "tensor/blocks.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <vector>

#include "tensor/convert.h"
#include "tensor/error.h"

namespace vitrine {
namespace {

using Byte = std::uint8_t;

float half_at(const Byte* at) {
  Half h;
  std::memcpy(&h.bits, at, sizeof h.bits);
  return to_float(h);
}

constexpr int kSmallBlock = 32;   // Q8_0, Q4_0, Q4_1, Q5_0, Q5_1
constexpr int kLargeBlock = 256;  // the K types

// One block each: `b` its bytes, `y` its elements.

void widen_q8_0(const Byte* b, float* y) {  // d, q[32]
  const float d = half_at(b);
  for (int j = 0; j < kSmallBlock; ++j)
    y[j] = d * static_cast<float>(static_cast<std::int8_t>(b[2 + j]));
}

// The low nibbles are the first half of the block, the high ones the second.
void widen_q4_0(const Byte* b, float* y) {  // d, q[16]
  const float d = half_at(b);
  for (int j = 0; j < kSmallBlock / 2; ++j) {
    y[j] = d * static_cast<float>((b[2 + j] & 15) - 8);
    y[j + 16] = d * static_cast<float>((b[2 + j] >> 4) - 8);
  }
}

void widen_q4_1(const Byte* b, float* y) {  // d, m, q[16]
  const float d = half_at(b), m = half_at(b + 2);
  for (int j = 0; j < kSmallBlock / 2; ++j) {
    y[j] = d * static_cast<float>(b[4 + j] & 15) + m;
    y[j + 16] = d * static_cast<float>(b[4 + j] >> 4) + m;
  }
}

// The fifth bit of element j is bit j of `high`.
struct FiveBits {
  const Byte* low;
  std::uint32_t high;
  FiveBits(const Byte* bits, const Byte* nibbles) : low(nibbles) {
    std::memcpy(&high, bits, sizeof high);
  }
  int first(int j) const { return (low[j] & 15) | static_cast<int>(high >> j << 4 & 16); }
  int second(int j) const { return (low[j] >> 4) | static_cast<int>(high >> (j + 16) << 4 & 16); }
};

void widen_q5_0(const Byte* b, float* y) {  // d, high bits[4], q[16]
  const float d = half_at(b);
  const FiveBits q(b + 2, b + 6);
  for (int j = 0; j < kSmallBlock / 2; ++j) {
    y[j] = d * static_cast<float>(q.first(j) - 16);
    y[j + 16] = d * static_cast<float>(q.second(j) - 16);
  }
}

void widen_q5_1(const Byte* b, float* y) {  // d, m, high bits[4], q[16]
  const float d = half_at(b), m = half_at(b + 2);
  const FiveBits q(b + 4, b + 8);
  for (int j = 0; j < kSmallBlock / 2; ++j) {
    y[j] = d * static_cast<float>(q.first(j)) + m;
    y[j + 16] = d * static_cast<float>(q.second(j)) + m;
  }
}

// Q2_K and Q3_K: 16 parts of 16 elements. Each half of the block has 32 bytes of q, whose bits 0-1
// are the first 32 elements of that half, bits 2-3 the next.

void widen_q2_k(const Byte* b, float* y) {  // scale | min << 4 [16], q[64], d, dmin
  const float d = half_at(b + 80), dmin = half_at(b + 82);
  for (int part = 0; part < 16; ++part) {
    const Byte* q = b + 16 + part / 8 * 32 + part % 2 * 16;
    const int shift = part % 8 / 2 * 2;
    const float scale = d * static_cast<float>(b[part] & 15);
    const float min = dmin * static_cast<float>(b[part] >> 4);
    for (int j = 0; j < 16; ++j)
      y[part * 16 + j] = scale * static_cast<float>(q[j] >> shift & 3) - min;
  }
}

void widen_q3_k(const Byte* b, float* y) {  // high bits[32], q[64], scales[12], d
  const float d = half_at(b + 108);
  const Byte* packed = b + 96;
  for (int part = 0; part < 16; ++part) {
    const Byte* q = b + 32 + part / 8 * 32 + part % 2 * 16;
    const Byte* high = b + part % 2 * 16;
    const int shift = part % 8 / 2 * 2, bit = part / 2;
    // Six bits, 32 too many: four in the first eight bytes, two in the last four.
    const int low = part < 8 ? packed[part] & 15 : packed[part - 8] >> 4;
    const int six = low | (packed[8 + part % 4] >> (part / 4 * 2) & 3) << 4;
    const float scale = d * static_cast<float>(six - 32);
    for (int j = 0; j < 16; ++j) {
      const int value = (q[j] >> shift & 3) + ((high[j] >> bit & 1) << 2) - 4;
      y[part * 16 + j] = scale * static_cast<float>(value);
    }
  }
}

// Q4_K and Q5_K: eight parts of 32 elements; 12 bytes hold a scale and a min of six bits for each.
struct ScaleAndMin {
  float scale, min;
  ScaleAndMin(const Byte* b, int part) {  // b: d, dmin, packed[12]
    const Byte* packed = b + 4;
    const int s =
        part < 4 ? packed[part] & 63 : (packed[part + 4] & 15) | (packed[part - 4] >> 6) << 4;
    const int m =
        part < 4 ? packed[part + 4] & 63 : packed[part + 4] >> 4 | (packed[part] >> 6) << 4;
    scale = half_at(b) * static_cast<float>(s);
    min = half_at(b + 2) * static_cast<float>(m);
  }
};

void widen_q4_k(const Byte* b, float* y) {  // d, dmin, scales[12], q[128]
  for (int part = 0; part < 8; ++part) {
    const ScaleAndMin of(b, part);
    const Byte* q =
        b + 16 + part / 2 * 32;  // the low nibbles are this part, the high ones the next
    const int shift = part % 2 * 4;
    for (int j = 0; j < 32; ++j)
      y[part * 32 + j] = of.scale * static_cast<float>(q[j] >> shift & 15) - of.min;
  }
}

void widen_q5_k(const Byte* b, float* y) {  // d, dmin, scales[12], high bits[32], q[128]
  const Byte* high = b + 16;
  for (int part = 0; part < 8; ++part) {
    const ScaleAndMin of(b, part);
    const Byte* q = b + 48 + part / 2 * 32;
    const int shift = part % 2 * 4;
    for (int j = 0; j < 32; ++j) {
      const int value = (q[j] >> shift & 15) + ((high[j] >> part & 1) << 4);
      y[part * 32 + j] = of.scale * static_cast<float>(value) - of.min;
    }
  }
}

void widen_q6_k(const Byte* b, float* y) {  // low nibbles[128], high bits[64], scales[16], d
  const float d = half_at(b + 208);
  for (int part = 0; part < 16; ++part) {  // of 16 elements
    const int half = part / 8, quarter = part % 8 / 2, begin = part % 2 * 16;
    const Byte* low = b + half * 64 + quarter % 2 * 32 + begin;
    const Byte* high = b + 128 + half * 32 + begin;
    const int low_shift = quarter / 2 * 4, high_shift = quarter * 2;
    const float scale = d * static_cast<float>(static_cast<std::int8_t>(b[192 + part]));
    for (int j = 0; j < 16; ++j) {
      const int value = (low[j] >> low_shift & 15) + ((high[j] >> high_shift & 3) << 4) - 32;
      y[part * 16 + j] = scale * static_cast<float>(value);
    }
  }
}

// A blocked type: how one block is widened, and where its f16 scale and minimum are (-1: none).
struct BlockedType {
  void (*widen)(const Byte* b, float* y);
  int scale, min;
};
BlockedType blocked_type(DType t) {
  switch (t) {
    case DType::q8_0:
      return {widen_q8_0, 0, -1};
    case DType::q4_0:
      return {widen_q4_0, 0, -1};
    case DType::q4_1:
      return {widen_q4_1, 0, 2};
    case DType::q5_0:
      return {widen_q5_0, 0, -1};
    case DType::q5_1:
      return {widen_q5_1, 0, 2};
    case DType::q2_k:
      return {widen_q2_k, 80, 82};
    case DType::q3_k:
      return {widen_q3_k, 108, -1};
    case DType::q4_k:
      return {widen_q4_k, 0, 2};
    case DType::q5_k:
      return {widen_q5_k, 0, 2};
    case DType::q6_k:
      return {widen_q6_k, 208, -1};
    default:
      throw ShapeError(
          fmt::format("{} is no floating-point type, and cannot be widened to f32", name_of(t)));
  }
}

// Elements of 16 bits, wherever they lie: the bulk conversions want them aligned.
template <class T>
void widen_16_bits(const std::byte* from, float* to, std::int64_t n) {
  if (reinterpret_cast<std::uintptr_t>(from) % alignof(T) == 0)
    return to_float(reinterpret_cast<const T*>(from), to, n);
  constexpr std::int64_t kPiece = 512;
  T piece[kPiece];
  for (std::int64_t i = 0; i < n; i += kPiece) {
    const std::int64_t count = std::min(kPiece, n - i);
    std::memcpy(piece, from + i * 2, static_cast<std::size_t>(count) * 2);
    to_float(piece, to + i, count);
  }
}

// One row of whole blocks to `to`, a step apart; `row` has room for it as f32.
void widen_row(DType dtype, const std::byte* from, const View& to, std::byte* out,
               std::int64_t step, std::int64_t n, std::vector<float>& row) {
  if (to.dtype == DType::f32 && step == 1)
    return widen(dtype, from, reinterpret_cast<float*>(out), n);
  row.resize(static_cast<std::size_t>(n));
  widen(dtype, from, row.data(), n);
  dispatch(to.dtype, [&]<class T>(std::type_identity<T>) {
    T* element = reinterpret_cast<T*>(out);
    for (std::int64_t i = 0; i < n; ++i)
      element[i * step] = convert<T>(row[static_cast<std::size_t>(i)]);
  });
}

}  // namespace

void widen(DType dtype, const std::byte* from, float* to, std::int64_t n) {
  switch (dtype) {
    case DType::f32:
      std::memcpy(to, from, static_cast<std::size_t>(n) * sizeof(float));
      return;
    case DType::f16:
      return widen_16_bits<Half>(from, to, n);
    case DType::bf16:
      return widen_16_bits<BFloat16>(from, to, n);
    default:
      break;
  }
  const BlockedType type = blocked_type(dtype);
  const Block block = block_of(dtype);
  const Byte* b = reinterpret_cast<const Byte*>(from);
  for (std::int64_t i = 0; i < n; i += block.elements, b += block.bytes) type.widen(b, to + i);
}

bool blocks_are_finite(DType dtype, const std::byte* from, std::int64_t n) {
  const BlockedType type = blocked_type(dtype);
  const Block block = block_of(dtype);
  const Byte* b = reinterpret_cast<const Byte*>(from);
  for (std::int64_t i = 0; i < n; i += block.elements, b += block.bytes) {
    if (!std::isfinite(half_at(b + type.scale))) return false;
    if (type.min >= 0 && !std::isfinite(half_at(b + type.min))) return false;
  }
  return true;
}

int block_axis(const Layout& layout, DType dtype) {
  const std::int64_t block = block_of(dtype).elements;
  for (int i = layout.shape.size() - 1; i >= 0; --i) {
    if (layout.shape[i] > 1 && layout.strides[i] == 1 && layout.shape[i] % block == 0) return i;
  }
  return -1;
}

void check_blocks(const Layout& layout, DType dtype) {
  if (!is_blocked(dtype) || std::count(layout.shape.begin(), layout.shape.end(), 0) > 0) return;
  const std::int64_t block = block_of(dtype).elements;
  const int along = block_axis(layout, dtype);
  bool whole = along >= 0 && layout.offset % block == 0;
  for (int i = 0; whole && i < layout.shape.size(); ++i)
    whole = i == along || layout.shape[i] == 1 || layout.strides[i] % block == 0;
  if (whole) return;
  throw ShapeError(fmt::format(
      "{} stores blocks of {} elements, and a tensor of shape {} and strides {} would cut them; it "
      "needs whole blocks along one axis of stride 1: convert it with to(f32) first",
      name_of(dtype), block, to_string(layout.shape), to_string(layout.strides)));
}

void convert_blocks(const View& from, const View& to) {
  const bool copies = from.dtype == to.dtype;
  if (!copies && is_blocked(to.dtype)) {
    throw ShapeError(fmt::format("{} cannot become {}: blocks are read from files, not made",
                                 name_of(from.dtype), name_of(to.dtype)));
  }
  // Row by row along the axis of the blocks; the others are counted through.
  const int along = block_axis({from.shape, from.strides, 0}, from.dtype);
  if (copies && to.strides[along] != 1) {
    throw ShapeError(
        fmt::format("a copy of {}{} would cut its blocks, which lie along axis {}: convert it with "
                    "to(f32) first",
                    name_of(from.dtype), to_string(from.shape), along));
  }
  const std::int64_t n = from.shape[along], rows = from.numel() / n;
  std::vector<float> buffer;
  for (std::int64_t row = 0; row < rows; ++row) {
    std::int64_t rest = row, from_at = 0, to_at = 0;
    for (int i = from.rank() - 1; i >= 0; --i) {
      if (i == along) continue;
      from_at += rest % from.shape[i] * from.strides[i];
      to_at += rest % from.shape[i] * to.strides[i];
      rest /= from.shape[i];
    }
    const std::byte* source = from.data + bytes_of(from.dtype, from_at);
    std::byte* target = to.data + bytes_of(to.dtype, to_at);
    if (copies) std::memcpy(target, source, static_cast<std::size_t>(bytes_of(from.dtype, n)));
    else widen_row(from.dtype, source, to, target, to.strides[along], n, buffer);
  }
}

}  // namespace vitrine
