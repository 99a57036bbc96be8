// Patching sweeps against TransformerLens.
#include <gtest/gtest.h>

#include <map>

#include "interp/patching.h"
#include "tests/interp/golden_case.h"

namespace vitrine::interp {
namespace {

constexpr double kTolerance = 1e-4;

using PatchingGolden = test::GoldenTest;

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
  const SafeTensors golden = open("patching");
  int compared = 0;
  for (const std::string& name : golden.names()) {
    if (!name.starts_with("sweep/")) continue;
    SCOPED_TRACE(name);
    ASSERT_TRUE(kSweeps.contains(name.substr(6)));
    const auto& [site, by] = kSweeps.at(name.substr(6));
    const PatchSweep sweep = patch_sweep(model(), pair, {.site = site, .by = by});
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

INSTANTIATE_TEST_SUITE_P(Models, PatchingGolden, test::golden_cases(),
                         [](const auto& tested) { return tested.param.name; });

}  // namespace
}  // namespace vitrine::interp
