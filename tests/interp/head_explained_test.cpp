// What a head looks for and writes, against plain loops over weights and recorded sites.
#include "interp/head_explained.h"

#include <cmath>

#include "nn/families/sites.h"
#include "nn/model/weights.h"
#include "tensor/error.h"
#include "tests/support.h"

namespace vitrine::interp {
namespace {

nn::Model tiny(const nn::Gauge& gauge = {}) {
  return nn::load_gpt2((test::data() / "tiny-gpt2").string(),
                       {.dtype = DType::f64, .gauge = gauge});
}
const nn::Tokens kPrompt = {3, 17, 80, 5, 44, 9};

TEST(HeadExplained, PartsAreWhatTheHeadWrites) {
  const nn::Model m = tiny();
  const Head head{1, 2};
  const HeadOnPrompt h = explain_on_prompt(m, kPrompt, head, 4, 3, 100);
  const nn::Run run = m.run(kPrompt, site::result(1), site::pattern(1), site::final_scale());
  const Tensor result = run[site::result(1)].select(0, 0).select(0, 4).select(0, 2);  // [d]
  double length = 0;
  for (const double x : result.to_vector<double>()) length += x * x;
  EXPECT_NEAR(h.length, std::sqrt(length), 1e-9);
  ASSERT_EQ(h.sources.size(), 5u);  // itself and four before it
  double sum = 0;
  for (const HeadSource& s : h.sources) {
    EXPECT_NEAR(s.weight, run[site::pattern(1)].at<double>({0, 2, 4, s.position}), 1e-12);
    sum += s.weight;
  }
  EXPECT_NEAR(sum, 1, 1e-9);
  const Tensor logits = to_logits(m, result.reshape({1, m.config().d_model})).select(0, 0);
  const double scale = run[site::final_scale()].at<double>({0, 4, 0});
  const auto best = highest(logits, 3);
  for (std::size_t i = 0; i < 3; ++i) {
    EXPECT_EQ(h.raised[i].id, best[i].id);
    EXPECT_NEAR(h.raised[i].value, best[i].value / scale, 1e-4);
  }
}

// In layer 0, and with position embeddings out of the way, the score of a token of the prompt is
// what the query says of it, up to the same number for all.
TEST(HeadExplained, TheQueryAskedOfTokensIsTheScore) {
  nn::Model plain = tiny();
  Parameters parameters = plain.parameters();
  parameters["wpe.weight"] = Tensor::zeros(parameters.at("wpe.weight").shape(), DType::f64);
  const nn::Model m(plain.config(), parameters, std::nullopt, {.dtype = DType::f64});
  const HeadOnPrompt h = explain_on_prompt(m, kPrompt, {0, 1}, 5, m.config().vocabulary, 1);
  std::map<int, double> asked;
  for (const TokenValue& t : h.looks_for) asked[t.id] = t.value;
  ASSERT_EQ(asked.size(), static_cast<std::size_t>(m.config().vocabulary));
  const Tensor scores = m.run(kPrompt, site::attn_scores(0))[site::attn_scores(0)];
  const auto score = [&](std::int64_t k) { return scores.at<double>({0, 1, 5, k}); };
  for (std::int64_t k = 1; k < 6; ++k)
    EXPECT_NEAR(asked.at(kPrompt[static_cast<std::size_t>(k)]) - asked.at(kPrompt[0]),
                score(k) - score(0), 1e-9);
  EXPECT_EQ(h.avoids[0].id, h.looks_for.back().id);
}

// A direction's value is the largest product of its kind that unit vectors give.
TEST(HeadExplained, DirectionsAreThoseOfTheFoldedWeights) {
  const nn::Model m = tiny();
  const Head head{2, 3};
  const HeadFromWeights h = explain_weights(m, head, 4, 2);
  ASSERT_EQ(h.qk.size(), 4u);
  const auto w = nn::weights(m, "blocks.2.attn.W_V,blocks.2.attn.W_O,blocks.2.ln1.w");
  const std::int64_t d = m.config().d_model, e = m.config().d_head();
  const auto gain = w.at("blocks.2.ln1.w").to_vector<double>();
  // |W_OV|_F^2 with the gain folded in, by d x d numbers.
  std::vector<double> v(static_cast<std::size_t>(d * e));
  for (std::int64_t j = 0; j < e; ++j) {
    double mean = 0;
    for (std::int64_t i = 0; i < d; ++i) {
      const auto at = static_cast<std::size_t>(i * e + j);
      v[at] = gain[static_cast<std::size_t>(i)] * w.at("blocks.2.attn.W_V").at<double>({3, i, j});
      mean += v[at] / static_cast<double>(d);
    }
    for (std::int64_t i = 0; i < d; ++i) v[static_cast<std::size_t>(i * e + j)] -= mean;
  }
  double squares = 0;
  for (std::int64_t i = 0; i < d; ++i) {
    for (std::int64_t o = 0; o < d; ++o) {
      double x = 0;
      for (std::int64_t j = 0; j < e; ++j)
        x += v[static_cast<std::size_t>(i * e + j)] *
             w.at("blocks.2.attn.W_O").at<double>({3, j, o});
      squares += x * x;
    }
  }
  double last = std::numeric_limits<double>::infinity(), shares = 0;
  for (const HeadDirection& x : h.ov) {
    EXPECT_LE(x.value, last);
    last = x.value;
    shares += x.share;
    EXPECT_NEAR(x.share, x.value * x.value / squares, 1e-9);
    EXPECT_EQ(x.in_high.size(), 2u);
    EXPECT_GE(x.out_high[0].value, x.out_low[0].value);
  }
  EXPECT_LE(shares, 1 + 1e-9);
  // All directions together are the whole.
  double all = 0;
  for (const HeadDirection& x : explain_weights(m, head, 100, 1).ov) all += x.share;
  EXPECT_NEAR(all, 1, 1e-9);
}

// Folding LayerNorms into the weights by a gauge first changes nothing.
TEST(HeadExplained, TheGaugeFoldsTheSame) {
  const HeadFromWeights raw = explain_weights(tiny(), {1, 0}, 2, 3),
                        folded = explain_weights(tiny(nn::parse_gauge("fold_ln")), {1, 0}, 2, 3);
  for (std::size_t i = 0; i < 2; ++i) {
    EXPECT_NEAR(raw.qk[i].value, folded.qk[i].value, 1e-9);
    EXPECT_NEAR(raw.ov[i].value, folded.ov[i].value, 1e-9);
    EXPECT_EQ(raw.qk[i].in_high[0].id, folded.qk[i].in_high[0].id);
  }
}

TEST(HeadExplained, PositionsOutsideThePrompt) {
  EXPECT_THROW(explain_on_prompt(tiny(), kPrompt, {0, 0}, 6), ContextError);
}

}  // namespace
}  // namespace vitrine::interp
