#include "tensor/dtype.h"

#include <fmt/format.h>

#include <bit>
#include <cstddef>

#include "tensor/error.h"

namespace vitrine {
namespace {

// f16 is 1 sign bit, 5 exponent bits (bias 15), 10 mantissa bits; f32 is 1, 8 (bias 127), 23. Both
// conversions are free of branches that the compiler cannot turn into selects, so that the bulk
// loops below become SIMD code.
constexpr std::uint32_t kMantissaShift = 23 - 10;
constexpr std::uint32_t kBiasShift = (127 - 15) << 23;

// A choice by masks: for `?:` over a float computation the compiler keeps the branch, and with it a
// scalar loop.
inline std::uint32_t select(bool choice, std::uint32_t yes, std::uint32_t no) {
  return no ^ ((yes ^ no) & (0u - static_cast<std::uint32_t>(choice)));
}

inline float half_to_float(std::uint16_t h) {
  const std::uint32_t sign = static_cast<std::uint32_t>(h & 0x8000u) << 16;
  const std::uint32_t magnitude = static_cast<std::uint32_t>(h & 0x7fffu) << kMantissaShift;
  const std::uint32_t exponent = magnitude & (0x7c00u << kMantissaShift);
  const std::uint32_t normal = magnitude + kBiasShift;
  const std::uint32_t special = normal + kBiasShift;  // infinity and NaN: the exponent becomes 255
  // A subnormal is mantissa * 2^-24. Placing the mantissa under the exponent of 2^-14 gives 2^-14 +
  // mantissa * 2^-24, and the subtraction takes the leading 2^-14 away exactly.
  constexpr float kSmallestNormal = 0x1p-14f;
  const float small =
      std::bit_cast<float>(magnitude + std::bit_cast<std::uint32_t>(kSmallestNormal)) -
      kSmallestNormal;
  const std::uint32_t finite = select(exponent == 0, std::bit_cast<std::uint32_t>(small), normal);
  const std::uint32_t bits = select(exponent == (0x7c00u << kMantissaShift), special, finite);
  return std::bit_cast<float>(bits | sign);
}

inline std::uint16_t float_to_half(float x) {
  const std::uint32_t bits = std::bit_cast<std::uint32_t>(x);
  const std::uint32_t sign = (bits >> 16) & 0x8000u;
  const std::uint32_t magnitude = bits & 0x7fffffffu;
  // Normal results: drop 13 mantissa bits, rounding half to even. A carry moves into the exponent,
  // as it should; from 65520 upwards it reaches infinity.
  const std::uint32_t odd = (magnitude >> kMantissaShift) & 1u;
  const std::uint32_t normal = (magnitude - kBiasShift + 0xfffu + odd) >> kMantissaShift;
  // Subnormal results are multiples of 2^-24, the last mantissa bit of numbers near 1/2: adding 1/2
  // makes the FPU round.
  const float shifted = std::bit_cast<float>(magnitude) + 0.5f;
  const std::uint32_t small =
      std::bit_cast<std::uint32_t>(shifted) - std::bit_cast<std::uint32_t>(0.5f);
  // NaN keeps the top of its payload and becomes quiet.
  const std::uint32_t nan = 0x7e00u | ((magnitude >> kMantissaShift) & 0x3ffu);
  const std::uint32_t finite =
      select(magnitude < std::bit_cast<std::uint32_t>(0x1p-14f), small, normal);
  const std::uint32_t number =
      select(magnitude >= std::bit_cast<std::uint32_t>(0x1p16f), 0x7c00u, finite);
  const std::uint32_t half = select(magnitude > 0x7f800000u, nan, number);
  return static_cast<std::uint16_t>(sign | half);
}

// bf16 is the upper half of an f32.
inline float bfloat_to_float(std::uint16_t b) {
  return std::bit_cast<float>(static_cast<std::uint32_t>(b) << 16);
}

inline std::uint16_t float_to_bfloat(float x) {
  const std::uint32_t bits = std::bit_cast<std::uint32_t>(x);
  const std::uint32_t rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
  const std::uint32_t nan = (bits >> 16) | 0x40u;
  return static_cast<std::uint16_t>((bits & 0x7fffffffu) > 0x7f800000u ? nan : rounded);
}

// Applies f(in[i], out[i]) to blocks of constant size and then to the rest: with a known trip count
// the compiler vectorises the inner loop at -O2 as well.
template <class In, class Out, class F>
inline void convert_all(const In* in, Out* out, std::int64_t n, F f) {
  constexpr std::int64_t kBlock = 32;
  std::int64_t i = 0;
  for (; i + kBlock <= n; i += kBlock) {
    for (std::int64_t j = 0; j < kBlock; ++j) f(in[i + j], out[i + j]);
  }
  for (; i < n; ++i) f(in[i], out[i]);
}

}  // namespace

float to_float(Half x) { return half_to_float(x.bits); }
float to_float(BFloat16 x) { return bfloat_to_float(x.bits); }
Half to_half(float x) { return Half{float_to_half(x)}; }
BFloat16 to_bfloat16(float x) { return BFloat16{float_to_bfloat(x)}; }

void to_float(const Half* in, float* out, std::int64_t n) {
  convert_all(in, out, n, [](Half x, float& y) { y = half_to_float(x.bits); });
}
void to_float(const BFloat16* in, float* out, std::int64_t n) {
  convert_all(in, out, n, [](BFloat16 x, float& y) { y = bfloat_to_float(x.bits); });
}
void to_half(const float* in, Half* out, std::int64_t n) {
  convert_all(in, out, n, [](float x, Half& y) { y.bits = float_to_half(x); });
}
void to_bfloat16(const float* in, BFloat16* out, std::int64_t n) {
  convert_all(in, out, n, [](float x, BFloat16& y) { y.bits = float_to_bfloat(x); });
}

void throw_blocked(DType t, std::string_view what) {
  throw ShapeError(
      fmt::format("{} was asked of {}, which stores blocks of {} elements; convert it with "
                  "to(f32) first",
                  what, name_of(t), block_of(t).elements));
}

std::string_view name_of(DType t) {
  switch (t) {
    case DType::f32:
      return "f32";
    case DType::f64:
      return "f64";
    case DType::f16:
      return "f16";
    case DType::bf16:
      return "bf16";
    case DType::i32:
      return "i32";
    case DType::i64:
      return "i64";
    case DType::boolean:
      return "bool";
    case DType::q8_0:
      return "q8_0";
    case DType::q4_0:
      return "q4_0";
    case DType::q4_1:
      return "q4_1";
    case DType::q5_0:
      return "q5_0";
    case DType::q5_1:
      return "q5_1";
    case DType::q2_k:
      return "q2_k";
    case DType::q3_k:
      return "q3_k";
    case DType::q4_k:
      return "q4_k";
    case DType::q5_k:
      return "q5_k";
    case DType::q6_k:
      return "q6_k";
  }
  return "unknown dtype";
}

}  // namespace vitrine
