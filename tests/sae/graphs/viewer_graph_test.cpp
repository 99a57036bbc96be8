// Files of attribution graphs: circuit-tracer's are read, ours come back as they were, what is wrong is refused with its place.
#include "sae/graphs/viewer_graph.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <map>

#include "nn/model/model.h"
#include "tensor/error.h"
#include "tensor/files/file.h"
#include "tests/support.h"
#include "tests/tensor/temporary_folder.h"

namespace vitrine::sae {
namespace {

using ::testing::HasSubstr;

const nn::Tokens kPrompt = {5, 17, 33, 64, 2, 88, 9, 17};

ViewerGraph made() {
  const nn::Model model = nn::load_model((test::data() / "tiny-gpt2").string());
  const AttributionGraph g =
      attribution_graph(model, load_transcoders(test::data() / "transcoders/cross-layer"), kPrompt);
  return viewer_graph(g, prune(g),
                      {.slug = "tiny",
                       .scan = "cross-layer",
                       .supernodes = {{"early", {"0_7_7", "0_17_7"}}, {"late", {"2_59_7"}}}});
}

std::string text_of(const ViewerGraph& graph) { return viewer_json(graph).line(); }

TEST(ViewerGraph, WhatIsWrittenIsReadAgain) {
  ViewerGraph graph = made();
  graph.pinned = {"E_17_7"};
  graph.clicked = "0_7_7";
  graph.shown_positions = "0 1";
  graph.others["notes"] = JsonValue{{"by", "me"}};
  graph.other_metadata["info"] = 7;
  graph.nodes[3].others["ppClerp"] = "what the file calls it";
  const std::string text = text_of(graph);
  const ViewerGraph again = viewer_graph_of(text, "graph.json");
  EXPECT_EQ(text_of(again), text);
  ASSERT_EQ(again.nodes.size(), graph.nodes.size());
  for (std::size_t i = 0; i < graph.nodes.size(); ++i) {
    const ViewerNode &a = graph.nodes[i], &b = again.nodes[i];
    EXPECT_EQ(std::tuple(a.id, a.kind, a.layer, a.position, a.number, a.activation, a.influence),
              std::tuple(b.id, b.kind, b.layer, b.position, b.number, b.activation, b.influence));
  }
  for (std::size_t i = 0; i < graph.links.size(); ++i)
    EXPECT_EQ(static_cast<float>(graph.links[i].weight), static_cast<float>(again.links[i].weight));
  EXPECT_EQ(again.supernodes[0].nodes, graph.supernodes[0].nodes);
  const test::TemporaryFolder folder;
  write_text(folder / "graph.json", viewer_json(graph).indented());
  EXPECT_EQ(text_of(read_viewer_graph(folder / "graph.json")), text);
}

TEST(ViewerGraph, ReadsCircuitTracersFiles) {
  for (const char* set : {"plt-relu", "clt-relu"}) {
    const auto file = test::shared() / "reference/tiny-gpt2/transcoders" / set / "graph.json";
    if (!std::filesystem::exists(file)) GTEST_SKIP() << "the reference values are not here";
    const ViewerGraph graph = read_viewer_graph(file);
    const JsonValue theirs = JsonValue::parse(read_text(file), "graph.json");
    // The same fields with the same values, whatever their order.
    EXPECT_EQ(viewer_json(graph).sorted().line(), theirs.sorted().line());
    EXPECT_EQ(graph.prompt_tokens.size(), 8u);
    EXPECT_EQ(graph.nodes.back().kind, ViewerNodeKind::logit);
  }
}

TEST(ViewerGraph, SupernodesAreMergedIntoOneNode) {
  const ViewerGraph graph = made();
  std::map<std::pair<std::string, std::string>, double> sums;
  std::map<std::string, std::string> whole = {
      {"0_7_7", "early"}, {"0_17_7", "early"}, {"2_59_7", "late"}};
  const auto name = [&](std::int32_t n) {
    const std::string& id = graph.nodes[static_cast<std::size_t>(n)].id;
    return whole.contains(id) ? whole[id] : id;
  };
  for (const ViewerLink& l : graph.links) sums[{name(l.source), name(l.target)}] += l.weight;
  const std::vector<MergedLink> merged = merged_links(graph);
  ASSERT_EQ(merged.size(), sums.size());
  for (std::size_t i = 0; i < merged.size(); ++i) {
    EXPECT_NEAR(merged[i].weight, (sums.at({merged[i].source, merged[i].target})), 1e-9);
    if (i > 0) {
      EXPECT_GE(std::abs(merged[i - 1].weight), std::abs(merged[i].weight));
    }
  }
  EXPECT_NE(sums.at({"early", "late"}), 0);
}

// The message of reading a text in which `from` became `to`, once.
std::string refusal(std::string text, const std::string& from, const std::string& to) {
  const auto at = text.find(from);
  if (at == std::string::npos) return "there is no " + from;
  text.replace(at, from.size(), to);
  try {
    viewer_graph_of(text, "graph.json");
  } catch (const Error& e) {
    return e.what();
  }
  return "nothing";
}

TEST(ViewerGraph, WhatIsWrongIsRefusedWithItsPlace) {
  const std::string text = text_of(made());
  EXPECT_EQ(refusal(text, "tiny", "tiny"), "nothing");
  const struct {
    const char *from, *to, *says;
  } wrong[] = {
      {R"("schema_version":1)", R"("schema_version":2)", "metadata.schema_version"},
      {R"("prompt_tokens")", R"("tokens")", "metadata.prompt_tokens"},
      {R"("feature_type":"embedding")", R"("feature_type":"lorsa")", "feature_type"},
      {R"("ctx_idx":7)", R"("ctx_idx":8)", "ctx_idx"},
      {R"("feature":35)", R"("feature":36)", "Cantor"},
      {R"("node_id":"0_7_7")", R"("node_id":"1_7_7")", "layer"},
      {R"("node_id":"0_7_7")", R"("node_id":"0_7")", "LAYER_NUMBER_POSITION"},
      {R"("node_id":"0_17_7")", R"("node_id":"0_7_7")", "0_7_7"},
      {R"("layer":"0")", R"("layer":0)", "layer"},
      {R"("source":"E_5_0")", R"("source":"E_6_0")", "links[0].source"},
      {R"("weight":)", R"("weight":NaN,"was":)", "weight"},
      {R"("early","0_7_7")", R"("early","0_8_7")", "qParams.supernodes[0]"},
      {R"("early","0_7_7")", R"("early","2_59_7")", "two supernodes"},
      {R"("late")", R"("early")", "two supernodes"},
      {R"("pinnedIds":[])", R"("pinnedIds":["x"])", "pinnedIds[0]"},
      {R"("links")", R"("edges")", "links"},
  };
  for (const auto& [from, to, says] : wrong) {
    EXPECT_THAT(refusal(text, from, to), HasSubstr(says)) << from << " -> " << to;
    EXPECT_THAT(refusal(text, from, to), HasSubstr("graph.json")) << from;
  }
}

// circuit-tracer calls an error of layer 9 at 3, and feature 9 of layer 0 there, "0_9_3".
TEST(ViewerGraph, AFeatureAndAnErrorOfOneNameAreToldApart) {
  const auto file = [](const char* links) {
    return fmt::format(
        R"({{"metadata": {{"slug": "s", "scan": null, "transcoder_list": [], "prompt_tokens": ["a", "b"], "prompt": "ab"}},
"nodes": [{{"node_id": "0_1_1", "feature": 2, "layer": "0", "ctx_idx": 1, "feature_type": "cross layer transcoder"}},
{{"node_id": "0_1_1", "feature": -1, "layer": "1", "ctx_idx": 1, "feature_type": "mlp reconstruction error"}},
{{"node_id": "2_4_1", "feature": 25, "layer": "2", "ctx_idx": 1, "feature_type": "cross layer transcoder"}},
{{"node_id": "E_7_0", "feature": 0, "layer": "E", "ctx_idx": 0, "feature_type": "embedding"}}],
"links": [{}]}})",
        links);
  };
  const ViewerGraph graph = viewer_graph_of(
      file(
          R"({"source": "E_7_0", "target": "0_1_1", "weight": 1}, {"source": "0_1_1", "target": "2_4_1", "weight": 2},
              {"source": "0_1_1", "target": "2_4_1", "weight": 3})"),
      "theirs.json");
  EXPECT_EQ(graph.nodes[1].id, "error_1_1");
  EXPECT_EQ(graph.links[0].target, 0);
  EXPECT_EQ(graph.links[1].source, 0);
  EXPECT_EQ(graph.links[2].source, 1);
  try {
    viewer_graph_of(file(R"({"source": "0_1_1", "target": "2_4_1", "weight": 2})"), "theirs.json");
    FAIL();
  } catch (const FileError& e) {
    EXPECT_THAT(e.what(), HasSubstr("both called 0_1_1"));
  }
  EXPECT_THROW(viewer_graph_of(file(R"({"source": "E_7_0", "target": "E_7_1", "weight": 1})"), "t"),
               FileError);
}

TEST(ViewerGraph, SupernodesAreReadFromFilesOfThreeForms) {
  const test::TemporaryFolder folder;
  const std::vector<Supernode> expected = {{"a", {"0_1_1", "0_2_1"}}, {"b", {"1_1_1"}}};
  const std::string list = R"([["a", "0_1_1", "0_2_1"], ["b", "1_1_1"]])";
  for (const std::string& text :
       {list, R"({"supernodes": )" + list + "}", R"({"qParams": {"supernodes": )" + list + "}}"}) {
    write_text(folder / "s.json", text);
    const auto read = read_supernodes(folder / "s.json");
    ASSERT_EQ(read.size(), 2u);
    EXPECT_EQ(read[0].name, "a");
    EXPECT_EQ(read[0].nodes, expected[0].nodes);
  }
  for (const char* wrong : {"{}", "7", R"([["a"]])", R"([["a", 7]])", R"({"supernodes": 1})"}) {
    write_text(folder / "s.json", wrong);
    EXPECT_THROW(read_supernodes(folder / "s.json"), FileError) << wrong;
  }
}

}  // namespace
}  // namespace vitrine::sae
