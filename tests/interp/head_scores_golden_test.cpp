// Head scores and composition against the reference: the same tokens, the same weights.
#include <gtest/gtest.h>

#include <optional>

#include "interp/composition.h"
#include "interp/head_scores.h"
#include "tests/support.h"

namespace vitrine::interp {
namespace {

constexpr double kTolerance = 1e-4;

struct Case {
  std::string name;
  std::filesystem::path model, golden;
  bool shared;
};
std::ostream& operator<<(std::ostream& out, const Case& c) { return out << c.name; }

class HeadsGolden : public testing::TestWithParam<Case> {
 protected:
  void SetUp() override {
    if (GetParam().shared) VITRINE_NEEDS_SHARED("reference/atlas-gpt2");
    golden_.emplace(SafeTensors::open(GetParam().golden / "heads.safetensors"));
  }
  nn::Model load(const nn::Gauge& gauge) const {
    return nn::load_gpt2(GetParam().model.string(), {.gauge = gauge});
  }
  void expect(const Tensor& mine, const std::string& name) const {
    const Tensor want = golden_->at(name).to(DType::f64);
    ASSERT_EQ(vitrine::to_string(mine.shape()), vitrine::to_string(want.shape())) << name;
    EXPECT_LE(max_abs_difference(mine, want), kTolerance) << name;
    EXPECT_GT(max_abs(want), 0.02) << name << ": something is compared";
  }
  const SafeTensors& golden() const { return *golden_; }

 private:
  std::optional<SafeTensors> golden_;
};

TEST_P(HeadsGolden, Scores) {
  const Tensor tokens = golden().at("tokens");  // [4, 2T]
  std::vector<nn::Tokens> prompts;
  for (std::int64_t i = 0; i < tokens.dim(0); ++i)
    prompts.push_back(tokens.select(0, i).to_vector<int>());
  for (const nn::Gauge& gauge : {nn::Gauge::raw(), nn::Gauge::processed()}) {
    const HeadScores s = head_scores(load(gauge), prompts);  // the gauge changes no attention
    expect(s.previous, "previous");
    expect(s.duplicate, "duplicate");
    expect(s.induction, "induction");
  }
}

TEST_P(HeadsGolden, Composition) {
  for (const auto& [gauge, suffix] :
       {std::pair(nn::Gauge::raw(), ""), std::pair(nn::Gauge::processed(), "/folded")}) {
    const Composition c = composition(load(gauge));
    expect(c.q, std::string("composition_q") + suffix);
    expect(c.k, std::string("composition_k") + suffix);
    expect(c.v, std::string("composition_v") + suffix);
  }
}

INSTANTIATE_TEST_SUITE_P(Models, HeadsGolden,
                         testing::Values(Case{"tiny", test::data() / "tiny-gpt2",
                                              test::data() / "tiny-gpt2/golden", false},
                                         Case{"atlas", test::shared() / "reference/atlas-gpt2",
                                              test::shared() / "reference/atlas-gpt2/golden", true},
                                         Case{"atlas_gift", test::shared() / "reference/atlas-gpt2",
                                              test::shared() / "reference/atlas-gpt2/golden-gift",
                                              true}),
                         [](const auto& info) { return info.param.name; });

}  // namespace
}  // namespace vitrine::interp
