// Edits on the command line, over the verbs that run a model.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <fstream>

#include "tests/apps/program.h"
#include "tests/support.h"

namespace vitrine::test {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;

constexpr const char* kTexas = "The capital of Texas is";

double logit_of_austin(const std::vector<std::string>& options) {
  std::vector<std::string> arguments = {"lens",    "--prompt", kTexas, "--answer",
                                        " Austin", "--format", "json"};
  arguments.insert(arguments.end(), options.begin(), options.end());
  const json j = vitrine(arguments).json();
  return j["ln"].back();
}

std::string refusal(const std::string& edit) {
  const Outcome o = vitrine({"predict", "--prompt", kTexas, "--edit", edit});
  EXPECT_NE(o.exit, 0) << edit;
  EXPECT_EQ(o.out, "") << edit;
  return o.err;
}

TEST(Edits, AreMadeInTheRunAndSaidWithTheResult) {
  const Outcome plain = vitrine({"predict", "--prompt", kTexas, "--format", "json"});
  const Outcome edited =
      vitrine({"predict", "--prompt", kTexas, "--edit", "zero z head=0,1", "--edit",
               "scale 3.mlp_out factor=0.5 pos=-1", "--format", "json"});
  EXPECT_FALSE(plain.json()["meta"].contains("edits"));
  const json j = edited.json();
  ASSERT_EQ(j["meta"]["edits"].size(), 7u);  // six layers' z, and one MLP
  EXPECT_EQ(j["meta"]["edits"][0], "blocks.0.attn.hook_z[head 0,1] = 0");
  EXPECT_EQ(j["meta"]["edits"][6], "blocks.3.hook_mlp_out[pos -1] *= 0.5");
  EXPECT_NE(j["top"], plain.json()["top"]);
  EXPECT_THAT(vitrine({"predict", "--prompt", kTexas, "--edit", "zero 1.2.z"}).out,
              testing::StartsWith("edited: blocks.1.attn.hook_z[head 2] = 0\n"));
}

TEST(Edits, ThatMeetNeedAnOrder) {
  const auto edited = [](const std::string& first, const std::string& second) {
    return vitrine(
        {"predict", "--prompt", kTexas, "--edit", first, "--edit", second, "--format", "json"});
  };
  const Outcome meet = edited("zero 3.z head=0", "scale 3.z factor=2 pos=-1");
  EXPECT_EQ(meet.exit, 1);
  EXPECT_THAT(meet.err, HasSubstr("'blocks.3.attn.hook_z[head 0] = 0' and "));
  EXPECT_THAT(meet.err,
              HasSubstr("change the same element; say which comes later, --edit 'then ACTION SITE "
                        "...' after the other, or give them other places: both change prompt 0, "
                        "pos 4, head 0"));
  const auto top = [](const Outcome& o) { return o.json()["top"]; };
  const json zeroed = top(edited("scale 3.z factor=2", "then zero 3.z"));
  EXPECT_EQ(
      zeroed,
      top(vitrine({"predict", "--prompt", kTexas, "--edit", "zero 3.z", "--format", "json"})));
  const json scaled = top(edited("set 3.z to=2", "then scale 3.z factor=0.25")),
             half = top(vitrine(
                 {"predict", "--prompt", kTexas, "--edit", "set 3.z to=0.5", "--format", "json"}));
  EXPECT_EQ(scaled[0]["token"], half[0]["token"]);
  EXPECT_NEAR(scaled[0]["logit"].get<double>(), half[0]["logit"].get<double>(), 1e-4);
  EXPECT_THAT(refusal("then"), HasSubstr("it needs an action and a site"));
}

TEST(Edits, MeanTheSameOnEveryVerb) {
  const std::vector<std::string> edit = {"--edit", "zero 1.mlp_out"};
  const double edited = logit_of_austin(edit);
  EXPECT_GT(std::abs(edited - logit_of_austin({})), 0.1);
  std::vector<std::string> decompose = {"decompose", "--prompt", kTexas, "--answer",
                                        " Austin",   "--format", "json"};
  decompose.insert(decompose.end(), edit.begin(), edit.end());
  const json parts = vitrine(decompose).json();
  EXPECT_NEAR(parts["logit"].get<double>(), edited, 1e-4);
  for (const json& c : parts["components"]) {
    if (c["name"] == "1_mlp_out") {
      EXPECT_EQ(c["value"], 0);
    }
  }
  // A sweep begins from the edited run.
  const json patch =
      vitrine({"patch", "--clean", kTexas, "--corrupt", "The capital of Ohio is", "--answer",
               " Austin", "--wrong", " Columbus", "--site", "mlp_out", "--metric",
               "logit(\" Austin\")", "--edit", "zero 1.mlp_out", "--format", "json"})
          .json();
  EXPECT_NEAR(patch["metric"]["clean"].get<double>(), edited, 1e-4);
  // What is put in where the edit stands is put in after it: patching a whole layer of zeros by zeros.
  for (const json& value : patch["values"][1]) EXPECT_EQ(value, patch["metric"]["corrupt"]);
}

TEST(Edits, OfTheStreamAreAPartOfTheLogit) {
  const json j = vitrine({"decompose", "--prompt", kTexas, "--answer", " Austin", "--edit",
                          "scale 2.resid_post factor=2", "--format", "json"})
                     .json();
  EXPECT_TRUE(j["closes"]);
  int edits = 0;
  for (const json& c : j["components"]) {
    if (c["kind"] != "edit") continue;
    ++edits;
    EXPECT_EQ(c["name"], "edit of blocks.2.hook_resid_post");
    EXPECT_NE(c["value"], 0);
  }
  EXPECT_EQ(edits, 1);
}

TEST(Edits, APositionCountsFromTheEndOfTheWholePrompt) {
  // Asked about position 2, an edit of the last token changes nothing, and one of token 2 does.
  const auto share = [](const std::string& edit) {
    std::vector<std::string> arguments = {"decompose", "--prompt", kTexas,     "--answer", " the",
                                          "--pos",     "2",        "--format", "json"};
    if (!edit.empty()) arguments.insert(arguments.end(), {"--edit", edit});
    return vitrine(arguments).json()["logit"].get<double>();
  };
  EXPECT_NEAR(share("zero mlp_out pos=-1"), share(""), 1e-4);
  EXPECT_GT(std::abs(share("zero mlp_out pos=2") - share("")), 0.1);
  EXPECT_NEAR(share("zero mlp_out pos=-3"), share("zero mlp_out pos=2"), 1e-4);
}

TEST(Edits, AnswersThatAreNotGivenAreThoseOfTheEditedRunOfTheWholePrompt) {
  const auto folder = std::filesystem::path(testing::TempDir()) / "edits";
  std::filesystem::create_directories(folder);
  const std::string file = (folder / "open.jsonl").string();
  std::ofstream(file) << R"({"prompt": "The capital of Texas is"})"
                      << "\n";
  const auto lens = [&](const std::vector<std::string>& edit) {
    std::vector<std::string> arguments = {"lens", "--prompts", file,       "--pos",
                                          "2",    "--each",    "--format", "json"};
    arguments.insert(arguments.end(), edit.begin(), edit.end());
    return vitrine(arguments).json()["prompts"][0]["ln"];
  };
  // An edit of the last token changes nothing at position 2, which token is most probable there included.
  const json plain = lens({}), edited = lens({"--edit", "zero mlp_out pos=-1"});
  for (std::size_t s = 0; s < plain.size(); ++s)
    EXPECT_NEAR(edited[s].get<double>(), plain[s].get<double>(), 1e-4) << s;
}

TEST(Edits, TakeValuesFromAFileOfPrompts) {
  const auto folder = std::filesystem::path(testing::TempDir()) / "edits";
  std::filesystem::create_directories(folder);
  const std::string file = (folder / "prompts.jsonl").string();
  std::ofstream(file) << R"({"prompt": "The capital of Ohio is", "answer": " Columbus"})"
                      << "\n"
                      << R"({"prompt": "The capital of Texas is", "answer": " Austin",)"
                      << R"( "roles": {"state": " Texas"}})"
                      << "\n";
  const auto means = [&](const std::string& edit) {
    return vitrine({"predict", "--prompts", file, "--edit", edit, "--format", "json"}).json();
  };
  EXPECT_LT(means("mean 1.mlp_out from=" + file)["all"]["prob"]["mean"].get<double>(), 0.99);
  // The stream after layer 0 is the other prompt's: the model names the other capital.
  const json swapped = vitrine({"predict", "--prompts", file, "--edit",
                                "resample 0.resid_post from=" + file, "--each", "--format", "json"})
                           .json();
  EXPECT_EQ(swapped["prompts"][0]["top"]["token"], " Austin");
  EXPECT_EQ(swapped["prompts"][1]["top"]["token"], " Columbus");
  // A role that a prompt does not define is an error, and not everywhere or nowhere.
  const Outcome o = vitrine({"predict", "--prompts", file, "--edit", "zero 1.mlp_out pos=state"});
  EXPECT_EQ(o.exit, 3);
  EXPECT_THAT(o.err, HasSubstr("line 1: there is no role \"state\""));
}

TEST(Edits, ReachTheFeaturesOfASplicedSae) {
  const std::vector<std::string> plain = {"predict", "--prompt", kTexas, "--format", "json"};
  std::vector<std::string> spliced = plain, zeroed = plain;
  spliced.insert(spliced.end(), {"--sae", "blocks.4.hook_mlp_out"});
  zeroed.insert(zeroed.end(), {"--sae", "blocks.4.hook_mlp_out", "--edit",
                               "set blocks.4.hook_mlp_out.hook_sae_acts_post feature=12 to=30"});
  const auto logit = [](const json& j) { return j["top"][0]["logit"].get<double>(); };
  const double as_is = logit(vitrine(plain).json());
  EXPECT_NEAR(logit(vitrine(spliced).json()), as_is, 1e-3);
  EXPECT_GT(std::abs(logit(vitrine(zeroed).json()) - as_is), 0.1);
}

TEST(Edits, AFileHasThemAsJson) {
  const auto folder = std::filesystem::path(testing::TempDir()) / "edits";
  std::filesystem::create_directories(folder);
  const std::string file = (folder / "edits.json").string();
  std::ofstream(file) << R"({"version": 1, "stages": [[{"site": "blocks.1.hook_mlp_out", )"
                      << R"("action": "zero", "where": [{"pos": [4]}]}]]})";
  EXPECT_NEAR(logit_of_austin({"--edits", file}),
              logit_of_austin({"--edit", "zero 1.mlp_out pos=4"}), 1e-6);
  std::ofstream(file) << R"({"version": 1, "stages": [[{"site": "blocks.1.hook_mlp_out", )"
                      << R"("action": "zero", "where": [{"prompt": [0]}]}]]})";
  const Outcome o = vitrine({"predict", "--prompt", kTexas, "--edits", file});
  EXPECT_EQ(o.exit, 3);
  EXPECT_THAT(o.err, HasSubstr("leave out \"prompt\""));
}

TEST(Edits, TextIsGeneratedUnderThem) {
  const Outcome plain = vitrine({"generate", "--prompt", kTexas, "--max-tokens", "3"}),
                edited = vitrine({"generate", "--prompt", kTexas, "--max-tokens", "3", "--edit",
                                  "zero mlp_out"});
  EXPECT_NE(plain.out, edited.out);
  EXPECT_THAT(edited.err, HasSubstr("edited: blocks.0.hook_mlp_out = 0"));
}

TEST(Edits, WhatIsNoEditIsRefused) {
  EXPECT_THAT(refusal("zero"), HasSubstr("it needs an action and a site"));
  EXPECT_THAT(refusal("zro z"), HasSubstr("'zro' is not an action; there are zero, mean"));
  EXPECT_THAT(refusal("zero zz"), HasSubstr("there is no site 'zz'"));
  EXPECT_THAT(refusal("zero z head=9"), HasSubstr("there is no head 9; there are 0 to 3"));
  EXPECT_THAT(refusal("zero 2.1.z head=1"), HasSubstr("the site says the head already"));
  EXPECT_THAT(refusal("zero z hed=1"), HasSubstr("'hed' is not known"));
  EXPECT_THAT(refusal("zero z head=0 head=1"), HasSubstr("'head' is given twice"));
  EXPECT_THAT(refusal("zero z pos=9"), HasSubstr("there is no position 9"));
  EXPECT_THAT(refusal("zero 1.pattern key=5"),
              HasSubstr("there is no key 5: a prompt has 5 tokens"));
  EXPECT_THAT(refusal("zero z pos=subject"), HasSubstr("there is no role \"subject\""));
  EXPECT_THAT(refusal("zero resid_pre head=1"), HasSubstr("the site has no heads"));
  EXPECT_THAT(refusal("scale z"), HasSubstr("scale needs factor=X"));
  EXPECT_THAT(refusal("zero z factor=2"), HasSubstr("zero has no factor="));
  EXPECT_THAT(refusal("set z to=x"), HasSubstr("to='x' is not a number"));
  EXPECT_THAT(refusal("mean z"), HasSubstr("from=FILE.jsonl"));
  EXPECT_THAT(refusal("add mlp_out from=none.npy factor=1"), HasSubstr("none.npy"));
}

// ---- values from texts --------------------------------------------------------------------------
json top_of(const std::string& prompt, const std::vector<std::string>& edits) {
  std::vector<std::string> arguments = {"predict", "--prompt", prompt, "--format", "json"};
  for (const std::string& edit : edits) arguments.insert(arguments.end(), {"--edit", edit});
  const Outcome o = vitrine(arguments);
  EXPECT_EQ(o.exit, 0) << o.err;
  return o.json()["top"];
}

void expect_near(const json& a, const json& b) {
  ASSERT_EQ(a.size(), b.size());
  for (std::size_t k = 0; k < a.size(); ++k) {
    EXPECT_EQ(a[k]["id"], b[k]["id"]);
    EXPECT_NEAR(a[k]["logit"].get<double>(), b[k]["logit"].get<double>(), 1e-4);
  }
}

TEST(Edits, PatchFromAnotherPrompt) {
  const std::string ohio = "The capital of Ohio is";
  // The whole stream of the other prompt is the other prompt; where the two differ is enough.
  const json other = top_of(ohio, {});
  expect_near(top_of(kTexas, {"patch 0.resid_pre from='" + ohio + "'"}), other);
  expect_near(top_of(kTexas, {"patch 0.resid_pre pos=3 from='" + ohio + "'"}), other);
  expect_near(top_of(kTexas, {"patch 0.resid_pre pos=3,-1 from='" + ohio + "'"}), other);
  expect_near(top_of(kTexas, {"patch 0.resid_pre pos=2 from='" + ohio + "'"}), top_of(kTexas, {}));
  // The sweep of `patch` says the same of a head at a position.
  const json swept =
      vitrine({"patch", "--clean", kTexas, "--corrupt", ohio, "--answer", " Austin", "--wrong",
               " Columbus", "--site", "2.z", "--by", "head,pos", "--direction", "noise", "--metric",
               "logit(\" Austin\")", "--format", "json"})
          .json();
  for (const json& t : top_of(kTexas, {"patch 2.z head=1 pos=4 from='" + ohio + "'"}))
    if (t["token"] == " Austin") {
      EXPECT_NEAR(t["logit"].get<double>(), swept["values"][0][4][1].get<double>(), 1e-3);
    }
  // A text that grows keeps it.
  EXPECT_THAT(vitrine({"generate", "--prompt", kTexas, "--max-tokens", "1", "--edit",
                       "patch 2.resid_pre pos=3 from='" + ohio + "'", "--edit",
                       "patch 2.resid_pre pos=4 from='" + ohio + "'"})
                  .out,
              HasSubstr("Columbus"));
  EXPECT_THAT(refusal("patch 2.z from='The capital'"), HasSubstr("they must have as many"));
  EXPECT_THAT(refusal("patch 2.z pos=4 from='The capital'"), HasSubstr("there is no position 4"));
  EXPECT_THAT(refusal("patch 2.z pos=-1 from='The capital'"), HasSubstr("both have"));
  EXPECT_THAT(refusal("patch 2.z"), HasSubstr("from='TEXT'"));
}

TEST(Edits, TakeDirectionsAndMeansFromTexts) {
  const auto folder = std::filesystem::path(testing::TempDir()) / "edits";
  std::filesystem::create_directories(folder);
  const std::string file = (folder / "one.jsonl").string();
  std::ofstream(file) << R"({"prompt": "It's the \"cat\"."})"
                      << "\n";
  // Quotes of one kind stand within the other, as in a shell.
  expect_near(top_of(kTexas, {R"(mean 2.z over="It's the "'"cat".')"}),
              top_of(kTexas, {"mean 2.z from=" + file}));
  const auto steered = [](const std::vector<std::string>& direction) {
    std::vector<std::string> arguments = {
        "steer", "--prompt", kTexas, "--site", "1.resid_post", "--scale", "2", "--format", "json"};
    arguments.insert(arguments.end(), direction.begin(), direction.end());
    return vitrine(arguments).json()["steered"][0]["top"];
  };
  expect_near(top_of(kTexas, {"add 1.resid_post plus='The king' minus='The cat' factor=2"}),
              steered({"--plus", "The king", "--minus", "The cat"}));
  expect_near(top_of(kTexas, {"add 1.resid_post toward=' Paris' factor=2"}),
              steered({"--toward", " Paris"}));
  EXPECT_THAT(refusal("add 1.mlp_out plus='The'"), HasSubstr("minus='TEXT'"));
  EXPECT_THAT(refusal("add 1.mlp_out plus='a' minus='b' toward=' c'"),
              HasSubstr("takes a direction"));
  EXPECT_THAT(refusal("add 1.mlp_out toward=' no such token'"), HasSubstr("no such token"));
  EXPECT_THAT(refusal("mean z over='a' from=b.jsonl"), HasSubstr("over='TEXT'"));
  EXPECT_THAT(refusal("zero z over='a'"), HasSubstr("zero has no over="));
}

// ---- many prompts -------------------------------------------------------------------------------
class ManyPrompts : public testing::Test {
 protected:
  void SetUp() override {
    std::filesystem::create_directories(folder_);
    const Outcome o = vitrine({"prompts", "ioi", "--count", "6", "--out", file()});
    ASSERT_EQ(o.exit, 0) << o.err;
    std::ifstream lines(file());
    for (std::string line; std::getline(lines, line);) pairs_.push_back(json::parse(line));
  }
  std::string file() const { return (folder_ / "ioi.jsonl").string(); }
  std::vector<std::string> of_one(const json& pair, std::vector<std::string> arguments) const {
    arguments.insert(arguments.end(), {"--prompt", pair["clean"], "--answer", pair["answer"],
                                       "--wrong", pair["wrong"], "--format", "json"});
    return arguments;
  }

  std::filesystem::path folder_ = std::filesystem::path(testing::TempDir()) / "many_prompts";
  std::vector<json> pairs_;
};

TEST_F(ManyPrompts, LensAndDecomposeAreTheMeansOfSingleCalls) {
  const json lens = vitrine({"lens", "--prompts", file(), "--format", "json"}).json(),
             parts = vitrine({"decompose", "--prompts", file(), "--group-by", "order", "--format",
                              "json"})
                         .json();
  double ln = 0, first = 0;
  for (std::size_t i = 0; i < pairs_.size(); ++i) {
    const json one = vitrine(of_one(pairs_[i], {"lens"})).json(),
               shares = vitrine(of_one(pairs_[i], {"decompose"})).json();
    ln += one["ln"][3].get<double>() / static_cast<double>(pairs_.size());
    first += shares["components"][2]["value"].get<double>() / static_cast<double>(pairs_.size());
    EXPECT_NEAR(lens["prompts"][i]["ln"][3].get<double>(), one["ln"][3].get<double>(), 1e-4);
    EXPECT_NEAR(parts["prompts"][i]["share"][2].get<double>(),
                shares["components"][2]["value"].get<double>(), 1e-4);
  }
  EXPECT_NEAR(lens["all"]["ln"]["mean"][3].get<double>(), ln, 1e-4);
  EXPECT_NEAR(parts["all"]["share"]["mean"][2].get<double>(), first, 1e-4);
  EXPECT_EQ(parts["components"][2], "L0H0");
  EXPECT_EQ(parts["groups"].size(), 2u);
  EXPECT_EQ(parts["groups"][0]["prompts"].get<int>() + parts["groups"][1]["prompts"].get<int>(), 6);
  EXPECT_EQ(lens["all"]["ln"]["count"][3], 6);
}

TEST_F(ManyPrompts, PositionsMayBeRoles) {
  const json j = vitrine({"lens", "--prompts", file(), "--pos", "s2", "--format", "json"}).json();
  EXPECT_EQ(j["prompts"].size(), 6u);
  const Outcome o = vitrine({"lens", "--prompts", file(), "--pos", "nobody"});
  EXPECT_EQ(o.exit, 3);
  EXPECT_THAT(o.err, HasSubstr("there is no role \"nobody\"; this prompt has"));
}

// Keys are told as positions are: by number, from the end, and by role.
TEST_F(ManyPrompts, KeysMayBeRoles) {
  const auto measured = [&](const std::vector<std::string>& edits) {
    std::vector<std::string> arguments = {"evaluate", "--prompts", file(), "--format", "json"};
    for (const std::string& e : edits) arguments.insert(arguments.end(), {"--edit", e});
    return vitrine(arguments).json();
  };
  const json j = measured({"zero 4.pattern head=0,1 pos=end key=s2"});
  EXPECT_EQ(j["meta"]["edits"],
            json({"blocks.4.attn.hook_pattern[pos end, key s2, head 0,1] = 0"}));
  for (std::size_t i = 0; i < pairs_.size(); ++i) {
    // The same key by its number, of each prompt by itself.
    const json& one = pairs_[i];
    const int s2 = one["roles"]["s2"];
    const json alone =
        vitrine({"lens", "--prompt", one["clean"], "--answer", one["answer"], "--wrong",
                 one["wrong"], "--edit", fmt::format("zero 4.pattern head=0-1 pos=-1 key={}", s2),
                 "--format", "json"})
            .json();
    EXPECT_NEAR(j["prompts"][i]["logit_diff"].get<double>(), alone["ln"].back().get<double>(),
                1e-4);
  }
  const Outcome o =
      vitrine({"evaluate", "--prompts", file(), "--edit", "zero 4.pattern key=nobody"});
  EXPECT_EQ(o.exit, 3);
  EXPECT_THAT(o.err, HasSubstr("there is no role \"nobody\"; this prompt has"));
  EXPECT_THAT(
      vitrine({"predict", "--prompt", kTexas, "--edit", "zero 3.pattern key=-1 pos=-1"}).out,
      HasSubstr("edited: blocks.3.attn.hook_pattern[pos -1, key -1] = 0"));
  EXPECT_THAT(refusal("zero 1.z key=s2"), HasSubstr("the site has no keys"));
}

TEST_F(ManyPrompts, AttributionsAreMeasuredExactly) {
  const json j = vitrine({"attribute", "--pairs", file(), "--sites", "z", "--verify", "3", "--top",
                          "5", "--format", "json"})
                     .json();
  ASSERT_EQ(j["nodes"].size(), 5u);
  double score = 0, exact = 0;
  const json& strongest = j["nodes"][0];
  for (const json& pair : pairs_) {
    const json one = vitrine({"attribute", "--clean", pair["clean"], "--corrupt", pair["corrupt"],
                              "--answer", pair["answer"], "--wrong", pair["wrong"], "--sites",
                              strongest["site"], "--verify", "4", "--format", "json"})
                         .json();
    for (const json& node : one["nodes"]) {
      if (node["head"] != strongest["head"]) continue;
      score += node["score"].get<double>() / 6;
      exact += node["exact"].get<double>() / 6;
    }
  }
  EXPECT_NEAR(strongest["score"]["mean"].get<double>(), score, 1e-3);
  EXPECT_NEAR(strongest["exact"]["mean"].get<double>(), exact, 1e-3);
  EXPECT_TRUE(j["nodes"][4]["exact"].is_null());
  EXPECT_EQ(j["pairs"].size(), 6u);
}

// Groups have the means of their pairs' scores, from the same runs; exact where they were measured.
TEST_F(ManyPrompts, AttributionsByGroup) {
  const std::vector<std::string> attribute = {"attribute", "--pairs", file(), "--format", "json"};
  const auto with = [&](std::vector<std::string> more) {
    more.insert(more.begin(), attribute.begin(), attribute.end());
    return vitrine(more).json();
  };
  const json all = with({"--sites", "z", "--verify", "3", "--top", "24"}),
             j = with({"--sites", "z", "--verify", "3", "--top", "24", "--group-by", "order"});
  EXPECT_EQ(all["groups"], json::array());
  EXPECT_EQ(j["nodes"], all["nodes"]);
  ASSERT_EQ(j["groups"].size(), 2u);
  const auto same_place = [](const json& a, const json& b) {
    return a["site"] == b["site"] && a["head"] == b["head"];
  };
  for (std::size_t n = 0; n < j["nodes"].size(); ++n) {
    const json& node = j["nodes"][n];
    double score = 0, exact = 0;
    for (const json& group : j["groups"]) {
      for (const json& of_group : group["nodes"]) {
        if (!same_place(node, of_group)) continue;
        const double part = of_group["score"]["count"].get<double>() / 6;
        score += part * of_group["score"]["mean"].get<double>();
        EXPECT_EQ(of_group["exact"].is_null(), n >= 3);
        if (n < 3) exact += part * of_group["exact"]["mean"].get<double>();
      }
    }
    EXPECT_NEAR(node["score"]["mean"].get<double>(), score, 1e-9);
    if (n < 3) {
      EXPECT_NEAR(node["exact"]["mean"].get<double>(), exact, 1e-9);
    }
  }
  const json edges = with({"--method", "edges", "--top", "12", "--group-by", "order"});
  ASSERT_EQ(edges["groups"].size(), 2u);
  EXPECT_EQ(edges["groups"][0]["edges"].size(), 12u);
  EXPECT_EQ(edges["groups"][0]["edges"][0]["score"]["count"], edges["groups"][0]["pairs"]);
  EXPECT_THAT(
      vitrine({"attribute", "--pairs", file(), "--group-by", "order", "--method", "edges"}).out,
      HasSubstr("order " + edges["groups"][1]["name"].get<std::string>() + ", "));
}

TEST_F(ManyPrompts, WhatGoesWithOnePromptIsRefused) {
  const auto refused = [&](std::vector<std::string> arguments) {
    arguments.insert(arguments.end(), {"--prompts", file()});
    const Outcome o = vitrine(arguments);
    EXPECT_EQ(o.exit, 2) << o.err;
    return o.err;
  };
  EXPECT_THAT(refused({"lens", "--pos", "all"}), HasSubstr("--pos all is about one prompt"));
  EXPECT_THAT(refused({"lens", "--top", "2"}), HasSubstr("--top is about one prompt"));
  EXPECT_THAT(refused({"decompose", "--stream"}), HasSubstr("--stream and --layer"));
  EXPECT_THAT(refused({"lens", "--prompt", "x"}), HasSubstr("not both"));
  EXPECT_THAT(vitrine({"attribute", "--pairs", file(), "--method", "ig"}).err,
              HasSubstr("--method ig is about one pair"));
}

}  // namespace
}  // namespace vitrine::test
