// vitrine ablate: what it finds is what edited runs, one by one, say.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <set>
#include <sstream>

#include "tensor/files/file.h"
#include "tensor/files/safetensors.h"
#include "tests/apps/program.h"
#include "tests/apps/states.h"
#include "tests/apps/words.h"
#include "tests/support.h"
#include "tests/tensor/temporary_folder.h"

namespace vitrine::test {
namespace {

using nlohmann::json;
using ::testing::AllOf;
using ::testing::HasSubstr;

// ---- a model that sorts letters -----------------------------------------------------------------
// <start> c a b <sep> a b ...: 60 prompts, by ids, that end at each of the sorted places.
std::string sorting(const std::string& name = "") { return (data() / "sorting" / name).string(); }
const Words kSorting = {"--model",  sorting(), "--prompts", sorting("prompts.jsonl"),
                        "--metric", "accuracy"};

json ablated(const Words& more, const Words& setting = kSorting) {
  return vitrine(Words{"ablate", "--format", "json"} + setting + more).json();
}
// The metric by a run of its own that is edited so.
double evaluated(const std::vector<std::string>& edits, const std::string& metric = "accuracy") {
  Words words = {
      "evaluate", "--format", "json", "--model", sorting(), "--prompts", sorting("prompts.jsonl"),
      "--metric", metric};
  for (const std::string& e : edits) words = words + Words{"--edit", e};
  return vitrine(words).json()["all"][metric]["mean"].get<double>();
}
double mean_of(const json& entry) { return entry["metric"]["mean"].get<double>(); }
double change_of(const json& entry) { return entry["change"]["mean"].get<double>(); }

// Three questions in three commands.
TEST(Ablate, ShowsWhichHeadsSortingNeeds) {
  EXPECT_GT(evaluated({}), 0.95);
  const json j = ablated({"--of", "heads"});
  ASSERT_EQ(j["units"].size(), 8U);
  EXPECT_EQ(j["metric"]["clean"]["count"], 60);
  EXPECT_DOUBLE_EQ(j["metric"]["clean"]["mean"].get<double>(), evaluated({}));
  for (const json& unit : j["units"]) {
    const std::string name = unit["unit"];
    EXPECT_EQ(name, fmt::format("{}.{}", unit["layer"].get<int>(), unit["head"].get<int>()));
    EXPECT_DOUBLE_EQ(mean_of(unit), evaluated({"zero " + name + ".z"})) << name;
    EXPECT_NEAR(change_of(unit), mean_of(unit) - evaluated({}), 1e-12);
    EXPECT_DOUBLE_EQ(unit["fraction"].get<double>(), mean_of(unit) / evaluated({}));
    // Alone it needs two heads of layer 0, and none of layer 1.
    const bool needed = name == "0.1" || name == "0.2";
    if (needed) EXPECT_LT(change_of(unit), -0.2) << name;
    else EXPECT_GT(change_of(unit), -0.1) << name;
  }
}

TEST(Ablate, ShowsWhichLayersSortingNeeds) {
  const json j = ablated({"--of", "layers"});
  ASSERT_EQ(j["units"].size(), 2U);
  for (int layer = 0; layer < 2; ++layer) {
    const json& unit = j["units"][layer];
    EXPECT_EQ(unit["unit"], fmt::format("layer {}", layer));
    EXPECT_DOUBLE_EQ(mean_of(unit), evaluated({fmt::format("zero {}.attn_out", layer),
                                               fmt::format("zero {}.mlp_out", layer)}));
    EXPECT_LT(change_of(unit), -0.3);
  }
  const json mlps = ablated({"--of", "mlps"});
  EXPECT_DOUBLE_EQ(mean_of(mlps["units"][1]), evaluated({"zero 1.mlp_out"}));
}

TEST(Ablate, ShowsWhichHeadsSortingNeedsTogether) {
  const json j = ablated({"--of", "heads", "--sets", "greedy", "--steps", "8"});
  ASSERT_EQ(j["steps"].size(), 8U);
  std::vector<std::string> edits;
  for (const json& step : j["steps"]) {
    edits.push_back("zero " + step["unit"].get<std::string>() + ".z");
    EXPECT_EQ(step["set"].size(), edits.size());
    EXPECT_DOUBLE_EQ(mean_of(step), evaluated(edits));
    EXPECT_EQ(step["random"]["count"], 20);
    // What was looked for breaks at least as much as what was drawn.
    EXPECT_LE(mean_of(step), step["random"]["mean"].get<double>() + 1e-12);
  }
  const std::set<std::string> first = {j["steps"][0]["unit"], j["steps"][1]["unit"]};
  EXPECT_EQ(first, (std::set<std::string>{"0.1", "0.2"}));
  EXPECT_LT(mean_of(j["steps"][1]), 0.5);
  EXPECT_DOUBLE_EQ(mean_of(j["steps"][7]), evaluated({"zero z"}));
  EXPECT_LT(j["steps"][7]["random"]["deviation"], 1e-12);  // there is one set of all

  const Outcome o = vitrine(Words{"ablate", "--of", "heads", "--sets", "greedy"} + kSorting);
  EXPECT_THAT(o.out, AllOf(HasSubstr("60 prompts"), HasSubstr("accuracy is 100.0% ± 0.0%"),
                           HasSubstr("+ 0.2"), HasSubstr("20 random sets"), HasSubstr("(sd ")));
}

TEST(Ablate, FindsASetThatIsEnough) {
  const json j = ablated({"--sets", "greedy", "--grow", "keep", "--steps", "8", "--metric",
                          "logit_diff", "--random", "3"},
                         {"--model", sorting(), "--prompts", sorting("prompts.jsonl")});
  EXPECT_EQ(j["grow"], "keep");
  EXPECT_NEAR(mean_of(j["begin"]), evaluated({"zero z"}, "logit_diff"), 1e-5);
  std::set<std::string> ablated_heads;
  for (int layer = 0; layer < 2; ++layer) {
    for (int head = 0; head < 4; ++head) ablated_heads.insert(fmt::format("{}.{}", layer, head));
  }
  for (const json& step : j["steps"]) {
    ablated_heads.erase(step["unit"]);
    std::vector<std::string> edits;
    for (const std::string& head : ablated_heads) edits.push_back("zero " + head + ".z");
    EXPECT_NEAR(mean_of(step), evaluated(edits, "logit_diff"), 1e-5);
  }
  EXPECT_NEAR(j["steps"][7]["fraction"].get<double>(), 1, 1e-6);
}

TEST(Ablate, OfPairsIsSymmetricAndSaysWhatTheyDoTogether) {
  const TemporaryFolder folder;
  const json j = ablated({"--sets", "pairs", "--out", folder / "pairs.safetensors"});
  ASSERT_EQ(j["pairs"].size(), 28U);
  const auto file = SafeTensors::open(folder / "pairs.safetensors");
  const Tensor effect = file.at("effect"), interaction = file.at("interaction");
  ASSERT_EQ(effect.shape(), (Shape{8, 8}));
  std::map<std::string, int> number;
  for (const json& unit : j["units"]) number.emplace(unit["unit"], static_cast<int>(number.size()));
  for (const json& pair : j["pairs"]) {
    const std::string a = pair["units"][0], b = pair["units"][1];
    const double both = evaluated({"zero " + a + ".z", "zero " + b + ".z"});
    EXPECT_DOUBLE_EQ(mean_of(pair), both);
    const double alone = change_of(j["units"][number[a]]) + change_of(j["units"][number[b]]);
    EXPECT_NEAR(pair["interaction"]["mean"].get<double>(), change_of(pair) - alone, 1e-12);
    EXPECT_NEAR(effect.at<float>({number[a], number[b]}), change_of(pair), 1e-6);
    EXPECT_EQ(effect.at<float>({number[b], number[a]}), effect.at<float>({number[a], number[b]}));
    EXPECT_NEAR(interaction.at<float>({number[b], number[a]}), change_of(pair) - alone, 1e-6);
  }
  // Without 0.1, 0.0 is needed, which it is not alone.
  EXPECT_GT(change_of(j["units"][0]), -0.05);
  EXPECT_LT(interaction.at<float>({0, 1}), -0.1);
  EXPECT_TRUE(std::isnan(interaction.at<float>({3, 3})));
  const Outcome o = vitrine(Words{"ablate", "--sets", "pairs", "--top", "4"} + kSorting);
  EXPECT_THAT(o.out, AllOf(HasSubstr("interaction"), HasSubstr("0.0 + 0.1"),
                           HasSubstr("the 4 of 28 pairs with the largest interaction")));
}

TEST(Ablate, GivesMeansByGroupAndEachPrompt) {
  const TemporaryFolder folder;
  const std::string out = folder / "heads.safetensors";
  const json j = ablated({"--group-by", "place", "--out", out});
  ASSERT_EQ(j["groups"].size(), 5U);
  ASSERT_EQ(j["prompts"].size(), 60U);
  for (int g = 0; g < 5; ++g) {
    EXPECT_EQ(j["groups"][g]["prompts"], 12);
    for (int u = 0; u < 8; ++u) {
      double sum = 0;
      for (int p = g; p < 60; p += 5) sum += j["prompts"][p]["metric"][u].get<double>();
      EXPECT_NEAR(mean_of(j["groups"][g]["units"][u]), sum / 12, 1e-12);
    }
  }
  const auto file = SafeTensors::open(out);
  EXPECT_EQ(file.at("effect").shape(), (Shape{2, 4}));
  EXPECT_EQ(file.at("effect/each").shape(), (Shape{60, 2, 4}));
  for (int u = 0; u < 8; ++u) {
    EXPECT_NEAR(file.at("effect").at<float>({u / 4, u % 4}), change_of(j["units"][u]), 1e-6);
    EXPECT_NEAR(file.at("group/3/effect").at<float>({u / 4, u % 4}),
                change_of(j["groups"][3]["units"][u]), 1e-6);
  }
  const Outcome o = vitrine(Words{"ablate", "--group-by", "place", "--each", "--vocabulary",
                                  sorting("vocabulary.txt"), "--out", folder / "heads.csv"} +
                            kSorting);
  EXPECT_THAT(o.out, AllOf(HasSubstr("place 0, 12 prompts"), HasSubstr("<start>"),
                           HasSubstr("tensors written to")))
      << o.err;
  EXPECT_THAT(read_text(folder / "heads.csv"),
              AllOf(HasSubstr("tensor,layer,head"), HasSubstr("effect,1,3,")));
}

// The prompts of the sorted place 2 alone, in a file.
std::string third_place(const TemporaryFolder& folder) {
  std::istringstream lines(read_text(sorting("prompts.jsonl")));
  std::string some;
  for (std::string line; std::getline(lines, line);) {
    if (line.find("\"place\": 2") != std::string::npos) some += line + "\n";
  }
  write_text(folder / "third.jsonl", some);
  return folder / "third.jsonl";
}

TEST(Ablate, PairsByGroupAreThoseOfTheGroupAlone) {
  const TemporaryFolder folder;
  const Words pairs = {"--sets", "pairs"};
  const json all = ablated(pairs), j = ablated(pairs + Words{"--group-by", "place", "--out",
                                                             folder / "pairs.safetensors"});
  EXPECT_EQ(j["runs"], all["runs"]);  // none is made for a group
  EXPECT_EQ(j["pairs"], all["pairs"]);
  EXPECT_EQ(all["group_by"], nullptr);
  EXPECT_EQ(j["group_by"], "place");
  ASSERT_EQ(j["groups"].size(), 5U);
  const json& group = j["groups"][2];
  const json alone = ablated(
      pairs, {"--model", sorting(), "--prompts", third_place(folder), "--metric", "accuracy"});
  EXPECT_EQ(group["name"], "2");
  EXPECT_EQ(group["prompts"], 12);
  EXPECT_EQ(group["clean"], alone["metric"]["clean"]);
  ASSERT_EQ(group["pairs"].size(), 28U);
  for (int i = 0; i < 28; ++i) {
    EXPECT_EQ(group["pairs"][i]["units"], alone["pairs"][i]["units"]);
    EXPECT_NEAR(mean_of(group["pairs"][i]), mean_of(alone["pairs"][i]), 1e-12);
    EXPECT_NEAR(group["pairs"][i]["interaction"]["mean"].get<double>(),
                alone["pairs"][i]["interaction"]["mean"].get<double>(), 1e-12);
  }
  const auto file = SafeTensors::open(folder / "pairs.safetensors");
  EXPECT_NEAR(file.at("group/2/interaction").at<float>({1, 0}),
              group["pairs"][0]["interaction"]["mean"].get<double>(), 1e-6);
  const Outcome o =
      vitrine(Words{"ablate", "--top", "2", "--group-by", "place"} + pairs + kSorting);
  EXPECT_THAT(o.out, AllOf(HasSubstr("place 2, 12 prompts, clean "), HasSubstr("\nall\n")));
}

TEST(Ablate, AGreedySetIsShownForEachGroup) {
  const TemporaryFolder folder;
  const Words greedy = {"--sets", "greedy", "--steps", "2", "--random", "3"};
  const json all = ablated(greedy), j = ablated(greedy + Words{"--group-by", "place", "--out",
                                                               folder / "greedy.safetensors"});
  EXPECT_EQ(j["runs"], all["runs"]);
  EXPECT_EQ(j["steps"], all["steps"]);  // the set is that of all prompts
  ASSERT_EQ(j["groups"].size(), 5U);
  for (int g = 0; g < 5; ++g) {
    const json& group = j["groups"][g];
    ASSERT_EQ(group["steps"].size(), 2U);
    for (int s = 0; s < 2; ++s) {
      EXPECT_EQ(group["steps"][s]["unit"], j["steps"][s]["unit"]);
      double sum = 0;
      for (int p = g; p < 60; p += 5) sum += j["prompts"][p]["metric"][s].get<double>();
      EXPECT_NEAR(mean_of(group["steps"][s]), sum / 12, 1e-12);
    }
  }
  // Random sets do not depend on the prompts: those of the group alone are the same.
  const json alone = ablated(
      greedy, {"--model", sorting(), "--prompts", third_place(folder), "--metric", "accuracy"});
  for (int s = 0; s < 2; ++s) {
    for (int i = 0; i < 3; ++i) {
      EXPECT_NEAR(j["groups"][2]["steps"][s]["random"]["values"][i].get<double>(),
                  alone["steps"][s]["random"]["values"][i].get<double>(), 1e-12);
    }
  }
  const auto file = SafeTensors::open(folder / "greedy.safetensors");
  EXPECT_NEAR(file.at("group/2/greedy/metric").at<float>({1}), mean_of(j["groups"][2]["steps"][1]),
              1e-6);
  const Outcome o = vitrine(Words{"ablate", "--group-by", "place"} + greedy + kSorting);
  EXPECT_THAT(o.out, AllOf(HasSubstr("place 2, 12 prompts, clean "),
                           HasSubstr("the sets are those of all prompts")));
}

TEST(Ablate, ActionsSayWhatIsPutIn) {
  const std::string file = sorting("prompts.jsonl");
  const json mean = ablated({"--of", "mlps", "--action", "mean"});
  EXPECT_DOUBLE_EQ(mean_of(mean["units"][0]), evaluated({"mean 0.mlp_out from=" + file}));
  EXPECT_DOUBLE_EQ(mean_of(mean["units"][1]), evaluated({"mean 1.mlp_out from=" + file}));
  const Words resample = {"--of", "layers", "--action", "resample", "--seed"};
  const json one = ablated(resample + Words{"1"});
  EXPECT_EQ(one["action"], "resample");
  EXPECT_LT(change_of(one["units"][0]), -0.3);
  EXPECT_EQ(ablated(resample + Words{"1"})["prompts"], one["prompts"]);
  EXPECT_NE(ablated(resample + Words{"2"})["prompts"], one["prompts"]);
}

// Only the positions of a role and the last one are ablated, as by an edit there.
TEST(Ablate, AtPositionsOnly) {
  const TemporaryFolder folder;
  const std::string file = state_prompts(folder);
  for (const std::string action : {"zero", "mean"}) {
    const json j = result_of({"ablate", "--prompts", file, "--of", "layers", "--pos", "name,-1",
                              "--action", action, "--group-by", "coast"});
    EXPECT_EQ(j["pos"], json({"name", -1}));
    const std::string edit =
        action == "zero" ? "zero {} pos=name,-1" : "mean {} from=" + file + " pos=name,-1";
    const json edited = result_of({"evaluate", "--prompts", file, "--edit",
                                   fmt::format(fmt::runtime(edit), "3.attn_out"), "--edit",
                                   fmt::format(fmt::runtime(edit), "3.mlp_out")});
    EXPECT_NEAR(mean_of(j["units"][3]), edited["all"]["logit_diff"]["mean"].get<double>(), 1e-4);
  }
  // Together with heads, which lie along another axis, and for a set.
  const json set = result_of({"ablate", "--prompts", file, "--sets", "greedy", "--steps", "2",
                              "--random", "0", "--pos", "name"});
  Words words = {"evaluate", "--prompts", file};
  for (const json& step : set["steps"]) {
    words =
        words + Words{"--edit", fmt::format("zero {}.z pos=name", step["unit"].get<std::string>())};
  }
  EXPECT_NEAR(mean_of(set["steps"][1]), result_of(words)["all"]["logit_diff"]["mean"].get<double>(),
              1e-4);
  EXPECT_EQ(result_of({"ablate", "--prompts", file, "--of", "mlps"})["pos"], nullptr);
  EXPECT_THAT(vitrine({"ablate", "--prompts", file, "--pos", "name,-1"}).out,
              HasSubstr("z of heads set to zero at pos name, -1, one at a time"));
  const Outcome o = vitrine({"ablate", "--prompts", file, "--pos", "5"});
  EXPECT_EQ(o.exit, 3);
  EXPECT_THAT(o.err, HasSubstr("line 1: there is no position 5: the prompt has 5 tokens"));
}

TEST(Ablate, EditsStayInAllRuns) {
  const json j = ablated({"--edit", "zero 0.1.z"});
  EXPECT_DOUBLE_EQ(j["metric"]["clean"]["mean"].get<double>(), evaluated({"zero 0.1.z"}));
  EXPECT_EQ(j["meta"]["edits"].size(), 1U);
  EXPECT_EQ(change_of(j["units"][1]), 0);
  EXPECT_DOUBLE_EQ(mean_of(j["units"][2]), evaluated({"zero 0.1.z", "zero 0.2.z"}));
}

// ---- the default model ----------------------------------------------------------------------------
TEST(Ablate, OfOnePromptEqualsEditedRuns) {
  const TemporaryFolder folder;
  write_text(
      folder / "one.jsonl",
      R"({"prompt": "The capital of Texas is", "answer": " Austin", "wrong": " Sacramento"})");
  const json j = vitrine({"ablate", "--prompt", "The capital of Texas is", "--answer", " Austin",
                          "--wrong", " Sacramento", "--format", "json"})
                     .json();
  ASSERT_EQ(j["units"].size(), 24U);
  EXPECT_EQ(j["units"][0]["change"]["standard_error"], nullptr);
  for (const int u : {4, 13}) {
    const std::string head = j["units"][u]["unit"];
    const json run = vitrine({"evaluate", "--prompts", folder / "one.jsonl", "--metric",
                              "logit_diff", "--edit", "zero " + head + ".z", "--format", "json"})
                         .json();
    EXPECT_NEAR(mean_of(j["units"][u]), run["all"]["logit_diff"]["mean"].get<double>(), 2e-4);
  }
}

TEST(Ablate, FeaturesOfASplicedSae) {
  const TemporaryFolder folder;
  const std::string file = folder / "states.jsonl";
  std::string lines;
  for (const auto& [state, capital] :
       {std::pair{"Texas", "Austin"}, {"Ohio", "Columbus"}, {"New York", "Albany"}})
    lines += json{{"prompt", fmt::format("The capital of {} is", state)},
                  {"answer", fmt::format(" {}", capital)}}
                 .dump() +
             "\n";
  write_text(file, lines);
  const Words setting = {"--prompts", file,   "--sae",    "blocks.4.hook_mlp_out",
                         "--metric",  "prob", "--format", "json"};
  const json j = vitrine(Words{"ablate", "--of", "features", "--active", "4", "--out",
                               folder / "features.csv"} +
                         setting)
                     .json();
  ASSERT_EQ(j["units"].size(), 4U);
  for (const json& unit : j["units"]) {
    const json run =
        vitrine(Words{"evaluate", "--edit",
                      fmt::format("zero blocks.4.hook_mlp_out.hook_sae_acts_post feature={}",
                                  unit["feature"].get<int>())} +
                setting)
            .json();
    EXPECT_NEAR(mean_of(unit), run["all"]["prob"]["mean"].get<double>(), 1e-5);
    EXPECT_EQ(unit["site"], "blocks.4.hook_mlp_out.hook_sae_acts_post");
  }
  EXPECT_THAT(read_text(folder / "features.csv"),
              HasSubstr(fmt::format("effect,{},feature {},", j["units"][1]["feature"].get<int>(),
                                    j["units"][1]["feature"].get<int>())));
}

// ---- what is refused ------------------------------------------------------------------------------
TEST(Ablate, RefusesWhatDoesNotGoTogether) {
  const auto refused = [](const Words& words, const std::string& why, int exit = 2) {
    const Outcome o = vitrine(Words{"ablate"} + kSorting + words);
    EXPECT_EQ(o.exit, exit) << o.out;
    EXPECT_THAT(o.err, HasSubstr(why));
  };
  refused({"--steps", "3"}, "--steps is about a set that grows; give --sets greedy");
  refused({"--grow", "keep", "--sets", "pairs"}, "--grow is about a set that grows");
  refused({"--random", "3"}, "--random is about a set that grows");
  refused({"--sets", "greedy", "--top", "3"}, "--top is about what is listed");
  refused({"--of", "features"}, "--of features ablates those of a spliced SAE; give --sae DIR");
  refused({"--active", "3"}, "--active is about features");
  refused({"--sets", "pairs", "--each"}, "--each lists prompts with --sets single or greedy");
  refused({"--of", "neurons"}, "--of");
  refused({"--answer-token", "3"}, "give --prompts or --answer-token, not both");
  refused({"--group-by", "size"}, "there is no field \"size\" to group by", 3);
  const auto refused_alone = [](const Words& words, const std::string& why) {
    const Outcome o = vitrine(Words{"ablate", "--model", sorting()} + words);
    EXPECT_EQ(o.exit, 2) << o.out;
    EXPECT_THAT(o.err, HasSubstr(why));
  };
  const Words one = {"--tokens", "0,3,1,2", "--answer-token", "1", "--wrong-token", "2"};
  refused_alone(one + Words{"--action", "resample"}, "give several with --prompts FILE");
  refused_alone({"--tokens", "0,3,1,2"}, "give --answer TOKEN");
  refused_alone({"--tokens", "0,3,1,2", "--answer-token", "1"}, "give --wrong TOKEN");
  refused_alone({"--answer-token", "1", "--wrong-token", "2"}, "--tokens");
}

}  // namespace
}  // namespace vitrine::test
