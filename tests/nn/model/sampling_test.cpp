#include "nn/model/sampling.h"

#include <numeric>

#include "tests/support.h"
#include "tests/tensor/expect_error.h"

namespace vitrine::nn {
namespace {

const std::vector<float> kLogits = {0.f, 2.f, 1.f, 2.f, -1e30f};

std::vector<double> frequencies(const Sampling& s, int draws) {
  std::vector<double> count(kLogits.size(), 0);
  for (int i = 0; i < draws; ++i) {
    count[static_cast<std::size_t>(
        choose(kLogits, s, random::uniform(random::Key{3}, static_cast<std::uint64_t>(i))))] +=
        1.0 / draws;
  }
  return count;
}

TEST(Sampling, GreedyTakesTheFirstOfTheBest) { EXPECT_EQ(choose(kLogits, {}, 0.99), 1); }

TEST(Sampling, FollowsTheProbabilities) {
  const auto f = frequencies({.temperature = 0.5}, 20000);
  std::vector<double> p;
  for (const float x : kLogits) p.push_back(std::exp(2.0 * x));
  const double total = std::accumulate(p.begin(), p.end(), 0.0);
  for (std::size_t i = 0; i < p.size(); ++i) EXPECT_NEAR(f[i], p[i] / total, 0.015) << i;
}

TEST(Sampling, TopKAndTopPCutTheTail) {
  const auto k = frequencies({.temperature = 1, .top_k = 2}, 4000);
  EXPECT_NEAR(k[1], 0.5, 0.03);
  EXPECT_NEAR(k[3], 0.5, 0.03);
  EXPECT_EQ(k[0] + k[2] + k[4], 0);
  const auto p =
      frequencies({.temperature = 1, .top_p = 0.8}, 4000);  // 0.39 + 0.39 + 0.14 reaches 0.8
  EXPECT_GT(p[2], 0);
  EXPECT_EQ(p[0] + p[4], 0);
  EXPECT_NEAR(frequencies({.temperature = 1, .top_p = 1e-9}, 100)[1], 1, 1e-9);
}

TEST(Sampling, EveryDrawGivesAToken) {
  for (const double draw : {0.0, 0.5, std::nextafter(1.0, 0.0)}) {
    const int id = choose(kLogits, {.temperature = 1}, draw);
    EXPECT_TRUE(id >= 0 && id < 5);
  }
}

TEST(Sampling, RejectsWrongSettings) {
  EXPECT_ERROR(Error, "the temperature must be 0 (greedy) or more",
               check_sampling({.temperature = -1}));
  EXPECT_ERROR(Error, "top-k must be 0 (all tokens) or more", check_sampling({.top_k = -1}));
  EXPECT_ERROR(Error, "top-p must be above 0 and at most 1", check_sampling({.top_p = 0}));
  EXPECT_ERROR(Error, "top-p must be above 0 and at most 1", check_sampling({.top_p = 1.5}));
}

TEST(Sampling, TopTokens) {
  const auto top = top_tokens(kLogits, 3);
  ASSERT_EQ(top.size(), 3u);
  EXPECT_EQ(top[0].id, 1);
  EXPECT_EQ(top[1].id, 3);
  EXPECT_EQ(top[2].id, 2);
  EXPECT_NEAR(top[0].probability, std::exp(2.0) / (1 + 2 * std::exp(2.0) + std::exp(1.0)), 1e-12);
  EXPECT_EQ(top_tokens(kLogits, 99).size(), 5u);
}

TEST(Generate, GreedyIsTheArgmaxOfEachStep) {
  const Model model = load_gpt2();
  Tokens text = model.tokens("The capital of Texas is");
  const Tokens fresh = generate(model, text, 6, {}, {});
  ASSERT_GE(fresh.size(), 3u);  // the model ends the text after the sentence
  EXPECT_EQ(model.tokenizer().decode(std::span(fresh).first(1)), " Austin");
  for (const int id : fresh) {
    const Tensor logits = model.run(text).logits().select(0, 0);
    const auto last = logits.select(0, logits.dim(0) - 1).to_vector<float>();
    EXPECT_EQ(id, std::max_element(last.begin(), last.end()) - last.begin());
    text.push_back(id);
  }
}

// Keys and values that are kept give what computing everything again gives.
TEST(Generate, EqualsRecomputing) {
  const Model model = load_gpt2();
  const Tokens prompt = model.tokens("It was the best of times,");
  const Sampling warm{.temperature = 0.9, .top_k = 200};
  const random::Key key{11};
  const Tokens fresh = generate(model, prompt, 120, warm, key);
  ASSERT_GT(fresh.size(), 20u);
  Tokens text = prompt;
  for (std::size_t i = 0; i < fresh.size(); ++i) {
    const Tensor logits = model.run(text).logits().select(0, 0);
    const auto last = logits.select(0, logits.dim(0) - 1).to_vector<float>();
    EXPECT_EQ(fresh[i], choose(last, warm, random::uniform(key, i))) << i;
    text.push_back(fresh[i]);
  }
}

TEST(Generate, TheSeedDecides) {
  const Model model = load_gpt2();
  const Tokens prompt = model.tokens("It was");
  const Sampling warm{.temperature = 1};
  const Tokens a = generate(model, prompt, 12, warm, random::Key{1}),
               b = generate(model, prompt, 12, warm, random::Key{1});
  EXPECT_EQ(a, b);
  EXPECT_NE(a, generate(model, prompt, 12, warm, random::Key{2}));
}

TEST(Generate, StopsWhenAskedAndAtTheContext) {
  const Model model = load_gpt2();
  int seen = 0;
  EXPECT_EQ(generate(model, {5}, 10, {}, {}, [&](int) { return ++seen < 3; }).size(), 3u);
  EXPECT_ERROR(ContextError,
               "a prompt of 250 tokens and 10 new ones take 259 places (the last new one takes "
               "none), but this model's context is 256; ask for at most 7",
               generate(model, Tokens(250, 5), 10, {}, {}));
}

}  // namespace
}  // namespace vitrine::nn
