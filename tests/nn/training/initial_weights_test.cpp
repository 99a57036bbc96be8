// Tests nn/training/initial_weights.h.
#include "nn/training/initial_weights.h"

#include <cmath>

#include "nn/model/checkpoint.h"
#include "tests/nn/training/small_training.h"

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

// `columns` columns of a matrix, from column `at`.
std::vector<double> block(const Tensor& matrix, std::int64_t at, std::int64_t columns) {
  const std::vector<double> all = matrix.to_vector<double>();
  const std::int64_t rows = matrix.shape()[0], width = matrix.shape()[1];
  std::vector<double> out;
  for (std::int64_t i = 0; i < rows; ++i) {
    for (std::int64_t j = 0; j < columns; ++j)
      out.push_back(all[static_cast<std::size_t>(i * width + at + j)]);
  }
  return out;
}

TEST(InitialWeights, MimeticPositionsAreAlikeWhenNear) {
  Config c = small_config(500);
  c.d_model = 64;
  c.context = 40;
  ThreadPool pool(1);
  const Parameters w = initial_weights(c, random::Key{1}, pool, 0.04, Initializer::mimetic);
  EXPECT_NEAR(deviation(w.at("wte.weight")), 1.5 * 0.04, 0.002);
  const std::vector<double> positions = w.at("wpe.weight").to_vector<double>();
  const auto product = [&](std::int64_t p, std::int64_t q) {
    double sum = 0;
    for (std::int64_t i = 0; i < 64; ++i) {
      sum += positions[static_cast<std::size_t>(p * 64 + i)] *
             positions[static_cast<std::size_t>(q * 64 + i)];
    }
    return sum / (64 * 0.09 * 0.09);  // as a cosine
  };
  for (const std::int64_t p : {0, 7, 20}) {
    EXPECT_NEAR(product(p, p), 1, 1e-5);
    EXPECT_GT(product(p, p + 1), 0.9);
    EXPECT_GT(product(p, p + 1), product(p, p + 2) + 0.02);
    EXPECT_GT(product(p, p + 2), product(p, p + 4) + 0.02);
    EXPECT_GT(product(p, p + 4), product(p, p + 15) + 0.02);
    EXPECT_NEAR(product(p, p + 4), product(0, 4), 1e-5) << "the distance is all that counts";
  }
}

TEST(InitialWeights, MimeticHeadsMatchInTheFirstLayerAndCopyInTheOthers) {
  Config c = small_config(500);
  c.layers = 3;
  c.d_model = 64;
  c.heads = 4;
  ThreadPool pool(1);
  const Parameters w = initial_weights(c, random::Key{1}, pool, 0.04, Initializer::mimetic);
  const Parameters usual = initial_weights(c, random::Key{1}, pool, 0.04);
  const Tensor first = w.at("h.0.attn.c_attn.weight");
  EXPECT_EQ(block(first, 0, 64), block(first, 64, 64)) << "W_K = W_Q";
  EXPECT_EQ(block(first, 128, 64), block(usual.at("h.0.attn.c_attn.weight"), 128, 64)) << "W_V";
  for (const int layer : {1, 2}) {
    const std::string attention = "h." + std::to_string(layer) + ".attn.";
    const std::vector<double> values = block(w.at(attention + "c_attn.weight"), 128, 64);
    const std::vector<double> out = w.at(attention + "c_proj.weight").to_vector<double>();
    for (std::size_t i = 0; i < 64; ++i) {
      for (std::size_t j = 0; j < 64; ++j) {
        ASSERT_FLOAT_EQ(static_cast<float>(out[j * 64 + i]),
                        static_cast<float>(2 / std::sqrt(6.0) * values[i * 64 + j]));
      }
    }
  }
  for (const auto& [name, tensor] : usual) {
    const bool changed = name == "wte.weight" || name == "wpe.weight" ||
                         name == "h.0.attn.c_attn.weight" || name == "h.1.attn.c_proj.weight" ||
                         name == "h.2.attn.c_proj.weight";
    EXPECT_EQ(same_bits(w.at(name), tensor), !changed) << name;
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
