#include "tensor/random.h"

#include <gtest/gtest.h>

#include <cmath>
#include <set>
#include <vector>

#include "tests/tensor/expect_error.h"

namespace vitrine::random {
namespace {

using Words = std::array<std::uint32_t, 4>;

// The vectors published with Random123 (kat_vectors, philox4x32 with 10 rounds).
TEST(Philox, PublishedVectors) {
  constexpr std::uint32_t kOnes = 0xffffffff;
  EXPECT_EQ(philox4x32({0, 0}, {0, 0, 0, 0}),
            (Words{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  EXPECT_EQ(philox4x32({kOnes, kOnes}, {kOnes, kOnes, kOnes, kOnes}),
            (Words{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ(philox4x32({0xa4093822, 0x299f31d0}, {0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}),
            (Words{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

TEST(Philox, KeyAndCounterAreLittleEndianWords) {
  EXPECT_EQ(philox(Key{0x299f31d0a4093822}, 0x85a308d3243f6a88),
            philox4x32({0xa4093822, 0x299f31d0}, {0x243f6a88, 0x85a308d3, 0, 0}));
}

TEST(Random, BitsAreTheWordsInOrder) {
  const Key key{42};
  for (std::uint64_t block = 0; block < 10; ++block) {
    const Words words = philox(key, block);
    EXPECT_EQ(bits(key, 2 * block), words[0] | static_cast<std::uint64_t>(words[1]) << 32);
    EXPECT_EQ(bits(key, 2 * block + 1), words[2] | static_cast<std::uint64_t>(words[3]) << 32);
  }
}

TEST(Random, FoldingGivesIndependentStreams) {
  const Key key{7};
  std::set<std::uint64_t> values{key.value};
  for (std::uint64_t i = 0; i < 1000; ++i) values.insert(key.fold(i).value);
  for (const char* name : {"", "a", "b", "ab", "dropout", "init"})
    values.insert(key.fold(name).value);
  for (std::uint64_t i = 0; i < 1000; ++i) values.insert(bits(key, i));
  EXPECT_EQ(values.size(), 1u + 1000 + 6 + 1000)
      << "no fold meets another, nor a draw of the parent";
  EXPECT_EQ(key.fold("dropout").value, key.fold("dropout").value);
  EXPECT_NE(key.fold("a").fold("b").value, key.fold("b").fold("a").value);
  EXPECT_NE(key.fold(1).value, Key{8}.fold(1).value);
}

TEST(Random, UniformMoments) {
  const Key key{1};
  constexpr int kDraws = 200000;
  double sum = 0, squares = 0, low = 1, high = 0;
  std::vector<int> bins(16, 0);
  for (std::uint64_t i = 0; i < kDraws; ++i) {
    const double x = uniform(key, i);
    ASSERT_TRUE(x >= 0 && x < 1);
    sum += x;
    squares += x * x;
    low = std::min(low, x);
    high = std::max(high, x);
    ++bins[static_cast<std::size_t>(x * 16)];
  }
  // Five standard errors: sqrt(1/12/n) = 0.00065 for the mean, sqrt(4/45/n) = 0.00067 for the
  // square.
  EXPECT_NEAR(sum / kDraws, 0.5, 5 * 0.00065);
  EXPECT_NEAR(squares / kDraws, 1. / 3, 5 * 0.00067);
  EXPECT_LT(low, 1e-3);
  EXPECT_GT(high, 1 - 1e-3);
  double chi = 0;  // 15 degrees of freedom: above 45 with probability 1e-4
  for (const int bin : bins) chi += (bin - kDraws / 16.) * (bin - kDraws / 16.) / (kDraws / 16.);
  EXPECT_LT(chi, 45);
}

TEST(Random, NormalMoments) {
  const Key key{2};
  constexpr int kDraws = 200000;
  double sums[5] = {};
  double neighbours = 0, last = 0;
  int beyond_two = 0;
  for (std::uint64_t i = 0; i < kDraws; ++i) {
    const double x = normal(key, i);
    ASSERT_TRUE(std::isfinite(x));
    for (int p = 1; p <= 4; ++p) sums[p] += std::pow(x, p);
    neighbours += x * last;
    last = x;
    if (std::abs(x) > 2) ++beyond_two;
  }
  const double error =
      5 / std::sqrt(static_cast<double>(kDraws));  // five standard errors of a unit variance
  EXPECT_NEAR(sums[1] / kDraws, 0, error);
  EXPECT_NEAR(sums[2] / kDraws, 1, error * std::sqrt(2.));
  EXPECT_NEAR(sums[3] / kDraws, 0, error * std::sqrt(15.));
  EXPECT_NEAR(sums[4] / kDraws, 3, error * std::sqrt(96.));
  EXPECT_NEAR(neighbours / kDraws, 0, error);
  EXPECT_NEAR(static_cast<double>(beyond_two) / kDraws, 0.0455003,
              error * std::sqrt(0.0455 * 0.9545));
}

TEST(Random, BelowIsInRangeAndEven) {
  std::vector<int> count(7, 0);
  for (std::uint64_t i = 0; i < 70000; ++i) {
    const std::int64_t x = below(Key{3}, i, 7);
    ASSERT_TRUE(x >= 0 && x < 7);
    ++count[static_cast<std::size_t>(x)];
  }
  for (const int c : count) EXPECT_NEAR(c, 10000, 5 * std::sqrt(10000. * 6 / 7));
  EXPECT_EQ(below(Key{3}, 0, 1), 0);
  const std::int64_t most = std::numeric_limits<std::int64_t>::max();
  EXPECT_GE(below(Key{3}, 0, most), 0);
  EXPECT_LT(below(Key{3}, 0, most), most);
  EXPECT_ERROR(ShapeError, "below 0: expected 1 or more", below(Key{3}, 0, 0));
}

TEST(Random, FillsAreTheDrawsInOrderForAnyThreads) {
  const Key key{5};
  for (const std::int64_t n : {0, 1, 2, 4095, 4096, 4097, 20001}) {
    ThreadPool one(1), four(4);
    for (const DType t : {DType::f32, DType::f64}) {
      const Tensor a = Tensor::empty({n}, t), b = Tensor::empty({n}, t);
      fill_normal(one, key, a, 1, 2);
      fill_normal(four, key, b, 1, 2);
      EXPECT_EQ(a.to_vector<double>(), b.to_vector<double>());
      const Tensor c = Tensor::empty({n}, t);
      fill_uniform(four, key, c, -2, 3);
      for (std::int64_t i = 0; i < n; ++i) {
        const auto index = static_cast<std::uint64_t>(i);
        const double x = 1 + 2 * normal(key, index), u = -2 + 5 * uniform(key, index);
        if (t == DType::f64) {
          ASSERT_EQ(b.at<double>({i}), x);
          ASSERT_EQ(c.at<double>({i}), u);
        } else {
          ASSERT_EQ(b.at<float>({i}), static_cast<float>(x));
          ASSERT_EQ(c.at<float>({i}), static_cast<float>(u));
        }
      }
    }
  }
}

TEST(Random, UniformStaysBelowTheUpperEndAfterRounding) {
  ThreadPool pool(2);
  const Tensor x = Tensor::empty({100000}, DType::f32);
  const float high =
      std::nextafter(std::nextafter(1.f, 2.f), 2.f);  // only two floats are in [1, high)
  fill_uniform(pool, Key{6}, x, 1, high);
  std::set<float> values;
  for (const float v : x.to_vector<float>()) values.insert(v);
  EXPECT_EQ(values, (std::set<float>{1.f, std::nextafter(1.f, 2.f)}));
}

TEST(Random, FillsRefuseWhatTheyCannotFill) {
  ThreadPool pool(1);
  EXPECT_ERROR(ShapeError, "not i32[3]", fill_normal(pool, Key{1}, Tensor::zeros({3}, DType::i32)));
  EXPECT_ERROR(ShapeError, "not f16[3]",
               fill_uniform(pool, Key{1}, Tensor::zeros({3}, DType::f16)));
  EXPECT_ERROR(ShapeError, "not a non-contiguous f32[3, 2]",
               fill_normal(pool, Key{1}, Tensor::zeros({2, 3}, DType::f32).transpose(0, 1)));
}

}  // namespace
}  // namespace vitrine::random
