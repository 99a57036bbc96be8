// Published numbers about what explains the real gpt2 (124M), for machines that have it: set
// VITRINE_GPT2 to its folder, or have it in HuggingFace's cache. Sources: TransformerLens's demos.
#include <cmath>
#include <memory>

#include "interp/decomposition.h"
#include "interp/head_scores.h"
#include "interp/neurons.h"
#include "nn/model/find_model.h"
#include "nn/model/metrics.h"
#include "nn/families/sites.h"
#include "tensor/error.h"
#include "tests/support.h"

namespace vitrine::interp {
namespace {

constexpr double kTolerance = 5e-3;
constexpr const char* kGift = "When John and Mary went to the shops, John gave the bag to";

class Gpt2SmallExplained : public ::testing::Test {
 protected:
  void SetUp() override {
    try {
      nn::find_model("gpt2");
    } catch (const FileError& e) {
      GTEST_SKIP() << e.what();
    }
  }
  static nn::Model load(const nn::Gauge& gauge) { return nn::load_gpt2("gpt2", {.gauge = gauge}); }
  static nn::Tokens with_bos(const nn::Model& model, const char* text) {
    nn::Tokens t = model.tokens(text);
    t.insert(t.begin(), model.tokenizer().end_of_text().value());
    return t;
  }
};

// Exploratory Analysis demo, first prompt, in the processed gauge.
TEST_F(Gpt2SmallExplained, DirectLogitAttribution) {
  const nn::Model m = load(nn::Gauge::processed());
  const Decomposition d =
      decompose(m, with_bos(m, kGift), {.answer = m.token(" Mary"), .wrong = m.token(" John")});
  EXPECT_TRUE(d.closes()) << d.residual();
  const std::pair<const char*, double> want[] = {
      {"L9H9", 1.958},    {"L9H6", 1.628},  {"L10H7", -1.427}, {"L11H1", -0.912},
      {"L11H10", -0.904}, {"L10H0", 0.637}, {"L10H10", 0.452}, {"L8H10", 0.426}};
  for (const auto& [name, share] : want) {
    for (const Part& p : d.parts) {
      if (p.name() == name) {
        EXPECT_NEAR(p.value, share, kTolerance) << name;
      }
    }
  }
}

// The neuron with the largest direct effect on the logit of each of three tokens.
TEST_F(Gpt2SmallExplained, TopNeurons) {
  const nn::Model m = load(nn::Gauge::processed());
  const struct {
    const char* answer;
    NeuronId id;
    double effect;
  } want[] = {
      {" Mary", {11, 611}, 0.319}, {" John", {11, 621}, -0.436}, {" the", {10, 2214}, 0.437}};
  const nn::Tokens prompt = with_bos(m, kGift);
  for (const auto& w : want) {
    SCOPED_TRACE(w.answer);
    const int answer = m.token(w.answer);
    const StrongNeurons s = strong_neurons(m, prompt, {.answer = answer, .neurons = 1});
    EXPECT_EQ(s.neurons[0].id.layer, w.id.layer);
    EXPECT_EQ(s.neurons[0].id.index, w.id.index);
    EXPECT_NEAR(s.neurons[0].effect.value(), w.effect, kTolerance);
    const Decomposition d = decompose(m, prompt, {.answer = answer});
    EXPECT_NEAR(d.neurons.at<double>({w.id.layer, w.id.index}), w.effect, kTolerance);
  }
}

// What heads attend to on random tokens said twice (TransformerLens's demos; Olsson et al. 2022).
TEST_F(Gpt2SmallExplained, InductionAndPreviousTokenHeads) {
  const nn::Model m = load(nn::Gauge::raw());
  const HeadScores s = head_scores(m, repeated_tokens(m.config(), random::Key{1}, 4, 40));
  for (const Head& h : {Head{5, 1}, Head{5, 5}, Head{6, 9}, Head{7, 2}, Head{7, 10}})
    EXPECT_GE(s.induction.at<double>({h.layer, h.head}), 0.4) << to_string(h);
  for (const Head& h : {Head{4, 11}, Head{2, 2}})
    EXPECT_GE(s.previous.at<double>({h.layer, h.head}), 0.4) << to_string(h);
  EXPECT_GE(s.previous.at<double>({4, 11}), 0.9);
}

// An ablation depends on the gauge: of the values of head 0.8, folded biases and all.
TEST_F(Gpt2SmallExplained, ZeroingValuesDependsOnTheGauge) {
  const auto loss = [](const nn::Gauge& gauge, bool ablate) {
    const nn::Model m = load(gauge);
    const nn::Tokens text = with_bos(
        m,
        "Natural language processing tasks, such as question answering, machine translation, "
        "reading comprehension, and summarization, are typically approached with supervised "
        "learning on taskspecific datasets.");
    const Metric metric = nn::next_token_loss(nn::next_tokens({text}));
    const Interventions what =
        ablate ? Interventions{zero(site::v(0), {.head = {8}})} : Interventions{};
    return m.run_edited({text}, what, fetch(value(metric)), &metric).results.scalar(metric.name);
  };
  EXPECT_NEAR(loss(nn::Gauge::raw(), false), 3.999, kTolerance);
  EXPECT_NEAR(loss(nn::Gauge::processed(), false), 3.999, kTolerance);
  EXPECT_NEAR(loss(nn::Gauge::raw(), true), 4.117, kTolerance);
  EXPECT_NEAR(loss(nn::Gauge::processed(), true), 5.453, kTolerance);
}

}  // namespace
}  // namespace vitrine::interp
