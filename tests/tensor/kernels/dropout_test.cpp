// Dropout against the sentence that defines it, one draw of random::philox for each element.
#include <fmt/format.h>

#include <cmath>
#include <limits>
#include <set>

#include "tensor/kernels/dense.h"
#include "tests/tensor/kernels/kernel_check.h"

namespace vitrine::test {
namespace {

struct Draw {
  std::int64_t seed = 1, step = 2, stream = 0;
};

Tensor dropped(ThreadPool& pool, const Tensor& x, double rate, const Draw& d = {}) {
  const Tensor key = Tensor::of<std::int64_t>({2}, {d.seed, d.step});
  const Tensor out = Tensor::empty(x.shape(), x.dtype());
  kernels::dropout(pool, x.view(), key.view(), {rate, d.stream}, out.view());
  return out;
}

// The scalar twin.
template <class T>
std::vector<double> plain(const Tensor& x, double rate, const Draw& d) {
  const random::Key stream = random::Key{static_cast<std::uint64_t>(d.seed)}
                                 .fold(static_cast<std::uint64_t>(d.step))
                                 .fold(static_cast<std::uint64_t>(d.stream));
  std::vector<double> out;
  for (const T v : x.to_vector<T>()) {
    const std::size_t i = out.size();
    const bool keep = random::philox(stream, i / 4)[i % 4] >= std::round(rate * 0x1p32);
    out.push_back(keep ? v * static_cast<T>(1 / (1 - rate)) : 0);
  }
  return out;
}

TEST(Dropout, EqualsThePlainLoopForAnyThreadsShapesAndStrides) {
  for (const Shape& shape : sample_shapes()) {
    for (const DType dtype : {DType::f32, DType::f64}) {
      for (const double rate : {0.1, 0.5, 0.97}) {
        for (const Tensor& x : in_layouts(shape, dtype, 9)) {
          const Draw d{-3, 1LL << 40, 17};
          const Tensor y =
              on_all_pools([&](ThreadPool& pool) { return dropped(pool, x, rate, d); });
          EXPECT_EQ(y.to_vector<double>(),
                    dtype == DType::f32 ? plain<float>(x, rate, d) : plain<double>(x, rate, d))
              << describe(x) << " at rate " << rate;
        }
      }
    }
  }
}

TEST(Dropout, ManyChunksInPlaceAndOffTheEndOfAVector) {
  for (const std::int64_t n : {65536 * 3 + 1021, 4 * 64 * 5 + 3, 255, 257}) {
    const Tensor x = random_tensor({n}, DType::f32, 4);
    const Tensor y = on_all_pools([&](ThreadPool& pool) { return dropped(pool, x, 0.3); });
    ASSERT_EQ(y.to_vector<double>(), plain<float>(x, 0.3, {}));
    ThreadPool pool(2);
    const Tensor own = x.clone(), key = Tensor::of<std::int64_t>({2}, {1, 2});
    kernels::dropout(pool, own.view(), key.view(), {0.3, 0}, own.view());
    ASSERT_EQ(own.to_vector<float>(), y.to_vector<float>());
  }
}

TEST(Dropout, RateZeroGivesTheBitsOfTheInput) {
  ThreadPool pool(1);
  Tensor x = random_tensor({1000}, DType::f32, 1);
  x.data<float>()[3] = -0.f;
  x.data<float>()[4] = std::numeric_limits<float>::infinity();
  const Tensor y = dropped(pool, x, 0);
  EXPECT_EQ(0, std::memcmp(x.view().data, y.view().data, static_cast<std::size_t>(x.bytes())));
}

TEST(Dropout, WhatIsDroppedIsZeroWhateverItWas) {
  ThreadPool pool(1);
  for (const double wild : {std::nan(""), std::numeric_limits<double>::infinity()}) {
    const Tensor y = dropped(pool, Tensor::full({400}, DType::f64, wild), 0.5);
    int zeros = 0;
    for (const double v : y.to_vector<double>()) {
      if (v == 0) ++zeros;
      else EXPECT_FALSE(std::isfinite(v));
    }
    EXPECT_NEAR(zeros, 200, 50);
  }
}

// A kept element is 1 / (1 - p), with probability 1 - p: mean 1, variance p / (1 - p).
TEST(Dropout, KeepsTheMean) {
  ThreadPool pool(2);
  constexpr std::int64_t kDraws = 400000;
  const Tensor ones = Tensor::full({kDraws}, DType::f64, 1);
  for (const double rate : {0.01, 0.1, 0.5, 0.9}) {
    const auto y = dropped(pool, ones, rate).to_vector<double>();
    double sum = 0, squares = 0, neighbours = 0;
    for (std::size_t i = 0; i < y.size(); ++i) {
      sum += y[i];
      squares += (y[i] - 1) * (y[i] - 1);
      if (i > 0) neighbours += (y[i] - 1) * (y[i - 1] - 1);
    }
    const double variance = rate / (1 - rate), n = kDraws;
    const double fourth = variance * (variance * variance - variance + 1);  // E (y - 1)^4
    EXPECT_NEAR(sum / n, 1, 5 * std::sqrt(variance / n)) << rate;
    EXPECT_NEAR(squares / n, variance, 5 * std::sqrt((fourth - variance * variance) / n) + 1e-9)
        << rate;
    EXPECT_NEAR(neighbours / n, 0, 5 * variance / std::sqrt(n)) << rate;
  }
}

// Of 4096 elements at rate 1/2 two independent masks agree on half; five standard errors are 160.
TEST(Dropout, SeedsStepsAndStreamsGiveMasksOfTheirOwn) {
  ThreadPool pool(1);
  const Tensor ones = Tensor::full({4096}, DType::f32, 1);
  std::vector<std::vector<float>> masks;
  for (const Draw& d : {Draw{1, 0, 0}, Draw{2, 0, 0}, Draw{1, 1, 0}, Draw{1, 0, 1}, Draw{0, 1, 0},
                        Draw{0, 0, 1}, Draw{1, 1, 1}}) {
    masks.push_back(dropped(pool, ones, 0.5, d).to_vector<float>());
    EXPECT_EQ(masks.back(), dropped(pool, ones, 0.5, d).to_vector<float>());
  }
  for (std::size_t a = 0; a < masks.size(); ++a) {
    for (std::size_t b = 0; b < a; ++b) {
      int same = 0;
      for (std::size_t i = 0; i < masks[a].size(); ++i) same += masks[a][i] == masks[b][i];
      EXPECT_NEAR(same, 2048, 160) << a << " and " << b;
    }
  }
}

TEST(Dropout, ARateThatRoundsToOneStaysFinite) {
  ThreadPool pool(1);
  const Tensor y = dropped(pool, Tensor::full({1000}, DType::f64, 1), 1 - 0x1p-53);
  EXPECT_EQ(max_abs_difference(y, Tensor::zeros({1000}, DType::f64)), 0);
}

}  // namespace
}  // namespace vitrine::test
