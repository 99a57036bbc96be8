// The optimiser's step and the sum of squares against plain loops.
#include <cmath>
#include <limits>

#include "tensor/kernels/dense.h"
#include "tests/tensor/kernels/kernel_check.h"

namespace vitrine {
namespace {

constexpr kernels::AdamRule kRule{0.9, 0.95, 1e-8, 0.1};

// A state [3, n] whose second moments are not negative.
Tensor state_of(std::int64_t n, DType dtype) {
  const Tensor state = test::random_tensor({3, n}, dtype, 1);
  for (std::int64_t i = 2 * n; i < 3 * n; ++i) {
    if (dtype == DType::f32) state.data<float>()[i] = std::abs(state.data<float>()[i]);
    else state.data<double>()[i] = std::abs(state.data<double>()[i]);
  }
  return state;
}

Tensor settings_at(double rate, int t) {
  return Tensor::of<double>({3},
                            {rate, 1 - std::pow(kRule.beta1, t), 1 - std::pow(kRule.beta2, t)});
}

bool same_bits(const Tensor& a, const Tensor& b) {
  return std::memcmp(a.view().data, b.view().data, static_cast<std::size_t>(a.bytes())) == 0;
}

// torch.optim.AdamW: the weights decay first, then move.
TEST(AdamW, EqualsPlainLoops) {
  ThreadPool pool(2);
  for (const DType dtype : {DType::f32, DType::f64}) {
    for (const std::int64_t n : {1, 17, 200'000}) {
      const Tensor state = state_of(n, dtype), g = test::random_tensor({n}, dtype, 2),
                   clip = Tensor::full({}, dtype, 0.25), settings = settings_at(0.01, 3),
                   out = Tensor::empty({3, n}, dtype);
      kernels::adamw(pool, state.view(), g.view(), clip.view(), settings.view(), kRule, out.view());
      const auto s = state.to_vector<double>(), gradient = g.to_vector<double>(),
                 got = out.to_vector<double>();
      const double tolerance = dtype == DType::f32 ? 1e-6 : 1e-14;
      for (std::int64_t i = 0; i < n; ++i) {
        const auto at = [&](const std::vector<double>& x, std::int64_t row) {
          return x[static_cast<std::size_t>(row * n + i)];
        };
        const double clipped = 0.25 * at(gradient, 0);
        const double m = 0.9 * at(s, 1) + 0.1 * clipped,
                     v = 0.95 * at(s, 2) + 0.05 * clipped * clipped;
        const double w =
            at(s, 0) * (1 - 0.01 * 0.1) -
            0.01 * (m / (1 - 0.9 * 0.9 * 0.9)) / (std::sqrt(v / (1 - 0.95 * 0.95 * 0.95)) + 1e-8);
        ASSERT_NEAR(at(got, 0), w, tolerance * std::max(1.0, std::abs(w)));
        ASSERT_NEAR(at(got, 1), m, tolerance);
        ASSERT_NEAR(at(got, 2), v, tolerance);
      }
      const Tensor in_place = state.clone();
      kernels::adamw(pool, in_place.view(), g.view(), clip.view(), settings.view(), kRule,
                     in_place.view());
      EXPECT_TRUE(same_bits(in_place, out));
    }
  }
}

TEST(AdamW, LeavesTheStateAsItIsWhenClipIsNaN) {
  ThreadPool pool(2);
  for (const DType dtype : {DType::f32, DType::f64}) {
    Tensor state = state_of(70'000, dtype);
    state.view().data[0] = std::byte{0xff};  // whatever the bits are
    const Tensor before = state.clone(), out = Tensor::zeros({3, 70'000}, dtype),
                 clip = Tensor::full({}, dtype, std::numeric_limits<double>::quiet_NaN()),
                 settings = settings_at(0.01, 1);
    const Tensor g = Tensor::full({70'000}, dtype, std::numeric_limits<double>::infinity());
    kernels::adamw(pool, state.view(), g.view(), clip.view(), settings.view(), kRule, out.view());
    EXPECT_TRUE(same_bits(out, before));
    kernels::adamw(pool, state.view(), g.view(), clip.view(), settings.view(), kRule, state.view());
    EXPECT_TRUE(same_bits(state, before));
    // A state that is seen through other strides.
    const Tensor turned = before.transpose(0, 1).contiguous().transpose(0, 1);
    kernels::adamw(pool, turned.view(), g.view(), clip.view(), settings.view(), kRule, out.view());
    EXPECT_TRUE(same_bits(out, before));
  }
}

TEST(SumSquares, EqualsAPlainLoop) {
  ThreadPool one(1), three(3);
  for (const DType dtype : {DType::f32, DType::f64}) {
    for (const Tensor& x : test::in_layouts({300, 700}, dtype, 5)) {
      long double sum = 0;
      for (const double v : x.to_vector<double>()) sum += v * v;
      const auto want = static_cast<double>(sum);
      const Tensor a = Tensor::empty({}, dtype), b = Tensor::empty({}, dtype);
      kernels::sum_squares(one, x.view(), a.view());
      kernels::sum_squares(three, x.view(), b.view());
      EXPECT_NEAR(a.item<double>(), want, (dtype == DType::f32 ? 1e-7 : 1e-12) * want);
      EXPECT_TRUE(same_bits(a, b));
    }
  }
}

}  // namespace
}  // namespace vitrine
