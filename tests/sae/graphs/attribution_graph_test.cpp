// Attribution graphs against circuit-tracer's definitions: golden values of six sets of transcoders.
#include "sae/graphs/attribution_graph.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <optional>
#include <string>

#include "nn/model/model.h"
#include "sae/graphs/pruned_graph.h"
#include "tensor/error.h"
#include "tensor/files/safetensors.h"
#include "tests/support.h"

namespace vitrine::sae {
namespace {

std::filesystem::path tiny() { return test::shared() / "reference/tiny-gpt2"; }

struct Case {
  const char* set;
  bool zero_first;
};

class Golden : public testing::TestWithParam<Case> {
 protected:
  void SetUp() override {
    if (!std::filesystem::exists(tiny())) GTEST_SKIP() << "the reference values are not here";
    const auto folder = tiny() / "transcoders" / GetParam().set;
    golden_ = SafeTensors::open(folder / "attribution_graph.safetensors");
    const auto ids = golden_->at("tokens").to_vector<std::int64_t>();
    graph = attribution_graph(nn::load_model(tiny().string()), load_transcoders(folder),
                              {ids.begin(), ids.end()},
                              {.zero_first = GetParam().zero_first, .targets = 64});
  }
  Tensor of(const std::string& name) const {
    return golden_->at((GetParam().zero_first ? "zero_first/" : "all/") + name);
  }

  AttributionGraph graph;

 private:
  std::optional<SafeTensors> golden_;
};

TEST_P(Golden, GraphIsCircuitTracers) {
  const AttributionGraph& g = graph;
  const auto counts = of("counts").to_vector<std::int64_t>();
  ASSERT_EQ(std::ssize(g.features), counts[0]);
  EXPECT_EQ(g.first_token() - g.first_error(), counts[1]);
  EXPECT_EQ(g.positions(), counts[2]);
  ASSERT_EQ(std::ssize(g.logit_tokens), counts[3]);
  const auto features = of("features").to_vector<std::int64_t>();
  const auto activation = of("activation").to_vector<double>(),
             pre = of("preactivation").to_vector<double>();
  for (std::size_t i = 0; i < g.features.size(); ++i) {
    ASSERT_EQ(g.features[i].layer, features[3 * i]);
    ASSERT_EQ(g.features[i].position, features[3 * i + 1]);
    ASSERT_EQ(g.features[i].feature, features[3 * i + 2]);
    EXPECT_NEAR(g.features[i].activation, activation[i], 1e-5);
    EXPECT_NEAR(g.features[i].pre, pre[i], 1e-5);
  }
  const auto tokens = of("logit_tokens").to_vector<std::int64_t>();
  const auto probabilities = of("logit_probabilities").to_vector<double>();
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    EXPECT_EQ(g.logit_tokens[i], tokens[i]);
    EXPECT_NEAR(g.logit_probabilities[i], probabilities[i], 1e-6);
  }
  EXPECT_LT(max_abs_difference(g.error, of("error")), 1e-5);
  EXPECT_LT(max_abs_difference(g.adjacency(), of("adjacency")), 1e-4);
  EXPECT_LT(max_abs_difference(g.position_effect, of("position_effect")), 1e-4);
  EXPECT_LT(max_abs_difference(Tensor::of<double>({g.targets()}, g.constant),
                               of("constant").to(DType::f64)),
            1e-4);
  EXPECT_LT(max_abs_difference(Tensor::of<double>({g.targets()}, g.target_value),
                               of("target_value").to(DType::f64)),
            1e-5);
  EXPECT_LT(g.closure(), 1e-4 * g.largest_target());
}

TEST_P(Golden, PrunedGraphIsCircuitTracers) {
  const AttributionGraph& g = graph;
  const PrunedGraph p = prune(g);
  EXPECT_LT(max_abs_difference(Tensor::of<double>({g.nodes()}, p.influence),
                               of("influence").to(DType::f64)),
            1e-5);
  EXPECT_LT(max_abs_difference(Tensor::of<double>({g.nodes()}, p.cumulative),
                               of("cumulative").to(DType::f64)),
            1e-5);
  EXPECT_NEAR(p.replacement_score, of("replacement_score").item<double>(), 1e-5);
  EXPECT_NEAR(p.completeness_score, of("completeness_score").item<double>(), 1e-5);
  const auto nodes = of("node_mask").to_vector<std::int64_t>();
  std::int64_t differ = 0;
  for (std::size_t i = 0; i < nodes.size(); ++i) differ += (nodes[i] != 0) != p.node_kept[i];
  EXPECT_EQ(differ, 0) << "nodes";
  const Tensor mask = Tensor::zeros({g.targets(), g.nodes()}, DType::f32);
  for (const auto& e : p.edges) mask.data<float>()[e.target * g.nodes() + e.source] = 1;
  EXPECT_EQ(max_abs_difference(mask, of("edge_mask").to(DType::f32)), 0) << "edges";
}

INSTANTIATE_TEST_SUITE_P(Sets, Golden,
                         testing::Values(Case{"plt-relu", true}, Case{"plt-relu", false},
                                         Case{"plt-topk", true}, Case{"plt-topk", false},
                                         Case{"plt-jumprelu", true}, Case{"plt-jumprelu", false},
                                         Case{"plt-skip", true}, Case{"plt-skip", false},
                                         Case{"clt-relu", true}, Case{"clt-relu", false},
                                         Case{"clt-jumprelu", true}, Case{"clt-jumprelu", false}),
                         [](const auto& of) {
                           std::string name = of.param.set;
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name + (of.param.zero_first ? "_zero_first" : "_all");
                         });

}  // namespace
}  // namespace vitrine::sae
