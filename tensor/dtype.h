// Element types. f32 and f64 compute; f16, bf16 and GGUF's block-quantised types are storage,
// widened when they are read; i32 and i64 index; boolean masks.
#pragma once

#include <cstdint>
#include <string_view>

namespace vitrine {

enum class DType : std::uint8_t {
  f32,
  f64,
  f16,
  bf16,
  i32,
  i64,
  boolean,
  // Blocks of quantised floats that share a scale (tensor/blocks.h): storage only, read from files.
  q8_0,
  q4_0,
  q4_1,
  q5_0,
  q5_1,
  q2_k,
  q3_k,
  q4_k,
  q5_k,
  q6_k
};

// Storage-only 16-bit floats: arithmetic happens after conversion to f32.
struct Half {
  std::uint16_t bits = 0;
};
struct BFloat16 {
  std::uint16_t bits = 0;
};

// IEEE 754 conversions, round to nearest even; infinities, NaN and subnormals keep their meaning.
float to_float(Half x);
float to_float(BFloat16 x);
Half to_half(float x);
BFloat16 to_bfloat16(float x);

// The same over n elements at contiguous addresses, in SIMD: models are loaded through these.
void to_float(const Half* in, float* out, std::int64_t n);
void to_float(const BFloat16* in, float* out, std::int64_t n);
void to_half(const float* in, Half* out, std::int64_t n);
void to_bfloat16(const float* in, BFloat16* out, std::int64_t n);

// The least that is stored of a type: so many elements, neighbours along one axis, in so many bytes.
struct Block {
  std::int64_t elements;
  std::int64_t bytes;
};
constexpr Block block_of(DType t) {
  switch (t) {
    case DType::f64:
    case DType::i64:
      return {1, 8};
    case DType::f32:
    case DType::i32:
      return {1, 4};
    case DType::f16:
    case DType::bf16:
      return {1, 2};
    case DType::boolean:
      return {1, 1};
    case DType::q8_0:
      return {32, 34};
    case DType::q4_0:
      return {32, 18};
    case DType::q4_1:
      return {32, 20};
    case DType::q5_0:
      return {32, 22};
    case DType::q5_1:
      return {32, 24};
    case DType::q2_k:
      return {256, 84};
    case DType::q3_k:
      return {256, 110};
    case DType::q4_k:
      return {256, 144};
    case DType::q5_k:
      return {256, 176};
    case DType::q6_k:
      return {256, 210};
  }
  return {1, 0};
}
constexpr bool is_blocked(DType t) { return block_of(t).elements > 1; }

// Bytes of `numel` elements: the size of a whole tensor, or the distance of two elements. Where the
// type is blocked, `numel` is a multiple of its block.
constexpr std::int64_t bytes_of(DType t, std::int64_t numel) {
  return numel / block_of(t).elements * block_of(t).bytes;
}

// Throws ShapeError: `what` needs elements of their own, which a blocked type does not have.
[[noreturn]] void throw_blocked(DType t, std::string_view what);

// Bytes of one element. Throws ShapeError for blocked types, where none has a size of its own.
constexpr std::int64_t size_of(DType t) {
  if (is_blocked(t)) throw_blocked(t, "the size of an element");
  return block_of(t).bytes;
}

// "f32", "bool", "q4_k", ...
std::string_view name_of(DType t);

constexpr bool is_compute_float(DType t) { return t == DType::f32 || t == DType::f64; }
// Floats that are stored and not computed with: a product reads them where they are.
constexpr bool is_stored_float(DType t) {
  return t == DType::f16 || t == DType::bf16 || is_blocked(t);
}
constexpr bool is_float(DType t) { return is_compute_float(t) || is_stored_float(t); }
constexpr bool is_integer(DType t) { return t == DType::i32 || t == DType::i64; }

template <class T>
inline constexpr DType dtype_of = [] {
  static_assert(sizeof(T) == 0, "no dtype for this C++ type");
  return DType::f32;
}();
template <>
inline constexpr DType dtype_of<float> = DType::f32;
template <>
inline constexpr DType dtype_of<double> = DType::f64;
template <>
inline constexpr DType dtype_of<Half> = DType::f16;
template <>
inline constexpr DType dtype_of<BFloat16> = DType::bf16;
template <>
inline constexpr DType dtype_of<std::int32_t> = DType::i32;
template <>
inline constexpr DType dtype_of<std::int64_t> = DType::i64;
template <>
inline constexpr DType dtype_of<bool> = DType::boolean;

}  // namespace vitrine
