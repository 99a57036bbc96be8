// Vectors of the residual stream read as tokens.
#include "interp/readout.h"

#include <cmath>

#include "interp/lens.h"
#include "nn/families/sites.h"
#include "tensor/error.h"
#include "tests/support.h"

namespace vitrine::interp {
namespace {

TEST(Readout, TheFinalStreamGivesTheLogits) {
  for (const nn::Gauge& gauge : {nn::Gauge::raw(), nn::Gauge::processed()}) {
    const nn::Model m =
        nn::load_gpt2((test::data() / "tiny-gpt2").string(), {.dtype = DType::f64, .gauge = gauge});
    const nn::Tokens prompt = {1, 2, 3};
    const nn::Run run = m.run(prompt, site::resid_post(2), site::final_scale(), value("logits"));
    const Tensor stream = run[site::resid_post(2)].select(0, 0);
    const auto scale = run[site::final_scale()].to_vector<double>();
    const Tensor read = to_logits(m, stream);
    // What is written, and not the biases: differences between two positions have none.
    const auto logits = run.logits().to_vector<double>();
    const auto v = static_cast<std::size_t>(m.config().vocabulary);
    for (std::size_t id = 0; id + 1 < v; ++id) {
      const auto i = static_cast<std::int64_t>(id);
      const auto step = [&](std::int64_t p) {
        return (read.at<float>({p, i}) - read.at<float>({p, i + 1})) /
               scale[static_cast<std::size_t>(p)];
      };
      const auto want = [&](std::size_t p) { return logits[p * v + id] - logits[p * v + id + 1]; };
      EXPECT_NEAR(step(2) - step(1), want(2) - want(1), 1e-4);
    }
  }
}

TEST(Readout, HighestAndLowest) {
  const Tensor x = Tensor::of({5}, {3.f, -1.f, 7.f, 7.f, 0.f});
  const auto top = highest(x, 3), bottom = lowest(x, 2);
  ASSERT_EQ(top.size(), 3u);
  EXPECT_EQ(top[0].id, 2);  // of equals the first
  EXPECT_EQ(top[1].id, 3);
  EXPECT_EQ(top[2].value, 3);
  ASSERT_EQ(bottom.size(), 2u);
  EXPECT_EQ(bottom[0].id, 1);
  EXPECT_EQ(highest(x, 9).size(), 5u);
  EXPECT_TRUE(highest(x, 0).empty());
}

TEST(Readout, OtherWidths) {
  const nn::Model m = nn::load_gpt2((test::data() / "tiny-gpt2").string());
  EXPECT_THROW(to_logits(m, Tensor::zeros({2, 47}, DType::f32)), ShapeError);
}

TEST(Lens, TokensOfTheLastStageAreThePrediction) {
  const nn::Model m = nn::load_gpt2();
  const nn::Tokens prompt = m.tokens("The capital of Texas is");
  const auto all = lens_tokens(m, prompt, {0, 4}, 2);
  ASSERT_EQ(all.size(), 2u);
  ASSERT_EQ(all[1].size(), 7u);
  EXPECT_EQ(all[1].back()[0].id, m.token(" Austin"));
  const Tensor logits = m.run(prompt).logits().select(0, 0);
  EXPECT_NEAR(all[1].back()[0].logit, logits.at<float>({4, m.token(" Austin")}), 1e-4);
  double sum = 0;
  for (const float x : logits.select(0, 4).to_vector<float>())
    sum += std::exp(static_cast<double>(x) - all[1].back()[0].logit);
  EXPECT_NEAR(all[1].back()[0].probability, 1 / sum, 1e-5);
  EXPECT_THROW(lens_tokens(m, prompt, {5}, 1), ContextError);
  EXPECT_THROW(logit_lens(m, prompt, 6000), TokenError);
}

}  // namespace
}  // namespace vitrine::interp
