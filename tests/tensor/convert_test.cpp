#include "tensor/convert.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace vitrine {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

TEST(Convert, FloatToIntegerTruncatesAndSaturates) {
  EXPECT_EQ(convert<std::int32_t>(2.9), 2);
  EXPECT_EQ(convert<std::int32_t>(-2.9f), -2);
  EXPECT_EQ(convert<std::int32_t>(2147483647.0), 2147483647);
  EXPECT_EQ(convert<std::int32_t>(2147483648.0), 2147483647);
  EXPECT_EQ(convert<std::int32_t>(3e9f), 2147483647);
  EXPECT_EQ(convert<std::int32_t>(-3e9f), std::numeric_limits<std::int32_t>::min());
  EXPECT_EQ(convert<std::int64_t>(kInfinity), std::numeric_limits<std::int64_t>::max());
  EXPECT_EQ(convert<std::int64_t>(-kInfinity), std::numeric_limits<std::int64_t>::min());
  EXPECT_EQ(convert<std::int64_t>(0x1p62), std::int64_t{1} << 62);
  EXPECT_EQ(convert<std::int64_t>(kNaN), 0);
  EXPECT_EQ(convert<std::int32_t>(to_half(-7.5f)), -7);
}

TEST(Convert, IntegersSaturate) {
  EXPECT_EQ(convert<std::int32_t>(std::int64_t{1} << 40), 2147483647);
  EXPECT_EQ(convert<std::int32_t>(-(std::int64_t{1} << 40)),
            std::numeric_limits<std::int32_t>::min());
  EXPECT_EQ(convert<std::int32_t>(std::int64_t{-5}), -5);
  EXPECT_EQ(convert<std::int64_t>(std::int32_t{-5}), -5);
}

TEST(Convert, Booleans) {
  EXPECT_TRUE(convert<bool>(0.5));
  EXPECT_TRUE(convert<bool>(kNaN));
  EXPECT_FALSE(convert<bool>(-0.0));
  EXPECT_TRUE(convert<bool>(to_half(6e-8f)));
  EXPECT_FALSE(convert<bool>(std::int64_t{0}));
  EXPECT_EQ(convert<float>(true), 1.f);
  EXPECT_EQ(convert<BFloat16>(true).bits, 0x3f80);
  EXPECT_EQ(convert<std::int64_t>(true), 1);
}

TEST(Convert, DispatchMeetsEveryType) {
  for (const DType t :
       {DType::f32, DType::f64, DType::f16, DType::bf16, DType::i32, DType::i64, DType::boolean}) {
    const DType seen =
        dispatch(t, [](auto type) { return dtype_of<typename decltype(type)::type>; });
    EXPECT_EQ(seen, t);
  }
}

// Every pair of dtypes, over contiguous and over strided views, against the conversion of single
// elements.
TEST(Convert, ViewsOfEveryPairOfDtypes) {
  const std::vector<double> values{0, 1, -1, 2.5, -3.75, 1000, 0.001, 7, 8, 65504, 1e-7, -0.5};
  const std::vector<DType> all{DType::f32, DType::f64, DType::f16,    DType::bf16,
                               DType::i32, DType::i64, DType::boolean};
  for (const DType from : all) {
    const Tensor source = Tensor::of<double>({3, 4}, values).to(from);
    for (const DType to : all) {
      const Tensor target = Tensor::zeros({3, 4}, to);
      convert(source.view(), target.view());
      const Tensor crossed = Tensor::zeros({4, 3}, to);
      convert(source.transpose(0, 1).view(), crossed.view());
      const Tensor into = Tensor::zeros({4, 3}, to);
      convert(source.view(), into.transpose(0, 1).view());
      dispatch(from, [&](auto from_type) {
        using From = typename decltype(from_type)::type;
        dispatch(to, [&](auto to_type) {
          using To = typename decltype(to_type)::type;
          for (std::int64_t i = 0; i < 3; ++i) {
            for (std::int64_t j = 0; j < 4; ++j) {
              const To expected = convert<To>(source.at<From>({i, j}));
              EXPECT_EQ(convert<double>(target.at<To>({i, j})), convert<double>(expected));
              EXPECT_EQ(convert<double>(crossed.at<To>({j, i})), convert<double>(expected));
              EXPECT_EQ(convert<double>(into.at<To>({j, i})), convert<double>(expected));
            }
          }
        });
      });
    }
  }
}

}  // namespace
}  // namespace vitrine
