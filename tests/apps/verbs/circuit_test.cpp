// vitrine circuit, and vitrine attribute over edges: the numbers are those of the definitions.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <set>

#include "tensor/files/file.h"
#include "tests/apps/program.h"
#include "tests/apps/words.h"
#include "tests/support.h"
#include "tests/tensor/temporary_folder.h"

namespace vitrine::test {
namespace {

using nlohmann::json;
using ::testing::AllOf;
using ::testing::HasSubstr;

const Words kCapitals = capitals("circuit");

json found(const Words& more, const Words& pair = kCapitals) {
  const Outcome o = vitrine(pair + more + Words{"--format", "json"});
  EXPECT_EQ(o.exit, 0) << o.err;
  return o.json();
}
std::set<std::string> edges_of(const json& j) {
  std::set<std::string> names;
  for (const json& e : j["edges"])
    names.insert(e["from"].get<std::string>() + "->" + e["to"].get<std::string>());
  return names;
}

// ---- attribute ----------------------------------------------------------------------------------
TEST(AttributeEdges, TensorsEqualTheReference) {
  const Words pair = golden_pair("attribute");
  const auto circuits = SafeTensors::open(tiny_model() / "golden/circuits.safetensors");
  const TemporaryFolder folder;
  const std::string file = folder / "edges.safetensors";
  for (const std::string direction : {"denoise", "noise"}) {
    const auto saved = [&](const Words& more) {
      const Outcome o =
          vitrine(pair + more + Words{"--direction", direction, "--out", file, "--verify", "0"});
      EXPECT_EQ(o.exit, 0) << o.err;
      return SafeTensors::open(file);
    };
    const auto compare = [&](const SafeTensors& found, const std::string& name) {
      expect_close(found.at("edge/score"), circuits.at(name + "/" + direction), 1e-4, name);
      EXPECT_EQ(max_abs_difference(found.at("edge/valid").to(DType::f32),
                                   circuits.at("valid").to(DType::f32)),
                0);
    };
    const SafeTensors eap = saved({"--method", "edges", "--by-pos"});
    compare(eap, "eap");
    EXPECT_EQ(eap.at("edge/by_position").rank(), 3);
    compare(saved({"--method", "edges-ig", "--rule", "eap-ig", "--steps", "5"}), "eap_ig");
    compare(saved({"--method", "edges-ig"}), "eap_ig_midpoint");  // 16 midpoints
    const Outcome exact = vitrine(pair + Words{"--method", "edges-exact", "--direction", direction,
                                               "--out", file});
    ASSERT_EQ(exact.exit, 0) << exact.err;
    compare(SafeTensors::open(file), "exact");
  }
}

TEST(AttributeEdges, TheStrongestAreVerified) {
  const json j = found({"--method", "edges", "--verify", "4", "--top", "6"}, capitals("attribute"));
  EXPECT_EQ(j["method"], "eap");
  EXPECT_EQ(j["count"], 1108);
  ASSERT_EQ(j["edges"].size(), 6U);
  const json exact =
      found({"--method", "edges-exact", "--top", "2000"}, capitals("attribute"));
  EXPECT_EQ(exact["edges"].size(), 1108U);
  for (std::size_t i = 0; i < 6; ++i) {
    const json& e = j["edges"][i];
    if (i >= 4) {
      EXPECT_TRUE(e["exact"].is_null());
      continue;
    }
    for (const json& x : exact["edges"]) {
      if (x["from"] == e["from"] && x["to"] == e["to"]) {
        EXPECT_NEAR(e["exact"].get<double>(), x["score"].get<double>(), 1e-4);
      }
    }
  }
}

TEST(AttributeEdges, WrongUseIsExplained) {
  const Words capital = capitals("attribute");
  expect_failure(capital + Words{"--method", "edges", "--sites", "z"}, 2, "edges lie between");
  expect_failure(capital + Words{"--method", "edges", "--steps", "3"}, 2, "--steps with edges-ig");
  expect_failure(capital + Words{"--method", "ig", "--rule", "midpoint"}, 2,
                 "--rule goes with --method edges-ig");
  expect_failure(capital + Words{"--method", "edges-exact", "--verify", "3"}, 2,
                 "measures every edge already");
  expect_failure(capital + Words{"--hold-norms"}, 2, "--hold-norms and --features go with --method edges");
}

// ---- circuit ------------------------------------------------------------------------------------
TEST(Circuit, AFewEdgesDoTheWork) {
  const json j = found({"--edges", "60", "--worth", "--curve"});
  EXPECT_EQ(j["of"], 1108);
  EXPECT_EQ(j["asked"], 60);
  EXPECT_LE(j["edges"].size(), 60U);
  EXPECT_GT(j["circuit"]["faithfulness"].get<double>(), 0.8);
  EXPECT_LT(std::abs(j["complement"]["faithfulness"].get<double>()), 0.1);
  EXPECT_LT(j["random"]["mean"].get<double>(), 0.3);
  const double clean = j["metric"]["clean"].get<double>(), corrupt = j["metric"]["corrupt"].get<double>();
  EXPECT_NEAR((j["circuit"]["metric"].get<double>() - corrupt) / (clean - corrupt),
              j["circuit"]["faithfulness"].get<double>(), 1e-9);
  for (const json& e : j["edges"]) EXPECT_TRUE(e["worth"].is_number());
  ASSERT_EQ(j["curves"].size(), 2U);
  EXPECT_NEAR(j["curves"][0]["faithfulness"].back().get<double>(), 1, 1e-5);
  EXPECT_EQ(j["curves"][0]["edges"].back(), 1108);
}

TEST(Circuit, EveryWayFindsOne) {
  for (const Words& by : {Words{"--by", "edges", "--edges", "60"},
                          Words{"--by", "exact", "--edges", "60"},
                          Words{"--by", "edges-ig", "--edges", "60", "--grow"},
                          Words{"--by", "greedy", "--edges", "40"},
                          Words{"--by", "acdc", "--threshold", "0.5"},
                          Words{"--by", "exact", "--threshold", "0.5", "--direction", "noise"}}) {
    const json j = found(by + Words{"--random", "0"});
    SCOPED_TRACE(j["by"].get<std::string>());
    EXPECT_GT(j["circuit"]["faithfulness"].get<double>(), 0.6);
    EXPECT_LT(j["edges"].size(), 120U);
    EXPECT_TRUE(j["random"].is_null());
  }
}

TEST(Circuit, IsKeptInFilesAppliedAndCompared) {
  const TemporaryFolder folder;
  const std::string own = folder / "own.json", mib = folder / "mib.json", dot = folder / "c.dot";
  const Outcome o = vitrine(kCapitals + Words{"--edges", "50", "--out", own, "--mib", mib, "--dot",
                                              dot});
  ASSERT_EQ(o.exit, 0) << o.err;
  EXPECT_EQ(o.out, "");
  const json kept = json::parse(read_text(own));
  const json theirs = json::parse(read_text(mib));
  EXPECT_EQ(theirs["cfg"]["n_layers"], 6);
  EXPECT_EQ(theirs["edges"].size(), 1108U);
  EXPECT_THAT(read_text(dot), AllOf(HasSubstr("digraph circuit"), HasSubstr("\"input\" ->")));
  for (const std::string& file : {own, mib}) {
    const json again = found({"--apply", file, "--compare", own});
    EXPECT_EQ(edges_of(again), edges_of(kept));
    EXPECT_NEAR(again["circuit"]["metric"].get<double>(), kept["circuit"]["metric"].get<double>(),
                1e-5);
    ASSERT_EQ(again["compared"].size(), 1U);
    EXPECT_DOUBLE_EQ(again["compared"][0]["jaccard"].get<double>(), 1);
  }
  // Of another model.
  expect_failure(golden_pair("circuit") + Words{"--apply", own}, 3, "this model has no");
}

TEST(Circuit, GroupsOfPairsAreJudgedByThemselves) {
  const TemporaryFolder folder;
  const std::string pairs = folder / "pairs.jsonl";
  write_text(pairs,
                   R"({"clean": "The capital of Texas is", "corrupt": "The capital of Ohio is", "answer": " Austin", "wrong": " Columbus", "how": "plain"}
{"clean": "Texas is governed from", "corrupt": "Ohio is governed from", "answer": " Austin", "wrong": " Columbus", "how": "governed"}
{"clean": "The capital of Ohio is", "corrupt": "The capital of Texas is", "answer": " Columbus", "wrong": " Austin", "how": "plain"}
)");
  const json j = found({"--pairs", pairs, "--edges", "80", "--group-by", "how", "--random", "2"},
                       Words{"circuit"});
  ASSERT_EQ(j["groups"].size(), 2U);
  ASSERT_EQ(j["pairs"].size(), 3U);
  const json& plain = j["groups"][0];
  EXPECT_EQ(plain["name"], "plain");
  const auto mean = [&](const char* what) {
    return (j["pairs"][0][what].get<double>() + j["pairs"][2][what].get<double>()) / 2;
  };
  EXPECT_NEAR(plain["clean"].get<double>(), mean("clean"), 1e-9);
  EXPECT_NEAR(plain["faithfulness"].get<double>(),
              (mean("circuit") - mean("corrupt")) / (mean("clean") - mean("corrupt")), 1e-9);
}

// Features and the rest add up to the MLP: with all its parts kept, the circuit is the same.
TEST(Circuit, FeaturesAreNodes) {
  const TemporaryFolder folder;
  const std::string whole = folder / "whole.json", parts = folder / "parts.json", file = folder / "found.json";
  const std::string sae = (default_model() / "sae/blocks.4.hook_mlp_out").string();
  const json found_parts = found({"--sae", sae, "--features", "20", "--edges", "200", "--random", "0"});
  EXPECT_GT(found_parts["circuit"]["faithfulness"].get<double>(), 0.9);
  std::set<std::string> features;
  for (const json& n : found_parts["nodes"]) {
    if (n.get<std::string>().starts_with("m4.f")) features.insert(n.get<std::string>());
  }
  EXPECT_GT(features.size(), 0U);
  write_text(file, found_parts.dump());
  const json again = found({"--sae", sae, "--apply", file, "--random", "0"});
  EXPECT_NEAR(again["circuit"]["metric"].get<double>(),
              found_parts["circuit"]["metric"].get<double>(), 1e-4);
  // m4 -> logits as one edge, and as all of its parts.
  write_text(whole, R"({"edges": [{"from": "input", "to": "m4"}, {"from": "m4", "to": "logits"}]})");
  json all = {{"edges", json::array({{{"from", "input"}, {"to", "m4"}},
                                     {{"from", "m4.error"}, {"to", "logits"}}})}};
  const json wide = found({"--sae", sae, "--features", "5", "--by", "exact", "--edges", "3000",
                           "--random", "0"});
  for (const json& n : wide["senders"]) {
    const auto name = n.get<std::string>();
    if (name.starts_with("m4.f")) all["edges"].push_back({{"from", name}, {"to", "logits"}});
  }
  write_text(parts, all.dump());
  EXPECT_NEAR(
      found({"--apply", whole, "--random", "0"})["circuit"]["metric"].get<double>(),
      found({"--sae", sae, "--apply", parts, "--random", "0"})["circuit"]["metric"]
          .get<double>(),
      1e-4);
  expect_failure(kCapitals + Words{"--features", "5"}, 2, "give --sae DIR");
}

TEST(Circuit, TensorsEqualTheReference) {
  const auto golden = SafeTensors::open(tiny_model() / "golden/circuits.safetensors");
  const auto sizes = golden.at("circuits/sizes").to_vector<int>();
  const TemporaryFolder folder;
  const std::string file = folder / "circuit.safetensors";
  for (std::size_t i = 4; i + 1 < sizes.size(); ++i) {
    const Outcome o = vitrine(golden_pair("circuit") + Words{"--by", "edges", "--direction", "noise",
                                                             "--edges", std::to_string(sizes[i]),
                                                             "--random", "0", "--out", file});
    ASSERT_EQ(o.exit, 0) << o.err;
    const auto saved = SafeTensors::open(file);
    const auto row = static_cast<std::int64_t>(i);
    EXPECT_EQ(max_abs_difference(saved.at("mask").to(DType::f32),
                                 golden.at("circuits/noise/mask").select(0, row).to(DType::f32)),
              0);
    EXPECT_NEAR(saved.at("metric/circuit").item<float>(),
                golden.at("circuits/noise/metric").to_vector<double>()[i], 1e-4);
    EXPECT_NEAR(saved.at("metric/complement").item<float>(),
                golden.at("circuits/noise/complement_metric").to_vector<double>()[i], 1e-4);
  }
}

TEST(Circuit, WrongUseIsExplained) {
  expect_failure(kCapitals + Words{"--by", "acdc"}, 2, "needs --threshold T");
  expect_failure(kCapitals + Words{"--by", "acdc", "--threshold", "1", "--edges", "4"}, 2,
                 "--edges goes with the others");
  expect_failure(kCapitals + Words{"--edges", "4", "--threshold", "1"}, 2, "not both");
  expect_failure(kCapitals + Words{"--apply", "c.json", "--edges", "4"}, 2,
                 "--apply judges a circuit that there is");
  expect_failure(kCapitals + Words{"--by", "exact", "--steps", "4"}, 2, "--steps is about a path");
  expect_failure(kCapitals + Words{"--group-by", "x"}, 2, "give --pairs FILE");
  expect_failure(kCapitals + Words{"--apply", "/nowhere/c.json"}, 3, "/nowhere/c.json");
  expect_failure({"circuit", "--clean", "The capital of Texas is", "--corrupt",
                  "The capital of Texas is", "--answer", " Austin", "--wrong", " Sacramento"},
                 4, "there is no way between them");
}

}  // namespace
}  // namespace vitrine::test
