// Supernodes: what scaling several nodes together does, against runs that are edited layer by layer.
#include "sae/graphs/group_effects.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <map>
#include <numeric>

#include "autograd/transform/recorded.h"
#include "nn/families/sites.h"
#include "sae/graphs/node_names.h"
#include "tensor/error.h"
#include "tests/support.h"

namespace vitrine::sae {
namespace {

using ::testing::HasSubstr;

const nn::Tokens kPrompt = {5, 17, 33, 64, 2, 88, 9, 17};

std::filesystem::path folder() { return test::data() / "transcoders/cross-layer"; }

// The same weights as another kind of transcoder.
TranscoderSet as(TranscoderActivation activation) {
  TranscoderSet set = load_transcoders(folder());
  set.activation = activation;
  set.k = activation == TranscoderActivation::topk ? 8 : 0;
  if (activation == TranscoderActivation::jumprelu) {
    for (TranscoderLayer& t : set.layers)
      t.threshold = Tensor::full({t.features()}, DType::f32, 0.2);
  }
  return set;
}

class GroupEffectsOf : public testing::TestWithParam<TranscoderActivation> {
 protected:
  GroupEffectsOf()
      : model(nn::load_model((test::data() / "tiny-gpt2").string())),
        set(as(GetParam())),
        graph(attribution_graph(model, set, kPrompt)) {}

  // The nodes of features that are the n-th active one of each layer, counted from the last position backwards.
  NodeGroup of_all_layers(std::int64_t n, double factor) const {
    NodeGroup group{{}, factor};
    std::map<int, std::int64_t> seen;
    for (std::int64_t i = graph.first_error(); i-- > 0;) {
      if (seen[graph.features[static_cast<std::size_t>(i)].layer]++ == n) group.nodes.push_back(i);
    }
    return group;
  }

  // What the MLP of a layer reads, under edits: [T, d], with gain and bias.
  Tensor read_by(int layer, const Interventions& edits) const {
    const Tensor x =
        model
            .run_edited({kPrompt}, edits,
                        fetch(site::ln2_normalized(layer)))[site::ln2_normalized(layer)]
            .select(0, 0)
            .to(DType::f32)
            .clone();
    const Tensor gain =
                     model.parameters().at(fmt::format("h.{}.ln_2.weight", layer)).to(DType::f32),
                 bias = model.parameters().at(fmt::format("h.{}.ln_2.bias", layer)).to(DType::f32);
    for (std::int64_t i = 0; i < x.numel(); ++i)
      x.data<float>()[i] =
          x.data<float>()[i] * gain.data<float>()[i % x.dim(1)] + bias.data<float>()[i % x.dim(1)];
    return x;
  }

  // Layer by layer: what its members are now, and an edit for what they should be.
  double after_naively(const NodeGroup& group, int token, Interventions edits) const {
    for (int l = 0; l < graph.layers; ++l) {
      const auto at = static_cast<std::size_t>(l);
      Tensor a;
      std::vector<Interventions> more;
      for (const std::int64_t n : group.nodes) {
        const ActiveFeature& f = graph.features[static_cast<std::size_t>(n)];
        if (f.layer != l) continue;
        if (!a.defined())
          a = activations(set, at, pre_activations(set, at, read_by(l, edits), model.pool()));
        const double by = group.factor * f.activation - a.at<float>({f.position, f.feature});
        for (std::size_t j = 0; j < set.layers[at].w_dec.size(); ++j)
          more.push_back({add(site::mlp_out(l + static_cast<int>(j)),
                              set.layers[at].w_dec[j].select(0, f.feature).contiguous(), by,
                              {.pos = {f.position}})});
      }
      for (const Interventions& one : more) edits = edits.stages().empty() ? one : edits.then(one);
    }
    const auto logits = model.run_edited({kPrompt}, edits, fetch(value("logits")))
                            .last_logits()
                            .to_vector<double>();
    return logits[static_cast<std::size_t>(token)] -
           std::accumulate(logits.begin(), logits.end(), 0.0) / static_cast<double>(logits.size());
  }

  nn::Model model;
  TranscoderSet set;
  AttributionGraph graph;
};

TEST_P(GroupEffectsOf, AreThoseOfRunsEditedLayerByLayer) {
  const std::vector<NodeGroup> groups = {of_all_layers(0, 0), of_all_layers(2, 0),
                                         of_all_layers(1, 3)};
  for (const auto patterns : {AttentionPatterns::recomputed, AttentionPatterns::held}) {
    Interventions held;
    if (patterns == AttentionPatterns::held) {
      const nn::Run run = model.run_batch({kPrompt}, fetch(sites("*.attn.hook_pattern")));
      std::vector<Edit> edits;
      for (int l = 0; l < graph.layers; ++l) edits.push_back(hold(site::pattern(l), run.results));
      held = Interventions(std::move(edits));
    }
    const GroupEffects found = effects_in_model(model, set, graph, groups, patterns);
    for (std::size_t g = 0; g < groups.size(); ++g) {
      ASSERT_EQ(groups[g].nodes.size(), 3u);
      for (const std::size_t k : {std::size_t{0}, std::size_t{3}}) {
        const int token = graph.logit_tokens[k];
        const double exact =
            found.effects.at<double>({static_cast<std::int64_t>(g), static_cast<std::int64_t>(k)});
        EXPECT_NEAR(exact, after_naively({}, token, {}) - after_naively(groups[g], token, held),
                    2e-5)
            << "group " << g;
        EXPECT_GT(std::abs(exact), 1e-3);
      }
    }
  }
}

TEST_P(GroupEffectsOf, OneFeatureIsWhatItIsAlone) {
  const std::vector<double> alone = total_effects(graph, 1);
  std::vector<NodeGroup> groups;
  std::vector<std::vector<std::size_t>> features;
  for (std::size_t i = 0; i < graph.features.size(); i += 31) {
    EXPECT_NEAR(effects_by_graph(graph, {{static_cast<std::int64_t>(i)}, 0})[1], alone[i], 1e-9);
    EXPECT_NEAR(effects_by_graph(graph, {{static_cast<std::int64_t>(i)}, -1})[1], 2 * alone[i],
                1e-9);
    groups.push_back({{static_cast<std::int64_t>(i)}, 0});
    features.push_back({i});
  }
  const GroupEffects found =
      effects_in_model(model, set, graph, groups, AttentionPatterns::recomputed);
  const std::vector<double> exact = exact_effects(model, set, graph, features, 1);
  for (std::size_t g = 0; g < groups.size(); ++g)
    EXPECT_NEAR(found.effects.at<double>({static_cast<std::int64_t>(g), 1}), exact[g], 2e-5);
}

TEST_P(GroupEffectsOf, TheGraphSumsDirectEdgesOfAllThatIsSwitchedOff) {
  // Without all features, errors and tokens nothing is left but what positions and biases give.
  NodeGroup all{{}, 0};
  for (std::int64_t n = 0; n < graph.first_logit(); ++n) all.nodes.push_back(n);
  const std::vector<double> effects = effects_by_graph(graph, all);
  for (std::size_t k = 0; k < effects.size(); ++k) {
    const AttributionRow& row = graph.rows[graph.features.size() + k];
    EXPECT_NEAR(effects[k], std::accumulate(row.weights.begin(), row.weights.end(), 0.0), 1e-9);
  }
  // A factor of 1 changes nothing, in the model either.
  all.factor = 1;
  const GroupEffects none =
      effects_in_model(model, set, graph, {&all, 1}, AttentionPatterns::recomputed);
  EXPECT_LT(max_abs_difference(none.effects, Tensor::zeros(none.effects.shape(), DType::f64)),
            1e-5);
}

TEST_P(GroupEffectsOf, ErrorsAndTokensAreTakenAwayToo) {
  const std::int64_t error = node_named(graph, "error_1_7"), token = node_named(graph, "E_17_7");
  const std::vector<NodeGroup> groups = {{{error}, 0}, {{token}, 0}};
  const GroupEffects found =
      effects_in_model(model, set, graph, groups, AttentionPatterns::recomputed);
  const int id = graph.logit_tokens[0];
  const Tensor vector = graph.error.select(0, 1).select(0, 7).contiguous(),
               embedding =
                   model.parameters().at("wte.weight").to(DType::f32).select(0, 17).contiguous();
  const double before = after_naively({}, id, {});
  EXPECT_NEAR(found.effects.at<double>({0, 0}),
              before - after_naively({}, id, {add(site::mlp_out(1), vector, -1, {.pos = {7}})}),
              2e-5);
  EXPECT_NEAR(found.effects.at<double>({1, 0}),
              before - after_naively({}, id, {add(site::embed(), embedding, -1, {.pos = {7}})}),
              2e-5);
}

TEST_P(GroupEffectsOf, LogitsCannotBeScaled) {
  EXPECT_THROW(effects_by_graph(graph, {{graph.first_logit()}, 0}), Error);
  EXPECT_THROW(effects_by_graph(graph, {{-1}, 0}), Error);
  try {
    node_named(graph, "0_9999_0");
    FAIL();
  } catch (const Error& e) {
    EXPECT_THAT(e.what(), HasSubstr("active nowhere"));
  }
  for (const char* wrong : {"", "a", "1_2", "1_2_3_4", "1__2", "E_5_1", "error_9_0", "9_1_1"})
    EXPECT_THROW(node_named(graph, wrong), Error) << wrong;
  for (std::int64_t n = 0; n < graph.nodes(); ++n)
    EXPECT_EQ(node_named(graph, node_name(graph, n)), n);
}

INSTANTIATE_TEST_SUITE_P(Kinds, GroupEffectsOf,
                         testing::Values(TranscoderActivation::relu, TranscoderActivation::jumprelu,
                                         TranscoderActivation::topk),
                         [](const auto& kind) { return std::string(name_of(kind.param)); });

}  // namespace
}  // namespace vitrine::sae
