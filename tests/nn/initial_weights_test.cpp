// Tests nn/initial_weights.h.
#include "nn/initial_weights.h"

#include <cmath>

#include "nn/checkpoint.h"
#include "tests/nn/small_training.h"

namespace vitrine::nn {
namespace {

double deviation(const Tensor& x) {
  double squares = 0;
  for (const double v : x.to_vector<double>()) squares += v * v;
  return std::sqrt(squares / static_cast<double>(x.numel()));
}

TEST(InitialWeights, AreDrawnAsGpt2DrawsThem) {
  Config c = small_config(500);
  c.layers = 8;
  c.d_model = 64;
  c.d_mlp = 128;
  c.tied = false;
  ThreadPool pool(1);
  const Parameters weights = initial_weights(c, random::Key{1}, pool);
  ASSERT_EQ(weights.size(), parameter_shapes(c).size());
  for (const auto& [name, shape] : parameter_shapes(c)) {
    const Tensor& w = weights.at(name);
    EXPECT_EQ(w.shape(), shape) << name;
    EXPECT_EQ(w.dtype(), DType::f32) << name;
    if (name.ends_with("bias")) {
      EXPECT_EQ(max_abs(w), 0) << name;
    } else if (shape.size() == 1) {
      EXPECT_EQ(w.to_vector<double>(), std::vector<double>(64, 1)) << name;
    } else {
      const double want = name.ends_with("c_proj.weight") ? 0.02 / 4 : 0.02;  // sqrt(2 * 8) is 4
      const double error = 4 / std::sqrt(2.0 * static_cast<double>(w.numel()));
      EXPECT_NEAR(deviation(w), want, error * want) << name;
    }
  }
  EXPECT_FALSE(same_bits(weights.at("h.0.mlp.c_fc.weight"), weights.at("h.1.mlp.c_fc.weight")));
}

TEST(InitialWeights, AWiderRangeScalesMatricesAndEmbeddingsAlone) {
  const Config c = small_config(500);
  ThreadPool pool(1);
  const Parameters usual = initial_weights(c, random::Key{1}, pool);
  const Parameters wide = initial_weights(c, random::Key{1}, pool, 4 * kInitializerRange);
  for (const auto& [name, w] : usual) {
    std::vector<double> want = w.to_vector<double>();
    if (w.rank() >= 2) {
      for (double& v : want) v *= 4;  // a power of two: exact
    }
    EXPECT_EQ(wide.at(name).to_vector<double>(), want) << name;
  }
}

TEST(InitialWeights, DependOnTheKeyAlone) {
  const Config c = small_config(500);
  ThreadPool one(1), three(3);
  const Parameters weights = initial_weights(c, random::Key{1}, one);
  expect_same_bits(weights, initial_weights(c, random::Key{1}, three));
  EXPECT_FALSE(same_bits(weights.at("wte.weight"),
                         initial_weights(c, random::Key{2}, one).at("wte.weight")));
}

}  // namespace
}  // namespace vitrine::nn
