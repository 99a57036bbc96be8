// Patching sweeps against TransformerLens.
#include <gtest/gtest.h>

#include <map>
#include <optional>

#include "interp/patching.h"
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

class PatchingGolden : public testing::TestWithParam<Case> {
 protected:
  void SetUp() override {
    if (GetParam().shared) VITRINE_NEEDS_SHARED("reference/atlas-gpt2");
    model_.emplace(nn::load_gpt2(GetParam().model.string()));
  }
  const nn::Model& model() const { return *model_; }

 private:
  std::optional<nn::Model> model_;
};

const std::map<std::string, std::pair<std::string, By>> kSweeps = {
    {"resid_pre", {"resid_pre", By::pos}},
    {"resid_mid", {"resid_mid", By::pos}},
    {"attn_out", {"attn_out", By::pos}},
    {"mlp_out", {"mlp_out", By::pos}},
    {"attn_head_out_all_pos", {"z", By::head}},
    {"attn_head_q_all_pos", {"q", By::head}},
    {"attn_head_k_all_pos", {"k", By::head}},
    {"attn_head_v_all_pos", {"v", By::head}},
    {"attn_head_pattern_all_pos", {"pattern", By::head}},
    {"attn_head_out_by_pos", {"z", By::head_pos}},
    {"attn_head_pattern_by_pos", {"pattern", By::head_dest}}};

TEST_P(PatchingGolden, EverySweep) {
  const SafeTensors golden = SafeTensors::open(GetParam().golden / "patching.safetensors");
  const auto tokens = [&](const char* name) {
    return golden.at(name).select(0, 0).to_vector<int>();
  };
  const auto answers = golden.at("answer").to_vector<int>();
  const Pair pair{tokens("clean"), tokens("corrupt"), answers[0], answers[1]};
  int compared = 0;
  for (const std::string& name : golden.names()) {
    if (!name.starts_with("sweep/")) continue;
    SCOPED_TRACE(name);
    ASSERT_TRUE(kSweeps.contains(name.substr(6)));
    const auto& [site, by] = kSweeps.at(name.substr(6));
    const Sweep sweep = patch_sweep(model(), pair, {.site = site, .by = by});
    EXPECT_NEAR(sweep.clean, golden.at("metric/clean").item<double>(), kTolerance);
    EXPECT_NEAR(sweep.corrupt, golden.at("metric/corrupt").item<double>(), kTolerance);
    const Tensor want = golden.at(name).to(DType::f64);
    ASSERT_EQ(to_string(sweep.values.shape()), to_string(want.shape()));
    EXPECT_LE(max_abs_difference(sweep.values, want), kTolerance);
    EXPECT_EQ(sweep.runs, want.numel());
    ++compared;
  }
  EXPECT_EQ(compared, static_cast<int>(kSweeps.size()));
}

INSTANTIATE_TEST_SUITE_P(Models, PatchingGolden,
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
