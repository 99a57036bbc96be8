// Attribution graphs held to what they say: closure, exact ablations, pruning; and files that are wrong.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <numeric>

#include "nn/families/sites.h"
#include "sae/graphs/effects.h"
#include "sae/graphs/pruned_graph.h"
#include "sae/graphs/viewer_graph.h"
#include "tensor/error.h"
#include "tensor/files/file.h"
#include "tensor/files/safetensors.h"
#include "tests/support.h"
#include "tests/tensor/temporary_folder.h"

namespace vitrine::sae {
namespace {

using ::testing::HasSubstr;

const nn::Tokens kPrompt = {5, 17, 33, 64, 2, 88, 9, 17};

nn::Model tiny() { return nn::load_model((test::data() / "tiny-gpt2").string()); }
std::filesystem::path folder() { return test::data() / "transcoders/cross-layer"; }

// A centred logit after the prompt, of a run with these edits.
double logit(const nn::Model& model, int token, const Interventions& edits) {
  const Tensor logits = model.run_edited({kPrompt}, edits, fetch(value("logits"))).last_logits();
  const auto all = logits.to_vector<double>();
  return all[static_cast<std::size_t>(token)] -
         std::accumulate(all.begin(), all.end(), 0.0) / static_cast<double>(all.size());
}

TEST(AttributionGraph, RowsCloseToTheirTargetsWhateverTheChunks) {
  const nn::Model model = tiny();
  const TranscoderSet set = load_transcoders(folder());
  const AttributionGraph whole = attribution_graph(model, set, kPrompt),
                         pieces = attribution_graph(model, set, kPrompt, {.targets = 7});
  EXPECT_LT(whole.closure(), 1e-4 * whole.largest_target());
  EXPECT_LT(max_abs_difference(whole.adjacency(), pieces.adjacency()), 1e-5);
  for (std::int64_t t = 0; t < whole.targets();
       ++t) {  // nothing comes from later layers or positions
    if (t >= std::ssize(whole.features)) continue;
    const ActiveFeature& to = whole.features[static_cast<std::size_t>(t)];
    for (const std::int32_t s : whole.rows[static_cast<std::size_t>(t)].sources) {
      if (s >= whole.first_error()) continue;
      EXPECT_LT(whole.features[static_cast<std::size_t>(s)].layer, to.layer);
      EXPECT_LE(whole.features[static_cast<std::size_t>(s)].position, to.position);
    }
  }
}

TEST(AttributionGraph, ExactEffectsAreThoseOfEditedRuns) {
  const nn::Model model = tiny();
  const TranscoderSet set = load_transcoders(folder());
  const AttributionGraph g = attribution_graph(model, set, kPrompt);
  const std::vector<std::vector<std::size_t>> groups = {{3}, {3, 40}, {g.features.size() - 1}};
  const std::vector<double> exact = exact_effects(model, set, g, groups);
  const double before = logit(model, g.logit_tokens[0], {});
  for (std::size_t i = 0; i < groups.size(); ++i) {
    Interventions all;
    for (const std::size_t n : groups[i]) {
      const ActiveFeature& f = g.features[n];
      for (std::size_t j = 0; j < set.layers[static_cast<std::size_t>(f.layer)].w_dec.size(); ++j) {
        const Tensor row = set.layers[static_cast<std::size_t>(f.layer)]
                               .w_dec[j]
                               .select(0, f.feature)
                               .contiguous();
        const Interventions one = {add(site::mlp_out(f.layer + static_cast<int>(j)), row,
                                       -f.activation, {.pos = {f.position}})};
        all = all.stages().empty() ? one : all.then(one);
      }
    }
    EXPECT_NEAR(exact[i], before - logit(model, g.logit_tokens[0], all), 1e-4);
  }
  // A feature of the last layer at the last position reaches the logits by the final norm alone: with its scale as it was the
  // graph would be exact, so it is close.
  const std::vector<double> effects = total_effects(g);
  EXPECT_NEAR(exact[2], effects.back(), 0.2 * std::abs(effects.back()) + 1e-2);
  EXPECT_NE(exact_effects(model, set, g, groups, 0, AttentionPatterns::held)[0], exact[0]);
}

TEST(AttributionGraph, ASetOfSaelensTranscodersIsTheSameGraph) {
  const nn::Model model = tiny();
  // Sets that read the normalised stream: the norm's gain and bias moved into the encoder.
  TranscoderSet set = load_transcoders(folder());
  set.cross_layer = false;
  for (TranscoderLayer& l : set.layers) l.w_dec.resize(1);
  const AttributionGraph as_it_is = attribution_graph(model, set, kPrompt);
  TranscoderSet moved = set;
  for (std::size_t l = 0; l < moved.layers.size(); ++l) {
    TranscoderLayer& t = moved.layers[l];
    const Tensor gain = model.parameters().at(fmt::format("h.{}.ln_2.weight", l)).to(DType::f32),
                 bias = model.parameters().at(fmt::format("h.{}.ln_2.bias", l)).to(DType::f32);
    t.w_enc = t.w_enc.clone();
    t.b_enc = t.b_enc.clone();
    for (std::int64_t j = 0; j < t.features(); ++j) {
      for (std::int64_t k = 0; k < set.width(); ++k) {
        float& w = t.w_enc.data<float>()[j * set.width() + k];
        t.b_enc.data<float>()[j] += w * bias.data<float>()[k];
        w *= gain.data<float>()[k];
      }
    }
    t.reads_normalised = true;
  }
  const AttributionGraph other = attribution_graph(model, moved, kPrompt);
  ASSERT_EQ(as_it_is.features.size(), other.features.size());
  EXPECT_LT(max_abs_difference(as_it_is.adjacency(), other.adjacency()), 1e-4);
  EXPECT_LT(other.closure(), 1e-4 * other.largest_target());
}

TEST(PrunedGraph, ThresholdsAtTheirEnds) {
  const nn::Model model = tiny();
  const AttributionGraph g = attribution_graph(model, load_transcoders(folder()), kPrompt);
  const PrunedGraph everything = prune(g, {.nodes = 1, .edges = 1}),
                    little = prune(g, {.nodes = 0.3, .edges = 0.5});
  EXPECT_GT(everything.kept_nodes(), little.kept_nodes());
  EXPECT_GT(everything.edges.size(), little.edges.size());
  for (const PrunedGraph::Edge& e : little.edges) {
    EXPECT_TRUE(little.node_kept[static_cast<std::size_t>(e.source)]);
    EXPECT_TRUE(little.node_kept[static_cast<std::size_t>(g.node_of_target(e.target))]);
  }
  EXPECT_THROW(prune(g, {.nodes = 1.5}), Error);
  EXPECT_EQ(viewer_graph(g, little, {.slug = "s", .scan = "s"}).links.size(), little.edges.size());
}

TEST(Transcoders, FilesThatAreWrongAreRefusedByName) {
  const test::TemporaryFolder broken;
  std::filesystem::copy(folder(), broken / "set", std::filesystem::copy_options::recursive);
  const auto message = [&] {
    try {
      load_transcoders(broken / "set");
    } catch (const Error& e) {
      return std::string(e.what());
    }
    return std::string("nothing");
  };
  EXPECT_EQ(message(), "nothing");
  write_text(broken / "set/cfg.json", R"({"activation": "swish"})");
  EXPECT_THAT(message(), HasSubstr("swish"));
  std::filesystem::remove(broken / "set/cfg.json");
  save_safetensors(broken / "set/W_dec_1.safetensors",
                   {{"W_dec_1", Tensor::zeros({64, 3, 48}, DType::f32)}});
  EXPECT_THAT(message(), HasSubstr("W_dec_1"));
  save_safetensors(broken / "set/W_dec_1.safetensors",
                   {{"W_dec_1", Tensor::full({64, 2, 48}, DType::f32, std::nan(""))}});
  EXPECT_THAT(message(), HasSubstr("NaN"));
  std::filesystem::remove(broken / "set/W_dec_1.safetensors");
  EXPECT_THAT(message(), HasSubstr("W_dec_1"));
}

}  // namespace
}  // namespace vitrine::sae
