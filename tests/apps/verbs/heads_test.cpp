// What vitrine heads says of the default model and the reference one.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tensor/files/file.h"
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
using ::testing::Not;

TEST(Heads, TensorsEqualTheReference) {
  const auto golden = SafeTensors::open(tiny_model() / "golden/heads.safetensors");
  for (const std::string gauge : {"raw", "processed"}) {
    const TemporaryFolder folder;
    const std::string file = folder / "heads.safetensors";
    const Outcome o = vitrine({"heads", "--model", tiny_model().string(), "--gauge", gauge,
                               "--sequences", "2", "--half", "6", "--out", file});
    ASSERT_EQ(o.exit, 0) << o.err;
    const auto saved = SafeTensors::open(file);
    for (const std::string name : {"composition_q", "composition_k", "composition_v"}) {
      const Tensor want = golden.at(gauge == "raw" ? name : name + "/folded");
      ASSERT_EQ(to_string(saved.at(name).shape()), to_string(want.shape()));
      EXPECT_LE(max_abs_difference(saved.at(name), want), 1e-4) << name << " " << gauge;
    }
    for (const char* name : {"previous", "duplicate", "induction", "ablation/change"})
      EXPECT_EQ(to_string(saved.at(name).shape()), "[3, 4]") << name;
    EXPECT_EQ(saved.metadata().at("gauge"), gauge);
  }
}

class HeadsOfDefault : public ::testing::Test {
 protected:
  static const json& study() {
    static const json j =
        vitrine({"heads", "--sequences", "4", "--half", "24", "--format", "json"}).json();
    return j;
  }
};

// The induction of this model: duplicate-token heads of the first layer, found by the queries of
// the second.
TEST_F(HeadsOfDefault, WhoIsCalledWhat) {
  std::vector<std::string> induction, duplicate, previous;
  for (const json& h : study()["heads"]) {
    const std::string name = fmt::format("{}.{}", h["layer"].get<int>(), h["head"].get<int>());
    const std::string called = h["called"];
    if (called.find("induction") != std::string::npos) induction.push_back(name);
    if (called.find("duplicate") != std::string::npos) duplicate.push_back(name);
    if (called.find("previous") != std::string::npos) previous.push_back(name);
    const bool all = h["verdict"]["attends"].get<bool>() && h["verdict"]["copies"].get<bool>() &&
                     h["verdict"]["needed"].get<bool>();
    EXPECT_EQ(all, called.find("induction") != std::string::npos);
  }
  EXPECT_THAT(induction, ::testing::IsSupersetOf({"1.0", "1.2", "1.3"}));
  EXPECT_EQ(duplicate, (std::vector<std::string>{"0.1", "0.3"}));
  EXPECT_TRUE(previous.empty());
  EXPECT_LT(study()["loss"].get<double>(), 1);
}

TEST_F(HeadsOfDefault, TheirAttentionDependsOnTheQuery) {
  bool found = false;
  for (const json& p : study()["paths"]) {
    if (p["ablated"].size() < 2) continue;
    found = true;
    EXPECT_LT(p["after"].get<double>(), 0.3 * p["before"].get<double>());
    EXPECT_LT(p["by_query"].get<double>(), 0.3 * p["before"].get<double>());
    EXPECT_GT(p["by_keys"].get<double>(), 0.8 * p["before"].get<double>());
  }
  EXPECT_TRUE(found);
  EXPECT_FALSE(study()["moved"].is_null());
}

TEST_F(HeadsOfDefault, CompositionStandsOutFromRandomMatrices) {
  const double baseline = study()["composition"]["baseline"]["mean"];
  ASSERT_FALSE(study()["composition"]["with"].empty());
  for (const json& with : study()["composition"]["with"]) {
    const json& first = with["from"][0];
    EXPECT_EQ(first["layer"], 0);
    const double q = first["q"], k = first["k"], v = first["v"];
    EXPECT_GT(std::max({q, k, v}), baseline * 1.3);
  }
}

TEST(Heads, Tables) {
  const Outcome o = vitrine({"heads", "--sequences", "3", "--half", "16"});
  EXPECT_EQ(o.exit, 0);
  EXPECT_EQ(o.err, "");
  EXPECT_THAT(o.out,
              AllOf(HasSubstr("3 sequences of twice 16 random tokens"), HasSubstr("gauge: raw"),
                    HasSubstr("duplicate-token"), HasSubstr("What their attention depends on"),
                    HasSubstr("above that of random matrices")));
  // A model of random weights has none.
  EXPECT_THAT(vitrine({"heads", "--model", tiny_model().string(), "--half", "6"}).out,
              HasSubstr("No head is called an induction head"));
}

TEST(Heads, OneExplained) {
  const Words words = {"heads", "--explain", "1.2", "--prompt", "The capital of Texas is"};
  const json j = vitrine(words + Words{"--format", "json"}).json();
  EXPECT_EQ(j["layer"], 1);
  EXPECT_EQ(j["head"], 2);
  EXPECT_EQ(j["prompt"]["position"], 4);
  EXPECT_EQ(j["prompt"]["sources"][0]["pos"], 3);
  EXPECT_GT(j["prompt"]["sources"][0]["weight"].get<double>(), 0.9);
  EXPECT_EQ(j["prompt"]["raised"][0]["token"], " Texas");
  ASSERT_EQ(j["weights"]["qk"].size(), 3u);
  ASSERT_EQ(j["weights"]["ov"].size(), 3u);
  EXPECT_EQ(j["weights"]["ov"][0]["in_high"].size(), 5u);
  EXPECT_THAT(vitrine(words).out,
              AllOf(HasSubstr("At position 4, \" is\""), HasSubstr("what its query looks for"),
                    HasSubstr("From the weights alone")));
  const Outcome alone = vitrine({"heads", "--explain", "0.3"});
  EXPECT_THAT(alone.out, AllOf(HasSubstr("head 0.3"), Not(HasSubstr("At position"))));
  // By ids, without a tokenizer.
  const Outcome ids = vitrine({"heads", "--model", tiny_model().string(), "--explain", "2.1",
                               "--tokens", "1,2,3", "--pos", "1"});
  EXPECT_EQ(ids.exit, 0) << ids.err;
  EXPECT_THAT(ids.out, HasSubstr("At position 1, 2"));
}

TEST(Heads, Errors) {
  expect_failure({"heads", "--explain", "6.0"}, 2,
                 "there is no head 6.0: this model has layers 0 to 5");
  expect_failure({"heads", "--explain", "1"}, 2, "write LAYER.HEAD");
  expect_failure({"heads", "--prompt", "The"}, 2, "a prompt goes with --explain");
  expect_failure({"heads", "--explain", "1.0", "--pos", "2"}, 2, "give --prompt too");
  expect_failure({"heads", "--explain", "1.0", "--prompt", "The", "--pos", "2"}, 3,
                 "there is no position 2");
  expect_failure({"heads", "--half", "2"}, 2, "--half");
}

// ---- one's own prompts --------------------------------------------------------------------------
struct OwnScores {
  double previous = 0, duplicate = std::nan(""), induction = std::nan("");
};

// Of one head, by its pattern; see interp/head_scores.h.
OwnScores scores_of(const std::vector<int>& tokens, const json& pattern) {
  OwnScores s;
  double duplicate = 0, induction = 0;
  int duplicates = 0, inductions = 0;
  for (std::size_t q = 1; q < tokens.size(); ++q) {
    s.previous += pattern[q][q - 1].get<double>() / static_cast<double>(tokens.size() - 1);
    bool before = false, after = false;
    for (std::size_t k = 0; k < q; ++k) {
      if (tokens[k] != tokens[q]) continue;
      before = true;
      duplicate += pattern[q][k].get<double>();
      if (k + 1 == q) continue;
      after = true;
      induction += pattern[q][k + 1].get<double>();
    }
    duplicates += before ? 1 : 0;
    inductions += after ? 1 : 0;
  }
  if (duplicates > 0) s.duplicate = duplicate / duplicates;
  if (inductions > 0) s.induction = induction / inductions;
  return s;
}

TEST(HeadsOfPrompts, MeansAreThoseOfSinglePatterns) {
  const TemporaryFolder folder;
  const std::vector<std::vector<int>> prompts = {
      {311, 907, 45, 311, 907, 45}, {8, 2000, 8}, {17, 18, 19, 20}, {5, 5, 6, 5}};
  std::string lines;
  for (std::size_t i = 0; i < prompts.size(); ++i)
    lines +=
        json{{"prompt_tokens", prompts[i]}, {"kind", i < 2 ? "said twice" : "other"}}.dump() + "\n";
  write_text(folder / "own.jsonl", lines);
  const Words many = {"heads", "--prompts", folder / "own.jsonl"};
  const json j = result_of(many + Words{"--group-by", "kind", "--out", folder / "heads.npz"});
  EXPECT_EQ(j["file"], std::string(folder / "heads.npz"));
  ASSERT_EQ(j["heads"].size(), 24u);
  for (const std::size_t layer : {0u, 3u}) {
    std::vector<json> patterns;
    for (const auto& p : prompts)
      patterns.push_back(result_of({"attention", "--tokens", fmt::format("{}", fmt::join(p, ",")),
                                    "--layer", std::to_string(layer)})["pattern"]);
    for (std::size_t head = 0; head < 4; ++head) {
      const std::size_t at = 4 * layer + head;
      EXPECT_EQ(j["heads"][at], fmt::format("{}.{}", layer, head));
      std::vector<OwnScores> own;
      std::vector<double> previous, duplicate, induction;
      for (std::size_t i = 0; i < prompts.size(); ++i) {
        own.push_back(scores_of(prompts[i], patterns[i][head]));
        previous.push_back(own[i].previous);
        if (!std::isnan(own[i].duplicate)) duplicate.push_back(own[i].duplicate);
        if (!std::isnan(own[i].induction)) induction.push_back(own[i].induction);
      }
      const json& all = j["all"];
      expect_mean(all["previous"]["mean"][at], all["previous"]["standard_error"][at], previous,
                  2e-6);
      expect_mean(all["duplicate"]["mean"][at], all["duplicate"]["standard_error"][at], duplicate,
                  2e-6);
      expect_mean(all["induction"]["mean"][at], all["induction"]["standard_error"][at], induction,
                  2e-6);
      EXPECT_EQ(all["duplicate"]["count"][at], 3);
      EXPECT_TRUE(j["prompts"][2]["duplicate"][at].is_null());
      const json& other = j["groups"][1];
      EXPECT_EQ(other["name"], "other");
      expect_mean(other["duplicate"]["mean"][at], other["duplicate"]["standard_error"][at],
                  {own[3].duplicate}, 2e-6);
    }
  }
  const Outcome o = vitrine(many + Words{"--each", "--top", "2"});
  ASSERT_EQ(o.exit, 0) << o.err;
  EXPECT_THAT(o.out, AllOf(HasSubstr("4 prompts: 1 of 3 tokens, 2 of 4, 1 of 6\n"),
                           HasSubstr("previous"), HasSubstr("and 22 more"), HasSubstr(" ± ")));
}

TEST(HeadsOfPrompts, Mistakes) {
  const TemporaryFolder folder;
  const Words many = {"heads", "--prompts", state_prompts(folder)};
  expect_failure(many + Words{"--explain", "1.2"}, 2, "--explain does not go with --prompts");
  expect_failure(many + Words{"--pos", "1"}, 2, "--pos does not go with --prompts");
  expect_failure(many + Words{"--sequences", "2"}, 2, "--sequences does not go with --prompts");
  expect_failure(many + Words{"--half", "4"}, 2, "--half does not go with --prompts");
  expect_failure(many + Words{"--tokens", "1,2"}, 2, "give --prompts or --tokens, not both");
  expect_failure({"heads", "--each"}, 2, "--each is about the prompts of a file");
}

}  // namespace
}  // namespace vitrine::test
