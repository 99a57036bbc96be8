// When a head is called an induction head, on the model that ships and on ones that are made so
// that the verdict must change.
#include "interp/induction_heads.h"

#include <cmath>

#include "nn/families/sites.h"
#include "tensor/error.h"
#include "tests/support.h"

namespace vitrine::interp {
namespace {

const nn::Model& model() {
  // Its weights are changed below.
  static const nn::Model m = nn::load_gpt2("", {.weights = nn::Weights::widened});
  return m;
}
const std::vector<nn::Tokens>& prompts() {
  static const auto p = repeated_tokens(model().config(), random::Key{3}, 4, 20);
  return p;
}
const InductionStudy& study() {
  static const InductionStudy s = study_induction(model(), prompts(), random::Key{4});
  return s;
}

TEST(InductionHeads, OfTheDefaultModel) {
  const auto heads = study().induction_heads();
  ASSERT_FALSE(heads.empty());
  for (const Head& h : heads) {
    EXPECT_EQ(h.layer, 1);
    EXPECT_GE(study().scores.induction.at<double>({h.layer, h.head}), 0.4);
  }
}

// The same head with its output cut off attends as before: it neither copies nor is it needed.
TEST(InductionHeads, AttendingIsNotEnough) {
  const Head head = study().induction_heads().at(0);
  Parameters parameters = model().parameters();
  const std::string name = fmt::format("h.{}.attn.c_proj.weight", head.layer);
  const Tensor w = parameters.at(name).clone();  // [h * e, d]
  const std::int64_t e = model().config().d_head(), d = model().config().d_model;
  std::fill_n(w.data<float>() + head.head * e * d, e * d, 0.f);
  parameters[name] = w;
  const nn::Model mute(model().config(), parameters, std::nullopt);
  const InductionStudy s = study_induction(mute, prompts(), random::Key{4});
  const Verdict v = s.verdict(head);
  EXPECT_TRUE(v.attends);
  EXPECT_FALSE(v.copies);
  EXPECT_FALSE(v.needed);
  EXPECT_FALSE(v.is_induction_head());
  EXPECT_NEAR(s.swaps.mean.at<double>({head.layer, head.head}), 0, 1e-4);
}

// With the sign of what it writes turned, the prediction runs away from what the head attends to.
TEST(InductionHeads, AHeadThatWritesTheOppositeDoesNotCopy) {
  const Head head = study().induction_heads().at(0);
  Parameters parameters = model().parameters();
  const std::string name = fmt::format("h.{}.attn.c_proj.weight", head.layer);
  const Tensor w = parameters.at(name).clone();
  const std::int64_t e = model().config().d_head(), d = model().config().d_model;
  for (std::int64_t i = head.head * e * d; i < (head.head + 1) * e * d; ++i)
    w.data<float>()[i] = -w.data<float>()[i];
  parameters[name] = w;
  const nn::Model against(model().config(), parameters, std::nullopt);
  const HeadEffects swaps = value_swaps(against, prompts(), random::Key{4});
  EXPECT_LT(swaps.mean.at<double>({head.layer, head.head}), 0);
  EXPECT_GT(study().swaps.mean.at<double>({head.layer, head.head}), 0);
}

TEST(InductionHeads, AblationsEqualOneRunEach) {
  const HeadAblations& a = study().ablations;
  const nn::Run clean = model().run(prompts(), sites("blocks.*.attn.hook_z"));
  const Head head{1, 2};
  const Tensor z = clean[site::z(1)];  // [batch, pos, head, e]
  const std::int64_t e = z.dim(3), rows = z.dim(0) * z.dim(1);
  std::vector<double> mean(static_cast<std::size_t>(e), 0.0);
  for (std::int64_t i = 0; i < z.dim(0); ++i)
    for (std::int64_t p = 0; p < z.dim(1); ++p)
      for (std::int64_t k = 0; k < e; ++k)
        mean[static_cast<std::size_t>(k)] +=
            z.at<float>({i, p, head.head, k}) / static_cast<double>(rows);
  const Interventions edit = {
      replace(site::z(1), Tensor::of({1, 1, e}, mean).to(DType::f32), {.head = {head.head}})};
  const auto loss = [&](const Interventions& what) {  // of the second half after its first token
    const nn::Run run = model().run_edited(prompts(), what, fetch(value("logits")));
    double total = 0;
    for (std::size_t i = 0; i < prompts().size(); ++i) {
      const Tensor logits = run.logits().select(0, static_cast<std::int64_t>(i));
      for (std::int64_t p = 20; p + 1 < 40; ++p) {
        const auto x = logits.select(0, p).to_vector<double>();
        double sum = 0;
        for (const double v : x) sum += std::exp(v);
        total += std::log(sum) -
                 x[static_cast<std::size_t>(prompts()[i][static_cast<std::size_t>(p + 1)])];
      }
    }
    return total / (19.0 * static_cast<double>(prompts().size()));
  };
  const double base = loss({});
  EXPECT_NEAR(a.loss, base, 1e-4);
  EXPECT_NEAR(a.change.mean.at<double>({1, 2}), loss(edit) - base, 1e-3);
}

TEST(InductionHeads, PathsSplitQueryAndKeys) {
  const Head later = study().induction_heads().at(0);
  const std::vector<std::vector<Head>> groups = {{{0, 1}, {0, 3}}};
  const std::vector<Head> heads = {later};
  const auto paths = paths_to(model(), prompts(), groups, heads);
  ASSERT_EQ(paths.size(), 1u);
  const PathEffect& p = paths[0];
  EXPECT_NEAR(p.unedited, study().scores.induction.at<double>({later.layer, later.head}), 1e-5);
  // This model finds its place by the query's side: where the token was before.
  EXPECT_LT(p.everywhere, 0.5 * p.unedited);
  EXPECT_LT(p.by_query, 0.5 * p.unedited);
  // A head of an earlier layer does not depend on it, and is not asked.
  const std::vector<std::vector<Head>> after = {{{2, 0}}};
  EXPECT_TRUE(paths_to(model(), prompts(), after, heads).empty());
}

TEST(InductionHeads, ShiftedPositionsShiftTheAttention) {
  const std::vector<Head> moved = {{0, 1}, {0, 3}}, later = {study().induction_heads().at(0)};
  const MovedPositions m = move_positions(model(), prompts(), moved, later, 1, 2);
  ASSERT_EQ(to_string(m.moved.shape()), "[1, 5]");
  EXPECT_GT(m.unedited.at<double>({0, 2}), 0.4);  // at the place itself
  EXPECT_GT(m.moved.at<double>({0, 3}), m.unedited.at<double>({0, 3}) + 0.2);  // one further
  const std::vector<Head> late = {{1, 0}};
  EXPECT_THROW(move_positions(model(), prompts(), late, later, 1), Error);
}

TEST(InductionHeads, TheVerdictNeedsAllThree) {
  const Criteria c;
  const Measured yes{1.0, 0.1, 0.05}, unsure{0.1, 0.08, 0.0}, common{0.2, 0.01, 0.3},
      unknown{std::nan(""), std::nan(""), 0};
  EXPECT_TRUE(judge(0.9, yes, yes, c).is_induction_head());
  EXPECT_FALSE(judge(0.3, yes, yes, c).is_induction_head());
  EXPECT_FALSE(judge(0.9, unsure, yes, c).is_induction_head());  // within two standard errors
  EXPECT_FALSE(judge(0.9, yes, common, c).is_induction_head());  // no more than other heads
  EXPECT_FALSE(judge(0.9, yes, unknown, c).is_induction_head());
}

TEST(InductionHeads, CopyingByRank) {
  const CopyRanks r = copying_in_context(model(), prompts(), random::Key{5}, 10, 16),
                  w = copying_of_weights(model(), random::Key{5}, 10, 16);
  for (const CopyRanks* c : {&r, &w}) {
    EXPECT_NEAR(c->chance, 10.0 / 6000, 1e-12);
    for (const double x : c->top.to_vector<double>()) EXPECT_TRUE(x >= 0 && x <= 1);
    for (const double x : c->rank.to_vector<double>()) EXPECT_TRUE(x >= 0 && x <= 1);
  }
  EXPECT_THROW(copying_of_weights(model(), random::Key{5}, 0, 16), Error);
}

}  // namespace
}  // namespace vitrine::interp
