// What vitrine attribute says; the numbers are TransformerLens's.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "tensor/files/file.h"
#include "tensor/files/safetensors.h"
#include "tests/apps/program.h"
#include "tests/apps/words.h"
#include "tests/support.h"
#include "tests/tensor/temporary_folder.h"

namespace vitrine::test {
namespace {

using nlohmann::json;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

const Words kCapitals = capitals("attribute");

TEST(Attribute, TensorsEqualTheReference) {
  const Words pair = golden_pair("attribute");
  for (const std::string direction : {"denoise", "noise"}) {
    SCOPED_TRACE(direction);
    const auto golden =
        SafeTensors::open(tiny_model() / ("golden/attribution_" + direction + ".safetensors"));
    const TemporaryFolder folder;
    const std::string file = folder / "scores.safetensors";
    const Outcome o = vitrine(pair + Words{"--direction", direction, "--out", file});
    ASSERT_EQ(o.exit, 0) << o.err;
    EXPECT_EQ(o.err, "");
    EXPECT_THAT(o.out, AllOf(HasSubstr("tensors written to " + file), HasSubstr(direction)));
    const auto saved = SafeTensors::open(file);
    int compared = 0;
    for (const std::string& name : golden.names()) {
      if (!name.starts_with("node/")) continue;
      expect_close(saved.at(name), golden.at(name), 1e-4, name);
      ++compared;
    }
    EXPECT_EQ(compared, 6);
    EXPECT_EQ(saved.metadata().at("direction"), direction);
  }
}

TEST(Attribute, MetricsOfOnesOwn) {
  const Words pair = {"attribute",
                      "--clean",
                      "The capital of Texas is",
                      "--corrupt",
                      "The capital of California is",
                      "--format",
                      "json",
                      "--verify",
                      "2"};
  const auto found = [](const Words& words) {
    const Outcome o = vitrine(words);
    EXPECT_EQ(o.exit, 0) << o.err;
    return o.json();
  };
  const json usual = found(pair + Words{"--answer", " Austin", "--wrong", " Sacramento"}),
             own = found(pair + Words{"--metric", "logit(\" Austin\") - logit(\" Sacramento\")"});
  EXPECT_EQ(own["nodes"], usual["nodes"]);
  EXPECT_EQ(own["metric"]["name"], "logit(\" Austin\") - logit(\" Sacramento\")");
  EXPECT_TRUE(own["tokens"]["wrong"].is_null());
  const json ig = found({"attribute", "--clean-tokens", "1,2,3", "--corrupt-tokens", "1,2,4",
                         "--model", tiny_model(), "--method", "ig", "--steps", "64", "--metric",
                         "log_prob - prob(#3) * 2", "--answer-token", "5", "--format", "json"});
  EXPECT_LT(ig["completeness_error"].get<double>(), 0.01);
  for (const char* method : {"attribution-patching", "ig"}) {
    expect_failure(kCapitals + Words{"--method", method, "--metric", "1 - rank"}, 2,
                   "rank has no gradient: it changes in steps");
  }
}

TEST(Attribute, IntegratedGradientsEqualTheReference) {
  const Words pair = golden_pair("attribute");
  const auto golden = SafeTensors::open(tiny_model() / "golden/attribution_noise.safetensors");
  const TemporaryFolder folder;
  const std::string file = folder / "ig.safetensors";
  const Outcome o = vitrine(
      pair + Words{"--method", "ig", "--direction", "noise", "--out", file, "--format", "json"});
  ASSERT_EQ(o.exit, 0) << o.err;
  const auto saved = SafeTensors::open(file);
  for (const char* name : {"ig/blocks.0.hook_resid_pre", "ig/target"})
    expect_close(saved.at(name), golden.at(name), 1e-4, name);
  const json j = o.json();
  EXPECT_EQ(j["steps"], 16);
  EXPECT_LT(j["completeness_error"].get<double>(), 0.01);
  EXPECT_NEAR(j["sum"].get<double>(), j["at_other"].get<double>() - j["at_base"].get<double>(),
              0.01 * std::abs(j["sum"].get<double>()));
}

// Approximation beside truth: the exact values are those of a patching sweep.
TEST(Attribute, TheStrongestAreMeasuredAgain) {
  for (const std::string direction : {"denoise", "noise"}) {
    const json j = vitrine(kCapitals + Words{"--direction", direction, "--verify", "4", "--top",
                                             "6", "--sites", "*.hook_z", "--format", "json"})
                       .json();
    EXPECT_EQ(j["direction"], direction);
    ASSERT_EQ(j["nodes"].size(), 6u);
    Words patch = kCapitals;
    patch[0] = "patch";
    const json sweep =
        vitrine(patch + Words{"--site", "z", "--direction", direction, "--format", "json"}).json();
    const double base = sweep["metric"][direction == "denoise" ? "corrupt" : "clean"];
    for (std::size_t i = 0; i < 6; ++i) {
      const json& n = j["nodes"][i];
      EXPECT_EQ(n["exact"].is_null(), i >= 4);
      EXPECT_TRUE(n["pos"].is_null());
      if (i >= 4) continue;
      const double value =
          sweep["values"][n["layer"].get<std::size_t>()][n["head"].get<std::size_t>()];
      EXPECT_NEAR(n["exact"].get<double>(), value - base, 1e-4);
    }
  }
}

TEST(Attribute, AValueUnderTwoNamesIsRankedOnce) {
  const json j = vitrine(kCapitals + Words{"--sites", "*.hook_resid_pre,*.hook_resid_post",
                                           "--format", "json", "--top", "50", "--verify", "0"})
                     .json();
  for (const json& n : j["nodes"]) {
    const std::string site = n["site"];
    EXPECT_TRUE(site.ends_with("resid_post") || site == "blocks.0.hook_resid_pre") << site;
  }
}

TEST(Attribute, GradientTimesActivationNeedsOnePrompt) {
  const Words clean = {
      "attribute", "--method", "grad-x-act",  "--clean", "The capital of Texas is", "--answer",
      " Austin",   "--wrong",  " Sacramento", "--sites", "*.hook_mlp_out"};
  const json j = vitrine(clean + Words{"--format", "json"}).json();
  EXPECT_EQ(j["direction"], "noise");
  EXPECT_TRUE(j["metric"]["corrupt"].is_null());
  EXPECT_GT(j["metric"]["clean"].get<double>(), 10);
  EXPECT_FALSE(j["nodes"][0]["exact"].is_null());
  EXPECT_THAT(vitrine(clean).out,
              AllOf(HasSubstr("grad-x-act of the clean run"), HasSubstr("really loses to zeros"),
                    Not(HasSubstr("corrupt"))));
}

// With zeros in the place of a LayerNorm's scale there is no number to compare with.
TEST(Attribute, APlaceWithoutAnExactValueSaysWhy) {
  const Words clean = {
      "attribute", "--method", "grad-x-act", "--clean",     "The capital of Texas is",
      "--answer",  " Austin",  "--wrong",    " Sacramento", "--verify",
      "8"};
  for (const std::string sites : {"*", "*.ln1.hook_scale,*.hook_mlp_out"}) {
    const Outcome o = vitrine(clean + Words{"--sites", sites, "--format", "json"});
    ASSERT_EQ(o.exit, 0) << o.err;
    int without = 0, with = 0;
    const json j = o.json();
    for (const json& n : j["nodes"]) {
      if (n["why_not"] == "not measured") continue;
      EXPECT_EQ(n["exact"].is_null(), !n["why_not"].is_null()) << n;
      if (!n["exact"].is_null()) ++with;
      else if (n["site"].get<std::string>().ends_with("hook_scale")) ++without;
      else ADD_FAILURE() << n;
    }
    EXPECT_GT(without, 0) << sites;
    EXPECT_GT(with, 0) << sites;
  }
  EXPECT_THAT(vitrine(clean + Words{"--sites", "*.ln1.hook_scale"}).out,
              AllOf(HasSubstr("  none\n"),
                    HasSubstr("none: the metric is not a finite number with zeros put in there")));
}

TEST(Attribute, HeadsAndNeuronsByPosition) {
  const json j = vitrine(kCapitals + Words{"--by-pos", "--sites", "*.hook_z,*.mlp.hook_post",
                                           "--top", "5", "--verify", "5", "--format", "json"})
                     .json();
  EXPECT_EQ(j["sites"][0]["axes"], json({"layer", "pos", "head"}));
  EXPECT_EQ(j["sites"][1]["shape"], json({6, 5, 1024}));
  for (const json& n : j["nodes"]) {
    EXPECT_FALSE(n["pos"].is_null());
    EXPECT_FALSE(n["exact"].is_null());
  }
}

// The same sites under all of their names, as for patch.
TEST(Attribute, ASiteHasSeveralSpellings) {
  const auto nodes = [&](const char* sites) {
    const Outcome o =
        vitrine(kCapitals + Words{"--sites", sites, "--verify", "2", "--format", "json"});
    EXPECT_EQ(o.exit, 0) << sites << o.err;
    return o.json();
  };
  const json all = nodes("blocks.*.attn.hook_z");
  for (const char* name : {"z", "attn.hook_z", "hook_z", "*.hook_z"})
    EXPECT_EQ(nodes(name)["nodes"], all["nodes"]) << name;
  EXPECT_EQ(nodes("z,mlp_out")["sites"].size(), 2u);
  const json one = nodes("blocks.1.attn.hook_z");
  EXPECT_EQ(nodes("1.z")["nodes"], one["nodes"]);
  EXPECT_EQ(one["sites"][0]["layers"], json({1}));
  EXPECT_EQ(one["nodes"][0]["layer"], 1);
  EXPECT_THAT(vitrine(kCapitals + Words{"--sites", "1.z"}).out,
              AllOf(HasSubstr("\nlayer 1 "), Not(HasSubstr("layer 0"))));  // the heatmap's row
  const auto ig = [&](const Words& site) {
    const Outcome o =
        vitrine(kCapitals + Words{"--method", "ig", "--steps", "2", "--format", "json"} + site);
    EXPECT_EQ(o.exit, 0) << o.err;
    return o.json()["site"];
  };
  EXPECT_EQ(ig({"--site", "1.resid_pre"}), "blocks.1.hook_resid_pre");
  EXPECT_EQ(ig({"--site", "resid_pre", "--layer", "3"}), "blocks.3.hook_resid_pre");
  EXPECT_EQ(ig({"--site", "blocks.2.attn.hook_z"}), "blocks.2.attn.hook_z");
  EXPECT_EQ(ig({}), "blocks.0.hook_resid_pre");
}

TEST(Attribute, TheSamePromptTwice) {
  Words same = kCapitals;
  same[4] = same[2];
  const Outcome o = vitrine(same);
  EXPECT_EQ(o.exit, 0) << o.err;
  EXPECT_THAT(o.out, HasSubstr("Every score is 0"));
}

// Pairs of different lengths line up by roles and from the end, as in a sweep of `patch`.
TEST(AttributePairs, LineUpByRoles) {
  const TemporaryFolder folder;
  const std::string file = folder / "pairs.jsonl";
  const std::vector<std::pair<std::string, std::string>> names = {
      {" Texas", " California"}, {" Ohio", " Texas"}, {" New Mexico", " New York"}};
  std::string lines;
  for (const auto& [clean, corrupt] : names) {
    lines += json{{"clean", "The capital of" + clean + " is"},
                  {"corrupt", "The capital of" + corrupt + " is"},
                  {"answer", " Austin"},
                  {"wrong", " Columbus"},
                  {"roles", {{"name", clean}}}}
                 .dump() +
             "\n";
  }
  write_text(file, lines);
  const Words attribute = {"attribute", "--pairs", file,    "--sites", "resid_pre,z",
                           "--verify",  "8",       "--top", "60"};
  const Words as_json = {"--format", "json"}, narrowed = {"--pos", "name,-1"};
  const json
      j = vitrine(attribute + narrowed + Words{"--out", folder / "a.safetensors"} + as_json).json(),
      patched = vitrine(Words{"patch", "--pairs", file, "--site", "resid_pre"} + narrowed + as_json)
                    .json();
  EXPECT_EQ(j["pos"], json({"name", -1}));
  EXPECT_EQ(j["sites"][0]["shape"], json({6, 2}));
  EXPECT_EQ(j["sites"][1]["axes"], json({"layer", "pos", "head"}));
  int measured = 0;
  for (const json& node : j["nodes"]) {
    EXPECT_TRUE(node["pos"] == "name" || node["pos"] == -1) << node.dump();
    EXPECT_EQ(node["score"]["count"], 3);
    if (node["exact"].is_null() || !node["head"].is_null()) continue;
    ++measured;
    EXPECT_NEAR(
        node["exact"]["mean"].get<double>(),
        patched["mean"][node["layer"].get<int>()][node["pos"] == "name" ? 0 : 1].get<double>(),
        1e-3);
  }
  EXPECT_GT(measured, 3);
  // Of one pair the sum over the role's two tokens.
  const json one =
      vitrine(Words{"attribute", "--clean", "The capital of New Mexico is", "--corrupt",
                    "The capital of New York is", "--answer", " Austin", "--wrong", " Columbus",
                    "--sites", "0.resid_pre", "--verify", "0"} +
              as_json)
          .json();
  double sum = 0;
  for (const json& node : one["nodes"])
    if (node["pos"] == 3 || node["pos"] == 4) sum += node["score"].get<double>();
  const Words alone = {"attribute", "--pairs", folder / "one.jsonl", "--sites", "0.resid_pre",
                       "--verify",  "0"};
  write_text(folder / "one.jsonl", lines.substr(lines.rfind('{', lines.rfind("clean"))));
  for (const json& node : vitrine(alone + narrowed + as_json).json()["nodes"]) {
    if (node["pos"] == "name") {
      EXPECT_NEAR(node["score"]["mean"].get<double>(), sum, 1e-3);
    }
  }
  EXPECT_EQ(SafeTensors::open(folder / "a.safetensors").at("node/hook_resid_pre").shape(),
            (Shape{6, 2}));
  EXPECT_THAT(vitrine(attribute + narrowed).out, HasSubstr("pos name"));
  // Without it, what the numbers mean is said.
  const Outcome o = vitrine(attribute);
  EXPECT_THAT(o.out, HasSubstr("the pairs differ in length: positions are counted from the first"));
  EXPECT_THAT(vitrine(attribute + narrowed).out, Not(HasSubstr("differ in length")));
  EXPECT_EQ(vitrine(attribute + as_json).json()["pos"], nullptr);
  EXPECT_THAT(vitrine(attribute + Words{"--pos", "nobody"}).err,
              HasSubstr("line 1: there is no role \"nobody\"; this prompt has \"name\""));
  EXPECT_THAT(vitrine({"attribute", "--pairs", file, "--pos", "-1", "--method", "edges"}).err,
              HasSubstr("--pos lines up the positions of many pairs"));
}

TEST(Attribute, Errors) {
  expect_failure(kCapitals + Words{"--method", "ig", "--verify", "3"}, 2,
                 "--method ig is about one --site");
  expect_failure(kCapitals + Words{"--steps", "3"}, 2, "--site and --steps go with --method ig");
  expect_failure(kCapitals + Words{"--sites", "*.hook_zz"}, 3, "hook_z");
  expect_failure(kCapitals + Words{"--method", "ig", "--site", "blocks.9.hook_resid_pre"}, 3,
                 "blocks.");
  Words unlike = kCapitals;
  unlike[4] = "The capital of New York is";
  expect_failure(unlike, 3, "token by token");
  const Words without(kCapitals.begin(), kCapitals.begin() + 3);
  expect_failure(without + Words{"--answer", " Austin", "--wrong", " Dallas"}, 2,
                 "there is no corrupt prompt");
}

}  // namespace
}  // namespace vitrine::test
