// The shares of neurons and dimensions: they add up to what they are shares of.
#include "interp/neurons.h"

#include <gmock/gmock.h>

#include <cmath>

#include "nn/families/sites.h"
#include "nn/model/weights.h"
#include "tests/support.h"
#include "tests/tensor/expect_error.h"

namespace vitrine::interp {
namespace {

const nn::Model& tiny(bool processed = false) {  // 3 layers of 192 neurons, d 48, 97 ids
  static const std::string folder = (test::data() / "tiny-gpt2").string();
  static const nn::Model raw = nn::load_gpt2(folder),
                         gauged = nn::load_gpt2(folder, {.gauge = nn::Gauge::processed()});
  return processed ? gauged : raw;
}
constexpr int kAll = 1 << 20;
const nn::Tokens kPrompt = {3, 14, 15, 92, 65, 35};
constexpr int kAnswer = 7, kWrong = 41;

std::vector<double> row_of(const nn::Run& run, const Site& site, std::int64_t position) {
  return run[site].select(0, 0).select(0, position).to_vector<double>();
}

TEST(Neurons, ActivationsAreThoseOfTheSite) {
  for (const int position : {-1, 2}) {
    const StrongNeurons s =
        strong_neurons(tiny(), kPrompt, {.position = position, .neurons = kAll});
    EXPECT_EQ(s.position, position < 0 ? 5 : 2);
    EXPECT_FALSE(s.metric.has_value());
    ASSERT_EQ(s.neurons.size(), 3U * 192U);
    const nn::Run run = tiny().run(nn::Prompt(kPrompt), sites("blocks.*.mlp.hook_post"));
    double before = INFINITY;
    for (const Neuron& n : s.neurons) {
      const auto post = row_of(run, site::mlp_post(n.id.layer), s.position);
      EXPECT_NEAR(n.activation, post[static_cast<std::size_t>(n.id.index)], 1e-5);
      EXPECT_LE(std::abs(n.activation), before);
      before = std::abs(n.activation);
      EXPECT_FALSE(n.effect.has_value());
    }
  }
}

// effect = post * (W_out[i] . d), with d written down by hand: the answer's column of W_U less the
// wrong one's, times the gain, less its mean, over ln_final's scale of the run.
TEST(Neurons, EffectsAreTheFormula) {
  for (const bool processed : {false, true}) {
    for (const int position : {-1, 3}) {
      const nn::Model& m = tiny(processed);
      const StrongNeurons s = strong_neurons(
          m, kPrompt, {.position = position, .answer = kAnswer, .wrong = kWrong, .neurons = kAll});
      const auto w = nn::weights(m, "blocks.*.mlp.W_out,unembed.W_U,ln_final.w");
      const nn::Run run = m.run(nn::Prompt(kPrompt), site::final_scale());
      const double scale = row_of(run, site::final_scale(), s.position)[0];
      std::vector<double> d;
      double mean = 0;
      for (std::int64_t i = 0; i < 48; ++i) {
        const Tensor& u = w.at("unembed.W_U");
        d.push_back((u.at<float>({i, kAnswer}) - u.at<float>({i, kWrong})) *
                    w.at("ln_final.w").at<float>({i}));
        mean += d.back() / 48;
      }
      for (const Neuron& n : s.neurons) {
        const Tensor& w_out = w.at(fmt::format("blocks.{}.mlp.W_out", n.id.layer));
        double dot = 0;
        for (std::int64_t i = 0; i < 48; ++i) {
          dot += w_out.at<float>({n.id.index, i}) * (d[static_cast<std::size_t>(i)] - mean) / scale;
        }
        EXPECT_NEAR(n.effect.value(), n.activation * dot, 1e-5);
      }
    }
  }
}

// The dimensions of the final stream add up to the metric, but for the biases of ln_final and W_U.
TEST(Neurons, DimensionsAddUpToTheLogit) {
  for (const bool processed : {false, true}) {
    const nn::Model& m = tiny(processed);
    const StrongNeurons s = strong_neurons(m, kPrompt, {.answer = kAnswer, .dimensions = kAll});
    ASSERT_EQ(s.dimensions.size(), 48U);
    EXPECT_EQ(s.stream_layer, 2);
    const auto w = nn::weights(m, "unembed.W_U,unembed.b_U,ln_final.b");
    double sum = w.at("unembed.b_U").at<float>({kAnswer});
    for (std::int64_t i = 0; i < 48; ++i)
      sum += w.at("ln_final.b").at<float>({i}) * w.at("unembed.W_U").at<float>({i, kAnswer});
    for (const Dimension& d : s.dimensions) sum += d.effect.value();
    const double logit = m.run(nn::Prompt(kPrompt)).last_logits().at<float>({0, kAnswer});
    EXPECT_NEAR(sum, logit, 1e-4);
    EXPECT_NEAR(s.metric.value(), logit, 1e-4);
  }
}

TEST(Neurons, OfOneLayer) {
  const StrongNeurons all =
      strong_neurons(tiny(), kPrompt, {.answer = kAnswer, .wrong = kWrong, .neurons = kAll});
  const StrongNeurons one = strong_neurons(
      tiny(), kPrompt, {.layer = 1, .answer = kAnswer, .wrong = kWrong, .neurons = 4});
  EXPECT_EQ(one.stream_layer, 1);
  ASSERT_EQ(one.neurons.size(), 4U);
  std::size_t next = 0;
  for (const Neuron& n : all.neurons) {
    if (n.id.layer != 1 || next == 4) continue;
    EXPECT_EQ(n.id.index, one.neurons[next].id.index);
    EXPECT_NEAR(n.effect.value(), one.neurons[next++].effect.value(), 1e-6);
  }
  EXPECT_EQ(next, 4U);
}

TEST(Neurons, RaisedTokensAreThoseOfTheRow) {
  const StrongNeurons s = strong_neurons(tiny(), kPrompt, {.neurons = 3, .tokens = 2});
  const auto w = nn::weights(tiny(), "blocks.*.mlp.W_out");
  for (const Neuron& n : s.neurons) {
    const Tensor row =
        w.at(fmt::format("blocks.{}.mlp.W_out", n.id.layer)).slice(0, n.id.index, n.id.index + 1);
    EXPECT_EQ(max_abs_difference(output_rows(tiny(), {&n.id, 1}), row), 0);
    const Tensor logits = to_logits(tiny(), row).select(0, 0);
    ASSERT_EQ(n.raised.size(), 2U);
    ASSERT_EQ(n.lowered.size(), 2U);
    EXPECT_EQ(n.raised[0].id, highest(logits, 1)[0].id);
    EXPECT_EQ(n.lowered[0].id, lowest(logits, 1)[0].id);
  }
  EXPECT_EQ(output_rows(tiny(), {}).numel(), 0);
}

TEST(Neurons, MistakesAreExplained) {
  EXPECT_ERROR(ContextError, "there is no position 6; the prompt has 6 tokens, 0 to 5",
               strong_neurons(tiny(), kPrompt, {.position = 6}));
  EXPECT_ERROR(Error, "there is no layer 3; this model has layers 0 to 2",
               strong_neurons(tiny(), kPrompt, {.layer = 3}));
  EXPECT_ERROR(Error, "there is a wrong answer without an answer",
               strong_neurons(tiny(), kPrompt, {.wrong = 1}));
  EXPECT_ERROR(TokenError, "97", strong_neurons(tiny(), kPrompt, {.answer = 97}));
  EXPECT_ERROR(ContextError, "the prompt is empty", strong_neurons(tiny(), {}));
  const NeuronId id{2, 192};
  EXPECT_ERROR(Error, "layer 2 has no neuron 192; each layer of this model has neurons 0 to 191",
               output_rows(tiny(), {&id, 1}));
}

}  // namespace
}  // namespace vitrine::interp
