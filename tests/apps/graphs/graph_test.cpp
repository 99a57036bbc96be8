// What vitrine graph says: circuit-tracer's files read, its viewers' JSON written, tensors, and what is refused.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <map>
#include <set>

#include "tensor/files/file.h"
#include "tests/apps/program.h"
#include "tests/apps/words.h"
#include "tests/support.h"
#include "tests/tensor/temporary_folder.h"

namespace vitrine::test {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;

std::string transcoders() { return (data() / "transcoders/cross-layer").string(); }
Words on_tiny() {
  return {"graph",       "--model",  tiny_model().string(), "--transcoders",
          transcoders(), "--tokens", "5,17,33,64,2,88,9,17"};
}

TEST(GraphVerb, TheViewersJsonHoldsTogether) {
  const json j =
      vitrine(on_tiny() + Words{"--format", "json", "--top", "5", "--verify", "3", "--random", "4"})
          .json();
  std::map<std::string, json> nodes;
  std::map<std::string, int> kinds;
  for (const json& n : j["nodes"]) {
    EXPECT_TRUE(nodes.emplace(n["node_id"], n).second)
        << "twice: " << n["node_id"];  // names are unique
    ++kinds[n["feature_type"]];
  }
  EXPECT_EQ(kinds["embedding"], 8);
  EXPECT_EQ(kinds["logit"], 10);
  EXPECT_GT(kinds["cross layer transcoder"], 3);
  for (const json& l : j["links"]) {
    ASSERT_TRUE(nodes.contains(l["source"]) && nodes.contains(l["target"]));
    EXPECT_NE(l["weight"].get<double>(), 0);
  }
  EXPECT_EQ(j["metadata"]["schema_version"], 1);
  EXPECT_EQ(j["metadata"]["prompt_tokens"].size(), 8u);
  EXPECT_EQ(j["counts"]["features"], 297);
  EXPECT_LT(j["closure"]["largest_error"].get<double>(),
            1e-4 * j["closure"]["largest_target"].get<double>());
  ASSERT_EQ(j["strongest"].size(), 5u);
  EXPECT_TRUE(j["strongest"][2]["exact"].is_number());
  EXPECT_TRUE(j["strongest"][3]["exact"].is_null());
  EXPECT_EQ(j["random"].size(), 4u);
  for (std::size_t i = 1; i < 5; ++i)
    EXPECT_GE(j["strongest"][i - 1]["influence"].get<double>(),
              j["strongest"][i]["influence"].get<double>());
}

TEST(GraphVerb, TensorsAndZeroFirst) {
  const TemporaryFolder folder;
  const std::string file = folder / "graph.safetensors";
  const Outcome o = vitrine(
      on_tiny() + Words{"--first", "zero", "--out", file, "--verify", "0", "--random", "0"});
  ASSERT_EQ(o.exit, 0) << o.err;
  EXPECT_THAT(o.out, HasSubstr("253 active features"));
  EXPECT_THAT(o.out, HasSubstr("replacement score"));
  const auto saved = SafeTensors::open(file);
  EXPECT_EQ(to_string(saved.at("adjacency").shape()), "[263, 295]");
  EXPECT_EQ(to_string(saved.at("features").shape()), "[253, 3]");
  for (std::int64_t i = 0; i < 253; ++i)
    EXPECT_GT(saved.at("features").at<std::int32_t>({i, 1}), 0);  // none at the first token
  EXPECT_LT(saved.at("replacement_score").item<double>(), 1);
}

TEST(GraphVerb, ThresholdsKeepMoreOrLess) {
  const auto kept = [](const char* nodes, const char* edges) {
    const json j = vitrine(on_tiny() + Words{"--format", "json", "--verify", "0", "--random", "0",
                                             "--node-threshold", nodes, "--edge-threshold", edges})
                       .json();
    return std::pair(j["counts"]["kept_nodes"].get<int>(), j["counts"]["kept_edges"].get<int>());
  };
  const auto [few, few_edges] = kept("0.5", "0.9");
  const auto [many, many_edges] = kept("0.95", "0.99");
  EXPECT_LT(few, many);
  EXPECT_LT(few_edges, many_edges);
}

// Three ways to name supernodes; what they do is said by the graph, in the model, and with attention held.
TEST(GraphVerb, SupernodesAreScaledTogether) {
  const Words quick = {"--verify", "0", "--random", "0", "--format", "json"};
  const json j = vitrine(on_tiny() + quick +
                         Words{"--supernode", "early=0_7_7,0_17_7", "--supernode", "one=2_59_7"})
                     .json();
  ASSERT_EQ(j["supernodes"].size(), 2u);
  EXPECT_EQ(j["qParams"]["supernodes"], json::parse(R"([["early", "0_7_7", "0_17_7"],
                                                        ["one", "2_59_7"]])"));
  // A supernode of one feature is what the table says of that feature.
  const json alone = vitrine(on_tiny() + Words{"--verify", "9", "--random", "0", "--format", "json",
                                               "--top", "50"})
                         .json();
  bool met = false;
  for (const json& f : alone["strongest"]) {
    if (f["layer"] != 2 || f["feature"] != 59 || f["position"] != 7) continue;
    met = true;
    EXPECT_NEAR(f["effect"].get<double>(),
                j["supernodes"][1]["effects"][0]["by_graph"].get<double>(), 1e-6);
  }
  EXPECT_TRUE(met);
  double sum = 0;
  for (const json& l : j["links"]) {
    if (l["target"] == "2_59_7" && (l["source"] == "0_7_7" || l["source"] == "0_17_7"))
      sum += l["weight"].get<double>();
  }
  met = false;
  for (const json& l : j["merged"]) {
    if (l["source"] != "early" || l["target"] != "one") continue;
    met = true;
    EXPECT_NEAR(l["weight"].get<double>(), sum, 1e-6);
  }
  EXPECT_TRUE(met);
  // What was saved is the file that --supernodes and --read take.
  const TemporaryFolder folder;
  const std::string file = folder / "graph.json";
  ASSERT_EQ(
      vitrine(on_tiny() + Words{"--verify", "0", "--random", "0", "--supernode",
                                "early=0_7_7,0_17_7", "--supernode", "one=2_59_7", "--out", file})
          .exit,
      0);
  const json again =
      vitrine(on_tiny() + quick + Words{"--supernodes", file, "--factor", "2"}).json();
  EXPECT_EQ(again["qParams"], j["qParams"]);
  EXPECT_NEAR(again["supernodes"][0]["effects"][1]["by_graph"].get<double>(),
              -j["supernodes"][0]["effects"][1]["by_graph"].get<double>(), 1e-9);
  const Outcome table = vitrine({"graph", "--read", file});
  ASSERT_EQ(table.exit, 0) << table.err;
  EXPECT_THAT(table.out, HasSubstr("early"));
  EXPECT_THAT(table.out, HasSubstr("sum of weights"));
  json read = vitrine({"graph", "--read", file, "--format", "json"}).json();
  json written = j;
  for (const char* field : {"meta", "file"}) {
    read.erase(field);
    written.erase(field);
  }
  EXPECT_EQ(read, written);
}

TEST(GraphVerb, ReadsCircuitTracersFile) {
  const auto file = shared() / "reference/tiny-gpt2/transcoders/plt-relu/graph.json";
  if (!std::filesystem::exists(file)) GTEST_SKIP() << "the reference values are not here";
  const Outcome o = vitrine(
      {"graph", "--read", file.string(), "--top", "3", "--supernode", "a and b=1_48_7,1_26_7"});
  ASSERT_EQ(o.exit, 0) << o.err;
  EXPECT_THAT(o.out, HasSubstr("12 features, 7 errors, 8 tokens and 10 logits, 346 edges"));
  EXPECT_THAT(o.out, HasSubstr("a and b"));
  json read = vitrine({"graph", "--read", file.string(), "--format", "json"}).json();
  const json theirs = json::parse(read_text(file));
  for (const char* field : {"metadata", "qParams", "nodes", "links"})
    EXPECT_EQ(read[field], theirs[field]) << field;
}

TEST(GraphVerb, FilesAndSupernodesThatAreWrongAreRefused) {
  const TemporaryFolder folder;
  const std::string file = folder / "graph.json";
  const auto error = [&](const Words& words, int code) {
    const Outcome o = vitrine(words);
    EXPECT_EQ(o.exit, code) << o.err;
    return o.err;
  };
  EXPECT_THAT(error({"graph"}, 2), HasSubstr("there is no prompt"));
  EXPECT_THAT(error({"graph", "--read", file}, 3), HasSubstr("graph.json"));
  write_text(file, R"({"metadata": {}, "nodes": [], "links": []})");
  EXPECT_THAT(error({"graph", "--read", file}, 3), HasSubstr("metadata.slug"));
  EXPECT_THAT(error({"graph", "--read", file, "--prompt", "a"}, 2), HasSubstr("--prompt"));
  EXPECT_THAT(error({"graph", "--read", file, "--out", folder / "x.npz"}, 2), HasSubstr("tensors"));
  EXPECT_THAT(error(on_tiny() + Words{"--supernode", "a"}, 2), HasSubstr("NAME=NODE"));
  EXPECT_THAT(error(on_tiny() + Words{"--supernode", "a=1_1_1,,"}, 2), HasSubstr("comma"));
  EXPECT_THAT(error(on_tiny() + Words{"--supernode", "a=0_21_7"}, 2),
              HasSubstr("not active at position 7, but at 0, 3"));
  EXPECT_THAT(error(on_tiny() + Words{"--supernode", "a=0_7_7", "--supernode", "b=0_7_7"}, 2),
              HasSubstr("two supernodes"));
  EXPECT_THAT(error(on_tiny() + Words{"--supernode", "a=4_85_7"}, 2), HasSubstr("logit"));
}

// An edge's heads, and why the strongest of them look there: pairs that add up to the score.
TEST(GraphVerb, AttentionIsExplained) {
  const TemporaryFolder folder;
  const std::string file = folder / "graph.safetensors";
  const Words explain = {"--verify",
                         "0",
                         "--random",
                         "0",
                         "--explain-edge",
                         "E_64_3,2_59_7",
                         "--heads",
                         "2",
                         "--explain-attention",
                         "1.2:7:4"};
  const Outcome o = vitrine(on_tiny() + explain + Words{"--format", "json", "--out", file});
  const json j = o.json();
  ASSERT_EQ(j["edges"].size(), 1u);
  const json& edge = j["edges"][0];
  double adjacent = 0;
  for (const json& l : j["links"])
    if (l["source"] == "E_64_3" && l["target"] == "2_59_7") adjacent = l["weight"];
  EXPECT_NEAR(edge["weight"].get<double>(), adjacent, 1e-5);
  EXPECT_EQ(edge["direct"], 0);  // other tokens are reached through heads alone
  ASSERT_EQ(j["attention"].size(), 3u);
  EXPECT_EQ(j["attention"][0]["head"], 2);
  EXPECT_EQ(j["attention"][1]["layer"], edge["heads"][0]["layer"]);
  const auto saved = SafeTensors::open(file);
  for (const json& a : j["attention"]) {
    const std::string name =
        fmt::format("attention/{}.{}.{}.{}", a["layer"].get<int>(), a["head"].get<int>(),
                    a["query"].get<int>(), a["key"].get<int>());
    const Tensor pairs = saved.at(name);
    EXPECT_EQ(pairs.dim(0), static_cast<std::int64_t>(a["query_parts"].size()));
    double sum = 0;
    for (const double x : pairs.to_vector<double>()) sum += x;
    EXPECT_NEAR(sum, a["score"].get<double>(), 1e-5 * std::max(1.0, a["magnitude"].get<double>()));
    for (const json& p : a["pairs"])
      EXPECT_LT(p["query"].get<std::size_t>(), a["query_parts"].size());
  }
  const Outcome table = vitrine(on_tiny() + explain);
  EXPECT_THAT(table.out, HasSubstr("head 1.2 from 7 to 4"));
  EXPECT_THAT(table.out, HasSubstr("edge from E_64_3 to 2_59_7"));
  const auto error = [&](const char* option, const char* text) {
    const Outcome wrong = vitrine(on_tiny() + Words{option, text});
    EXPECT_EQ(wrong.exit, 2) << wrong.err;
    return wrong.err;
  };
  EXPECT_THAT(error("--explain-attention", "1.2"), HasSubstr("LAYER.HEAD:QUERY:KEY"));
  EXPECT_THAT(error("--explain-attention", "1.2:4:7"), HasSubstr("later one"));
  EXPECT_THAT(error("--explain-attention", "7.2:7:4"), HasSubstr("no head 7.2"));
  EXPECT_THAT(error("--explain-edge", "E_64_3"), HasSubstr("SOURCE,TARGET"));
  EXPECT_THAT(error("--explain-edge", "2_59_7,E_64_3"), HasSubstr("no edge ends"));
}

TEST(GraphVerb, WhatDoesNotFitIsRefused) {
  const auto error = [](const Words& words, int code) {
    const Outcome o = vitrine(words);
    EXPECT_EQ(o.exit, code) << o.err;
    return o.err;
  };
  EXPECT_THAT(error({"graph", "--prompt", "a", "--transcoders", "/no/such/folder"}, 3),
              HasSubstr("no transcoders"));
  EXPECT_THAT(error({"graph", "--prompt", "a", "--transcoders", transcoders()}, 1),
              HasSubstr("layers"));  // of another model
  EXPECT_THAT(error(on_tiny() + Words{"--node-threshold", "1.5"}, 2),
              HasSubstr("--node-threshold"));
}

}  // namespace
}  // namespace vitrine::test
