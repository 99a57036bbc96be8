// Element types. f32 and f64 compute; f16 and bf16 are storage, converted on load; i32 and i64
// index; boolean masks.
#pragma once

#include <cstdint>
#include <string_view>

namespace vitrine {

enum class DType : std::uint8_t { f32, f64, f16, bf16, i32, i64, boolean };

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

// Bytes of one element.
constexpr std::int64_t size_of(DType t) {
  switch (t) {
    case DType::f64:
    case DType::i64:
      return 8;
    case DType::f32:
    case DType::i32:
      return 4;
    case DType::f16:
    case DType::bf16:
      return 2;
    case DType::boolean:
      return 1;
  }
  return 0;
}

// "f32", "bool", ...
std::string_view name_of(DType t);

constexpr bool is_compute_float(DType t) { return t == DType::f32 || t == DType::f64; }
constexpr bool is_float(DType t) {
  return is_compute_float(t) || t == DType::f16 || t == DType::bf16;
}
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
