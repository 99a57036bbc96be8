// vitrine influence --prompts: means over prompts, beside single runs.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <set>

#include "tests/apps/states.h"

namespace vitrine::test {
namespace {

using nlohmann::json;
using ::testing::AllOf;
using ::testing::HasSubstr;

const Words kSaes = {"influence", "--source-sae", "blocks.1.hook_mlp_out", "--target-sae",
                     "blocks.4.hook_mlp_out"};

TEST(InfluenceOfPrompts, MeansAreThoseOfSingleRuns) {
  const TemporaryFolder folder;
  const Words many = kSaes + Words{"--prompts", state_prompts(folder), "--target-pos", "name"};
  const json chosen = result_of(many + Words{"--targets", "2"});
  ASSERT_EQ(chosen["all"]["targets"].size(), 2u);
  std::string features;
  for (const json& t : chosen["all"]["targets"])
    features += fmt::format("{}{}", features.empty() ? "" : ",", t["feature"].get<int>());
  const json j = result_of(
      many + Words{"--target-feature", features, "--top", "100000", "--group-by", "coast"});
  EXPECT_EQ(j["position"], "name");
  for (std::size_t k = 0; k < 2; ++k) {
    const int feature = j["all"]["targets"][k]["feature"];
    // By source feature, of each prompt in which the target is active: summed over positions.
    std::map<int, std::map<std::size_t, double>> effects;
    std::vector<std::size_t> active;
    for (std::size_t i = 0; i < 4; ++i) {
      const StatePrompt& s = kStatePrompts[i];
      const json one =
          result_of(kSaes + Words{"--prompt", s.prompt(), "--target-pos", std::to_string(s.end - 1),
                                  "--target-feature", std::to_string(feature), "--top", "100000",
                                  "--verify", "0"});
      const json& target = one["targets"][0];
      EXPECT_NEAR(j["prompts"][i]["targets"][k]["activation"].get<double>(),
                  target["target"]["activation"].get<double>(), 1e-4);
      if (target["target"]["activation"] == 0) continue;
      active.push_back(i);
      for (const json& c : target["causes"])
        effects[c["source"]["feature"].get<int>()][i] += c["first_order"].get<double>();
      for (const json& c : j["prompts"][i]["targets"][k]["causes"])
        EXPECT_NEAR(c["first_order"].get<double>(), effects[c["feature"].get<int>()][i], 1e-4);
    }
    const auto expect = [&](const json& target, const std::vector<std::size_t>& prompts) {
      EXPECT_EQ(target["feature"], feature);
      EXPECT_EQ(target["active"], prompts.size());
      for (const json& c : target["causes"]) {
        const auto& of_prompt = effects.at(c["feature"].get<int>());
        std::vector<double> values;
        for (const std::size_t i : prompts)
          values.push_back(of_prompt.contains(i) ? of_prompt.at(i) : 0);
        expect_mean(c["first_order"], c["standard_error"], values, 1e-4);
      }
    };
    expect(j["all"]["targets"][k], active);
    std::vector<std::size_t> of_group;
    for (const std::size_t i : active) {
      if (i >= 2) of_group.push_back(i);
    }
    EXPECT_EQ(j["groups"][2]["prompts"], 2);
    expect(j["groups"][2]["targets"][k], of_group);
    EXPECT_FALSE(active.empty());
  }
}

TEST(InfluenceOfPrompts, TablesFilesAndMistakes) {
  const TemporaryFolder folder;
  const Words many =
      kSaes + Words{"--prompts", state_prompts(folder), "--targets", "2", "--top", "3"};
  const Outcome o = vitrine(many + Words{"--group-by", "coast", "--each"});
  ASSERT_EQ(o.exit, 0) << o.err;
  EXPECT_THAT(o.out, AllOf(HasSubstr("4 prompts: 3 of 5 tokens, 1 of 6\n"),
                           HasSubstr("targets at position -1 of each"), HasSubstr(" of 4 prompts"),
                           HasSubstr("\ncoast none, 2 prompts\n"), HasSubstr(" ± "),
                           HasSubstr("strongest causes")));
  ASSERT_EQ(vitrine(many + Words{"--out", folder / "i.csv"}).exit, 0);
  EXPECT_TRUE(read_text(folder / "i.csv")
                  .starts_with("group,target,target_active,target_activation,feature,first_order,"
                               "standard_error,active\nall,"));
  expect_failure(many + Words{"--source-pos", "1"}, 2, "--source-pos does not go with --prompts");
  expect_failure(many + Words{"--verify", "1"}, 2, "--verify does not go with --prompts");
  expect_failure(many + Words{"--target-pos", "1,2"}, 2, "--target-pos is one position or role");
  expect_failure(many + Words{"--target-pos", "9"}, 3, "line 1: there is no position 9");
  expect_failure(many + Words{"--prompt", "a"}, 2, "give --prompts or --prompt, not both");
  const Words one = kSaes + Words{"--prompt", "The capital of Texas is"};
  expect_failure(one + Words{"--target-pos", "-1"}, 2, "'-1' is not a position of the prompt");
  expect_failure(one + Words{"--target-pos", "name"}, 2, "'name' is not a position of the prompt");
  expect_failure(one + Words{"--out", "x.csv"}, 2, "the causes in one prompt are no table");
}

// Transcoders of all layers, as one training run leaves them, and an SAE besides.
TEST(InfluenceOfSeveralLayers, TranscodersAndSaesTogether) {
  const TemporaryFolder folder;
  const std::string run = folder / "transcoders";
  const Outcome trained = vitrine({"sae",        "train",
                                   "--site",     "*.ln2.hook_normalized",
                                   "--target",   "*.hook_mlp_out",
                                   "--kind",     "batchtopk",
                                   "--features", "64",
                                   "--k",        "8",
                                   "--vectors",  "512",
                                   "--batch",    "128",
                                   "--buffer",   "512",
                                   "--data",     "/usr/share/common-licenses/GPL-3",
                                   "--out",      run});
  ASSERT_EQ(trained.exit, 0) << trained.err;
  const Words words = {"influence",
                       "--source-sae",
                       run,
                       "--target-sae",
                       "blocks.4.hook_mlp_out",
                       "--prompt",
                       "The capital of Texas is",
                       "--target-pos",
                       "4",
                       "--targets",
                       "2",
                       "--top",
                       "20",
                       "--verify",
                       "4"};
  const json j = result_of(words);
  ASSERT_EQ(j["sources"].size(), 6u);
  EXPECT_TRUE(j["source_sae"].is_null());
  EXPECT_EQ(j["target_site"], "blocks.4.hook_mlp_out");
  std::set<std::string> sites;
  for (const json& t : j["targets"]) {
    EXPECT_EQ(t["target"]["site"], "blocks.4.hook_mlp_out");
    for (const json& c : t["causes"]) sites.insert(c["source"]["site"].get<std::string>());
    EXPECT_TRUE(t["causes"][0]["exact"].is_number());
  }
  EXPECT_GT(sites.size(), 2u);
  for (const char* later : {"blocks.4.hook_mlp_out", "blocks.5.hook_mlp_out"})
    EXPECT_FALSE(sites.contains(later));
  const Outcome table = vitrine(words);
  EXPECT_THAT(table.out, AllOf(HasSubstr("blocks.0.hook_mlp_out"), HasSubstr("first order")));
  Words many = words;
  many[5] = "--prompts";
  many[6] = state_prompts(folder);
  many.resize(7);
  const Outcome refused = vitrine(many);
  EXPECT_EQ(refused.exit, 2);
  EXPECT_THAT(refused.err, HasSubstr("one --source-sae and one --target-sae"));
}

}  // namespace
}  // namespace vitrine::test
