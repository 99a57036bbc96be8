// What vitrine graph says: circuit-tracer's files read, its viewers' JSON written, tensors, and what is refused.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <set>

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

TEST(GraphVerb, WhatDoesNotFitIsRefused) {
  const auto error = [](const Words& words, int code) {
    const Outcome o = vitrine(words);
    EXPECT_EQ(o.exit, code) << o.err;
    return o.err;
  };
  EXPECT_THAT(error({"graph", "--prompt", "a"}, 2), HasSubstr("--transcoders"));
  EXPECT_THAT(error({"graph", "--prompt", "a", "--transcoders", "/no/such/folder"}, 3),
              HasSubstr("no transcoders"));
  EXPECT_THAT(error({"graph", "--prompt", "a", "--transcoders", transcoders()}, 1),
              HasSubstr("layers"));  // of another model
  EXPECT_THAT(error(on_tiny() + Words{"--node-threshold", "1.5"}, 2),
              HasSubstr("--node-threshold"));
}

}  // namespace
}  // namespace vitrine::test
