// Head scores and composition against the reference: the same tokens, the same weights.
#include <gtest/gtest.h>

#include "interp/composition.h"
#include "interp/head_scores.h"
#include "tests/interp/golden_case.h"

namespace vitrine::interp {
namespace {

constexpr double kTolerance = 1e-4;

class HeadsGolden : public test::GoldenTest {
 protected:
  void expect(const Tensor& mine, const std::string& name) const {
    const Tensor want = open("heads").at(name).to(DType::f64);
    ASSERT_EQ(vitrine::to_string(mine.shape()), vitrine::to_string(want.shape())) << name;
    EXPECT_LE(max_abs_difference(mine, want), kTolerance) << name;
    EXPECT_GT(max_abs(want), 0.02) << name << ": something is compared";
  }
};

TEST_P(HeadsGolden, Scores) {
  const Tensor tokens = open("heads").at("tokens");  // [4, 2T]
  std::vector<nn::Tokens> prompts;
  for (std::int64_t i = 0; i < tokens.dim(0); ++i)
    prompts.push_back(tokens.select(0, i).to_vector<int>());
  for (const nn::Gauge& gauge : {nn::Gauge::raw(), nn::Gauge::processed()}) {
    const HeadScores s = head_scores(model(gauge), prompts);  // the gauge changes no attention
    expect(s.previous, "previous");
    expect(s.duplicate, "duplicate");
    expect(s.induction, "induction");
  }
}

TEST_P(HeadsGolden, Composition) {
  for (const auto& [gauge, suffix] :
       {std::pair(nn::Gauge::raw(), ""), std::pair(nn::Gauge::processed(), "/folded")}) {
    const Composition c = composition(model(gauge));
    expect(c.q, std::string("composition_q") + suffix);
    expect(c.k, std::string("composition_k") + suffix);
    expect(c.v, std::string("composition_v") + suffix);
  }
}

INSTANTIATE_TEST_SUITE_P(Models, HeadsGolden, test::golden_cases(),
                         [](const auto& tested) { return tested.param.name; });

}  // namespace
}  // namespace vitrine::interp
