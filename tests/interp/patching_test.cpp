// Sweeps against one edited run after the other, and what is refused.
#include "interp/patching.h"

#include <gmock/gmock.h>

#include <cmath>

#include "nn/families/sites.h"
#include "tests/support.h"
#include "tests/tensor/expect_error.h"

namespace vitrine::interp {
namespace {

using test::message_of;
using ::testing::HasSubstr;

const nn::Model& tiny() {
  static const nn::Model model = nn::load_gpt2((test::data() / "tiny-gpt2").string());
  return model;
}
const Pair kPair{{3, 14, 15, 92, 65, 35}, {3, 14, 16, 92, 65, 35}, 7, 8};

// The naive loop: one whole run for each place.
double edited(const Interventions& what, const nn::Tokens& base) {
  const Metric metric = nn::logit_diff(kPair.answer, kPair.wrong);
  return tiny().run_edited({base}, what, fetch(value(metric)), &metric).results.scalar(metric.name);
}

TEST(PatchSweep, EqualsOneRunAfterTheOther) {
  for (const Direction direction : {Direction::denoise, Direction::noise}) {
    const nn::Tokens &base = direction == Direction::denoise ? kPair.corrupt : kPair.clean,
                     &other = direction == Direction::denoise ? kPair.clean : kPair.corrupt;
    for (const Replacement replacement : {Replacement::patch, Replacement::zero}) {
      for (const std::int64_t memory : {20000, 200000, 1 << 30}) {
        const PatchSweep sweep = patch_sweep(tiny(), kPair,
                                             {.site = "z",
                                              .by = By::head_pos,
                                              .replacement = replacement,
                                              .direction = direction,
                                              .memory = memory});
        EXPECT_EQ(sweep.axes, (std::vector<std::string>{"layer", "pos", "head"}));
        for (std::int64_t layer = 0; layer < 3; ++layer) {
          const Site z = site::z(static_cast<int>(layer));
          const Tensor value = tiny().run(nn::Prompt(other), z)[z];
          for (std::int64_t pos = 0; pos < 6; ++pos) {
            for (std::int64_t head = 0; head < 4; ++head) {
              const Where where{.pos = {pos}, .head = {head}};
              const Edit edit =
                  replacement == Replacement::zero ? zero(z, where) : replace(z, value, where);
              EXPECT_NEAR(sweep.values.at<double>({layer, pos, head}), edited({edit}, base), 1e-4);
            }
          }
        }
      }
    }
  }
}

// The log probabilities after the last token of an edited run.
std::vector<double> log_probs(const Interventions& what, const nn::Tokens& base) {
  auto logits =
      tiny().run_edited({base}, what, fetch(value("logits"))).last_logits().to_vector<double>();
  double total = 0;
  for (const double x : logits) total += std::exp(x);
  for (double& x : logits) x -= std::log(total);
  return logits;
}

TEST(PatchSweep, MeasuresWhatIsAskedFor) {
  const auto clean = log_probs({}, kPair.clean);
  const auto naive = [&](Measure m, const std::vector<double>& p) {
    const double log_prob = p[static_cast<std::size_t>(kPair.answer)];
    if (m == Measure::logit_diff) return log_prob - p[static_cast<std::size_t>(kPair.wrong)];
    if (m == Measure::log_prob) return log_prob;
    if (m == Measure::prob) return std::exp(log_prob);
    double kl = 0;
    for (std::size_t t = 0; t < p.size(); ++t) kl += std::exp(clean[t]) * (clean[t] - p[t]);
    return kl;
  };
  const auto other = tiny().run(nn::Prompt(kPair.clean), sites("*.hook_resid_pre"));
  for (const Measure m : {Measure::logit_diff, Measure::prob, Measure::log_prob, Measure::kl}) {
    SCOPED_TRACE(name_of(m));
    EXPECT_EQ(parse_measure(name_of(m)), m);
    const PatchSweep sweep = patch_sweep(tiny(), kPair, {.measure = m});
    EXPECT_NEAR(sweep.clean, naive(m, clean), 2e-5);
    EXPECT_NEAR(sweep.corrupt, naive(m, log_probs({}, kPair.corrupt)), 2e-5);
    EXPECT_GT(std::abs(sweep.clean - sweep.corrupt), 1e-4);
    for (std::int64_t layer = 0; layer < 3; ++layer) {
      const Site site = site::resid_pre(static_cast<int>(layer));
      for (std::int64_t pos = 0; pos < 6; ++pos) {
        const auto p = log_probs({replace(site, other[site], {.pos = {pos}})}, kPair.corrupt);
        EXPECT_NEAR(sweep.values.at<double>({layer, pos}), naive(m, p), 2e-5);
      }
    }
  }
  EXPECT_THAT(message_of<Error>([] { parse_measure("loss"); }),
              HasSubstr("there is no metric 'loss'; there are logit_diff, prob, log_prob, kl"));
}

// Before the first token that differs nothing can have an effect: exactly none, and nothing is run.
TEST(PatchSweep, EqualValuesHaveNoEffectAndAreNotRun) {
  const PatchSweep sweep = patch_sweep(tiny(), kPair);
  EXPECT_EQ(sweep.runs, 18);
  for (std::int64_t layer = 0; layer < 3; ++layer) {
    for (std::int64_t pos = 0; pos < 2; ++pos)
      EXPECT_EQ(sweep.values.at<double>({layer, pos}), sweep.corrupt);
  }
  // Positions 0 and 1 of every layer; in the embedding all that carry the same token.
  EXPECT_EQ(sweep.without_effect, 2 * 3 + 3);
  const PatchSweep same = patch_sweep(tiny(), {kPair.clean, kPair.clean, 7, 8});
  EXPECT_EQ(same.passes, 0);
  EXPECT_EQ(same.without_effect, 18);
  EXPECT_EQ(max_abs_difference(same.values, Tensor::full({3, 6}, DType::f64, same.clean)), 0);
}

TEST(PatchSweep, TheWholeStreamAtTheLastPositionDecides) {
  const PatchSweep sweep = patch_sweep(tiny(), kPair, {.site = "resid_post"});
  EXPECT_NEAR(sweep.values.at<double>({2, 5}), sweep.clean, 1e-4);
}

TEST(PatchSweep, MistakesAreExplained) {
  EXPECT_THAT(message_of<Error>([] {
                patch_sweep(tiny(), {{1, 2, 3}, {1, 2}, 7, 8});
              }),
              ::testing::AllOf(HasSubstr("the clean prompt has 3 tokens, the corrupt one 2"),
                               HasSubstr("  clean   1 2 3\n  corrupt 1 2 -")));
  EXPECT_THAT(message_of<Error>([] { patch_sweep(tiny(), kPair, {.site = "resid"}); }),
              HasSubstr("there is no sweep over 'resid'; there are resid_pre, "));
  EXPECT_THAT(
      message_of<Error>([] { patch_sweep(tiny(), kPair, {.site = "mlp_out", .by = By::head}); }),
      HasSubstr("mlp_out cannot be swept by head; it can by pos"));
  EXPECT_THAT(message_of<Error>([] { check_sweep("pattern", By::pos); }),
              HasSubstr("it can by head or by head,dest or by head,dest,src"));
  EXPECT_EQ(ways_to_sweep("z"), (std::vector<By>{By::head, By::pos, By::head_pos}));
  EXPECT_THAT(message_of<Error>([] { parse_by("heads"); }),
              HasSubstr("a sweep goes by pos or head or head,pos or head,dest or head,dest,src or "
                        "feature or feature,pos, not by 'heads'"));
  EXPECT_THAT(message_of<TokenError>([] {
                patch_sweep(tiny(), {{1}, {2}, 97, 8});
              }),
              HasSubstr("the answer's id 97 is outside 0 to 96"));
  std::atomic<bool> cancel = true;
  EXPECT_THROW(patch_sweep(tiny(), kPair, {.cancel = &cancel}), InterruptedError);
}

}  // namespace
}  // namespace vitrine::interp
