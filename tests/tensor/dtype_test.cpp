#include "tensor/dtype.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <vector>

namespace vitrine {
namespace {

std::uint32_t bits_of(float x) { return std::bit_cast<std::uint32_t>(x); }

// Plain twins of the conversions, by arithmetic instead of by bits.
float half_by_arithmetic(std::uint16_t bits) {
  const float sign = (bits & 0x8000) != 0 ? -1.f : 1.f;
  const int exponent = (bits >> 10) & 31;
  const int mantissa = bits & 1023;
  if (exponent == 31) {
    return mantissa == 0 ? sign * std::numeric_limits<float>::infinity()
                         : std::numeric_limits<float>::quiet_NaN();
  }
  return exponent == 0 ? sign * std::ldexp(static_cast<float>(mantissa), -24)
                       : sign * std::ldexp(static_cast<float>(1024 + mantissa), exponent - 25);
}

// The nearest f16 by searching all finite ones: ties to the even pattern, beyond 65520 infinity.
std::uint16_t nearest_half(float x) {
  const std::uint16_t sign = std::signbit(x) ? 0x8000 : 0;
  const double magnitude = std::abs(static_cast<double>(x));
  if (magnitude >= 65520) return sign | 0x7c00;
  std::uint16_t
      low = 0,
      high = 0x7bff;  // patterns of non-negative finite halves are in the order of their values
  while (low < high) {
    const auto middle = static_cast<std::uint16_t>((low + high + 1) / 2);
    if (half_by_arithmetic(middle) <= magnitude) low = middle;
    else high = middle - 1;
  }
  if (low == 0x7bff) return sign | low;
  const double below = magnitude - half_by_arithmetic(low);
  const double above = half_by_arithmetic(static_cast<std::uint16_t>(low + 1)) - magnitude;
  const bool up = above < below || (above == below && low % 2 == 1);
  return static_cast<std::uint16_t>(sign | (low + (up ? 1 : 0)));
}

TEST(Half, EveryPatternToFloatAndBack) {
  for (int i = 0; i < 65536; ++i) {
    const Half half{static_cast<std::uint16_t>(i)};
    const float x = to_float(half);
    const Half back = to_half(x);
    if ((i & 0x7c00) == 0x7c00 && (i & 0x3ff) != 0) {
      ASSERT_TRUE(std::isnan(x)) << i;
      ASSERT_EQ(std::signbit(x), (i & 0x8000) != 0) << i;
      ASSERT_EQ(back.bits, i | 0x200) << "NaN keeps sign and payload and becomes quiet";
    } else {
      ASSERT_EQ(bits_of(x), bits_of(half_by_arithmetic(half.bits))) << i;
      ASSERT_EQ(back.bits, i);
    }
  }
}

TEST(Half, RoundsToNearestEven) {
  // Every midpoint between neighbours, and the floats just beside it.
  for (int i = 0; i < 0x7c00; ++i) {
    const float low = half_by_arithmetic(static_cast<std::uint16_t>(i));
    const float high =
        i == 0x7bff ? 65536.f : half_by_arithmetic(static_cast<std::uint16_t>(i + 1));
    const float middle = low / 2 + high / 2;
    for (const float x :
         {middle, std::nextafter(middle, 0.f), std::nextafter(middle, 1e9f), low, high}) {
      ASSERT_EQ(to_half(x).bits, nearest_half(x)) << x;
      ASSERT_EQ(to_half(-x).bits, nearest_half(x) | 0x8000) << x;
    }
  }
}

TEST(Half, SpecialFloats) {
  const float infinity = std::numeric_limits<float>::infinity();
  EXPECT_EQ(to_half(infinity).bits, 0x7c00);
  EXPECT_EQ(to_half(-infinity).bits, 0xfc00);
  EXPECT_EQ(to_half(std::numeric_limits<float>::max()).bits, 0x7c00);
  EXPECT_EQ(to_half(65519.996f).bits, 0x7bff);
  EXPECT_EQ(to_half(std::numeric_limits<float>::denorm_min()).bits, 0);
  EXPECT_EQ(to_half(-0.f).bits, 0x8000);
  EXPECT_TRUE(std::isnan(to_float(to_half(std::bit_cast<float>(0x7f800001u)))))
      << "a payload that does not fit";
}

TEST(BFloat16, EveryPatternToFloatAndBack) {
  for (int i = 0; i < 65536; ++i) {
    const BFloat16 b{static_cast<std::uint16_t>(i)};
    const float x = to_float(b);
    ASSERT_EQ(bits_of(x), static_cast<std::uint32_t>(i) << 16);
    const bool nan = (i & 0x7f80) == 0x7f80 && (i & 0x7f) != 0;
    ASSERT_EQ(to_bfloat16(x).bits, nan ? i | 0x40 : i);
  }
}

TEST(BFloat16, RoundsToNearestEven) {
  for (std::uint32_t top = 0; top < 0x7f80; ++top) {
    const std::uint32_t base = top << 16;
    const auto up = static_cast<std::uint16_t>(top + 1), down = static_cast<std::uint16_t>(top);
    ASSERT_EQ(to_bfloat16(std::bit_cast<float>(base | 0x7fffu)).bits, down);
    ASSERT_EQ(to_bfloat16(std::bit_cast<float>(base | 0x8000u)).bits, top % 2 == 0 ? down : up);
    ASSERT_EQ(to_bfloat16(std::bit_cast<float>(base | 0x8001u)).bits, up);
    ASSERT_EQ(to_bfloat16(std::bit_cast<float>(base | 0x80008001u)).bits, up | 0x8000);
  }
  EXPECT_TRUE(std::isnan(to_float(to_bfloat16(std::bit_cast<float>(0x7f800001u)))));
  EXPECT_TRUE(std::isnan(to_float(to_bfloat16(std::bit_cast<float>(0x7fffffffu)))));
}

TEST(DType, BulkConversionsAgreeWithSingleOnes) {
  std::vector<Half> halves(65536);
  std::vector<BFloat16> bfloats(65536);
  for (int i = 0; i < 65536; ++i) {
    halves[static_cast<std::size_t>(i)].bits = bfloats[static_cast<std::size_t>(i)].bits =
        static_cast<std::uint16_t>(i);
  }
  for (const std::int64_t n : {0, 1, 31, 32, 33, 65535, 65536}) {
    const auto size = static_cast<std::size_t>(n);
    std::vector<float> floats(size + 1, 7.f);
    to_float(halves.data(), floats.data(), n);
    for (std::size_t i = 0; i < size; ++i)
      ASSERT_EQ(bits_of(floats[i]), bits_of(to_float(halves[i])));
    std::vector<Half> back(size + 1, Half{7});
    to_half(floats.data(), back.data(), n);
    for (std::size_t i = 0; i < size; ++i) ASSERT_EQ(back[i].bits, to_half(floats[i]).bits);
    EXPECT_EQ(floats[size], 7.f);
    EXPECT_EQ(back[size].bits, 7);

    to_float(bfloats.data(), floats.data(), n);
    for (std::size_t i = 0; i < size; ++i)
      ASSERT_EQ(bits_of(floats[i]), bits_of(to_float(bfloats[i])));
    std::vector<BFloat16> bback(size + 1, BFloat16{7});
    to_bfloat16(floats.data(), bback.data(), n);
    for (std::size_t i = 0; i < size; ++i) ASSERT_EQ(bback[i].bits, to_bfloat16(floats[i]).bits);
    EXPECT_EQ(floats[size], 7.f);
    EXPECT_EQ(bback[size].bits, 7);
  }
}

TEST(DType, NamesAndSizes) {
  EXPECT_EQ(name_of(DType::f32), "f32");
  EXPECT_EQ(name_of(DType::f64), "f64");
  EXPECT_EQ(name_of(DType::f16), "f16");
  EXPECT_EQ(name_of(DType::bf16), "bf16");
  EXPECT_EQ(name_of(DType::i32), "i32");
  EXPECT_EQ(name_of(DType::i64), "i64");
  EXPECT_EQ(name_of(DType::boolean), "bool");
  EXPECT_EQ(size_of(DType::f64), 8);
  EXPECT_EQ(size_of(DType::bf16), 2);
  EXPECT_EQ(size_of(DType::boolean), 1);
  EXPECT_TRUE(is_float(DType::bf16) && !is_compute_float(DType::bf16) && is_integer(DType::i32));
}

}  // namespace
}  // namespace vitrine
