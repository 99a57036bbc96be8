// Scores of attention taken apart, and the heads that carry edges: against the model itself under edits, in f64.
#include "sae/graphs/score_attribution.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <numeric>
#include <string>
#include <vector>

#include "autograd/transform/recorded.h"
#include "nn/families/sites.h"
#include "sae/graphs/edge_heads.h"
#include "sae/graphs/node_names.h"
#include "tensor/error.h"
#include "tensor/random.h"
#include "tests/support.h"

namespace vitrine::sae {
namespace {

using ::testing::HasSubstr;

const nn::Tokens kPrompt = {5, 17, 33, 64, 2, 88, 9, 17};

// A transcoder of each layer that explains nothing well: sums close all the same.
TranscoderSet random_set(const nn::Config& c, std::int64_t features, bool skip) {
  const random::Key key = random::Key{7};
  const auto draw = [&](const std::string& name, const Shape& shape, double size) {
    const Tensor t = Tensor::empty(shape, DType::f32);
    const random::Key of = key.fold(name);
    for (std::int64_t i = 0; i < t.numel(); ++i)
      t.data<float>()[i] = static_cast<float>(
          size * (2.0 * random::philox(of, static_cast<std::uint64_t>(i))[0] / 4294967295.0 - 1));
    return t;
  };
  TranscoderSet set{.name = "random"};
  for (int l = 0; l < c.layers; ++l) {
    const std::string at = fmt::format("{}", l);
    TranscoderLayer t{.w_enc = draw("enc" + at, {features, c.d_model}, 0.3),
                      .b_enc = draw("b" + at, {features}, 0.2)};
    t.w_dec = {draw("dec" + at, {features, c.d_model}, 0.3)};
    t.b_dec = draw("bd" + at, {c.d_model}, 0.3);
    if (skip) t.w_skip = draw("skip" + at, {c.d_model, c.d_model}, 0.1);
    set.layers.push_back(std::move(t));
  }
  return set;
}

void expect_closes(const nn::Model& model, const TranscoderSet& set, const AttributionGraph& g) {
  const nn::Config& c = model.config();
  for (int l = 0; l < c.layers; ++l) {
    for (int h = 0; h < c.heads; ++h) {
      for (const auto& [q, k] : {std::pair{7, 3}, {7, 7}, {2, 0}, {0, 0}}) {
        const int window = c.window(l);
        if (window > 0 && q - k >= window) continue;
        const ScoreAttribution s = attribute_score(model, set, g, {l, h, q, k});
        EXPECT_LT(s.closure(), 1e-5 * std::max(1.0, s.magnitude()))
            << l << "." << h << " from " << q << " to " << k << ": " << s.score;
      }
    }
  }
}

TEST(ScoreAttribution, PairsAddUpToTheScoreInEveryFamily) {
  for (const char* name : {"tiny-gpt2", "families/llama"}) {
    const nn::Model model = nn::load_model((test::data() / name).string());
    for (const bool skip : {false, true}) {
      const TranscoderSet set = random_set(model.config(), 24, skip);
      expect_closes(model, set, attribution_graph(model, set, kPrompt));
    }
  }
  const nn::Model model = nn::load_model((test::data() / "tiny-gpt2").string());
  const TranscoderSet set = load_transcoders(test::data() / "transcoders/cross-layer");
  for (const bool zero_first : {false, true})
    expect_closes(model, set, attribution_graph(model, set, kPrompt, {.zero_first = zero_first}));
}

// Those of the reference: other families, and circuit-tracer's six sets.
TEST(ScoreAttribution, PairsAddUpToTheScoreOfReferenceModels) {
  const auto reference = test::shared() / "reference";
  if (!std::filesystem::exists(reference)) GTEST_SKIP() << "the reference values are not here";
  for (const char* name : {"llama", "llama3-rope", "mistral", "qwen2", "qwen3"}) {
    const nn::Model model = nn::load_model((reference / "families" / name).string());
    const TranscoderSet set = random_set(model.config(), 24, false);
    SCOPED_TRACE(name);
    expect_closes(model, set, attribution_graph(model, set, kPrompt));
  }
  const nn::Model model = nn::load_model((reference / "tiny-gpt2").string());
  for (const char* name :
       {"plt-relu", "plt-topk", "plt-jumprelu", "plt-skip", "clt-relu", "clt-jumprelu"}) {
    SCOPED_TRACE(name);
    const TranscoderSet set = load_transcoders(reference / "tiny-gpt2/transcoders" / name);
    expect_closes(model, set, attribution_graph(model, set, kPrompt));
  }
}

class InTheModel : public testing::Test {
 protected:
  InTheModel()
      : model(nn::load_model((test::data() / "tiny-gpt2").string(), {.dtype = DType::f64})),
        set(load_transcoders(test::data() / "transcoders/cross-layer")),
        graph(attribution_graph(model, set, kPrompt)) {}

  // What a feature wrote to the stream before a block.
  Tensor vector_of(const ActiveFeature& f, int before) const {
    const Tensor sum = Tensor::zeros({set.width()}, DType::f64);
    const auto& decoders = set.layers[static_cast<std::size_t>(f.layer)].w_dec;
    for (std::size_t j = 0; j < decoders.size() && f.layer + static_cast<int>(j) < before; ++j) {
      for (std::int64_t k = 0; k < set.width(); ++k)
        sum.data<double>()[k] += f.activation * decoders[j].at<float>({f.feature, k});
    }
    return sum;
  }

  nn::Model model;
  TranscoderSet set;
  AttributionGraph graph;
};

// A pair is how much less the score is without both than without each: scores are bilinear in the two streams.
TEST_F(InTheModel, PairsAreSecondDifferencesOfTheScore) {
  const AttentionPlace place{2, 1, 7, 4};
  const ScoreAttribution s = attribute_score(model, set, graph, place);
  const nn::Run clean = model.run_batch({kPrompt}, fetch(site::ln1_scale(2)));
  const auto score_without = [&](const Tensor* at_query, const Tensor* at_key) {
    std::vector<Edit> edits = {hold(site::ln1_scale(2), clean.results)};
    if (at_query != nullptr)
      edits.push_back(add(site::resid_pre(2), *at_query, -1, {.pos = {place.query}}));
    if (at_key != nullptr)
      edits.push_back(add(site::resid_pre(2), *at_key, -1, {.pos = {place.key}}));
    const nn::Run run =
        model.run_edited({kPrompt}, Interventions(std::move(edits)), fetch(site::attn_scores(2)));
    return run[site::attn_scores(2)]
        .select(0, 0)
        .select(0, place.head)
        .at<double>({place.query, place.key});
  };
  const double whole = score_without(nullptr, nullptr);
  int tried = 0;
  for (std::size_t i = 0; i < s.query.size(); i += 4) {
    if (s.query[i].kind != StreamPart::Kind::feature) continue;
    const Tensor q = vector_of(graph.features[static_cast<std::size_t>(s.query[i].node)], 2);
    EXPECT_NEAR(whole - score_without(&q, nullptr), s.of_query(i), 1e-6);
    for (std::size_t j = 0; j < s.key.size(); j += 5) {
      if (s.key[j].kind != StreamPart::Kind::feature) continue;
      const Tensor k = vector_of(graph.features[static_cast<std::size_t>(s.key[j].node)], 2);
      EXPECT_NEAR(
          whole - score_without(&q, nullptr) - score_without(nullptr, &k) + score_without(&q, &k),
          s.at(i, j), 1e-6);
      EXPECT_NEAR(whole - score_without(nullptr, &k), s.of_key(j), 1e-6);
      ++tried;
    }
  }
  EXPECT_GT(tried, 5);
}

TEST_F(InTheModel, FewPartsAndTheRestAreTheSameSum) {
  const ScoreAttribution all = attribute_score(model, set, graph, {2, 0, 7, 6}),
                         few = attribute_score(model, set, graph, {2, 0, 7, 6}, {.parts = 6});
  ASSERT_EQ(few.query.size(), 6u);
  ASSERT_EQ(few.key.size(), 6u);
  EXPECT_EQ(few.query.back().kind, StreamPart::Kind::rest);
  EXPECT_EQ(few.query.back().together, std::ssize(all.query) - 5);
  EXPECT_LT(few.closure(), 1e-5 * std::max(1.0, few.magnitude()));
  for (std::size_t i = 0; i + 1 < few.query.size(); ++i) {
    const auto same = std::find_if(all.query.begin(), all.query.end(), [&](const StreamPart& p) {
      return std::tuple(p.kind, p.layer, p.number) ==
             std::tuple(few.query[i].kind, few.query[i].layer, few.query[i].number);
    });
    ASSERT_NE(same, all.query.end());
    EXPECT_NEAR(few.of_query(i), all.of_query(static_cast<std::size_t>(same - all.query.begin())),
                1e-9);
  }
}

TEST_F(InTheModel, PlacesThatAreNotThereAreRefused) {
  const auto message = [&](const AttentionPlace& place) {
    try {
      attribute_score(model, set, graph, place);
    } catch (const Error& e) {
      return std::string(e.what());
    }
    return std::string("nothing");
  };
  EXPECT_THAT(message({3, 0, 1, 0}), HasSubstr("no head 3.0"));
  EXPECT_THAT(message({0, 9, 1, 0}), HasSubstr("no head 0.9"));
  EXPECT_THAT(message({0, 0, 8, 0}), HasSubstr("no position 8"));
  EXPECT_THAT(message({0, 0, 2, 5}), HasSubstr("later one"));
}

// ---- heads that carry an edge -------------------------------------------------------------------------
using EdgesInTheModel = InTheModel;

TEST_F(EdgesInTheModel, AnEdgeIsWhatGoesThroughHeadsAndWhatDoesNot) {
  const Tensor a = graph.adjacency();
  for (std::int64_t t = 0; t < graph.targets(); t += 23) {
    const AttributionRow& row = graph.rows[static_cast<std::size_t>(t)];
    for (std::size_t i = 0; i < row.sources.size(); i += 31) {
      const std::int64_t source = row.sources[i];
      const EdgeHeads e = heads_on_edge(model, set, graph, source, graph.node_of_target(t));
      EXPECT_NEAR(e.weight, a.at<float>({t, source}), 2e-5);
      // Where one block with attention lies between, each path has one head or none.
      const bool target_low =
          t < std::ssize(graph.features) && graph.features[static_cast<std::size_t>(t)].layer == 0;
      if (!target_low) continue;
      double sum = e.direct;
      for (const auto& head : e.heads) sum += head.weight;
      EXPECT_NEAR(sum, e.weight, 1e-9);
    }
  }
}

// With norms, patterns and MLP outputs held the model is linear, so that what a source adds to a target can be measured: with a weight of
// a pattern at 0 it is less by what goes through that weight.
TEST_F(EdgesInTheModel, WhatAHeadCarriesIsGoneWithoutIt) {
  const std::int64_t source = node_named(graph, "0_45_7") - 40;
  const ActiveFeature& from = graph.features[static_cast<std::size_t>(source)];
  ASSERT_EQ(from.layer, 0);
  const nn::Run clean = model.run_batch({kPrompt}, fetch(sites("*")));
  std::vector<Edit> held;
  for (int l = 0; l < graph.layers; ++l) {
    for (const Site& s :
         {site::pattern(l), site::ln1_scale(l), site::ln2_scale(l), site::mlp_out(l)})
      held.push_back(hold(s, clean.results));
  }
  // The last feature at the last position of layer 2, which all earlier positions may reach.
  const std::int64_t target = graph.first_error() - 1;
  const ActiveFeature& to = graph.features[static_cast<std::size_t>(target)];
  ASSERT_EQ(to.layer, 2);
  const auto pre = [&](const Interventions& edits) {
    const Tensor x =
        model.run_edited({kPrompt}, edits, fetch(site::ln2_normalized(2)))[site::ln2_normalized(2)]
            .select(0, 0)
            .select(0, to.position)
            .contiguous();
    const Tensor gain = model.parameters().at("h.2.ln_2.weight").to(DType::f64);
    double sum = 0;
    for (std::int64_t k = 0; k < set.width(); ++k)
      sum +=
          x.at<double>({k}) * gain.at<double>({k}) * set.layers[2].w_enc.at<float>({to.feature, k});
    return sum;
  };
  const auto effect = [&](const Interventions& after) {
    std::vector<Edit> adds;
    for (int l = 0; l < 2; ++l) {
      const Tensor vector =
          set.layers[0].w_dec[static_cast<std::size_t>(l)].select(0, from.feature).to(DType::f64);
      adds.push_back(
          add(site::mlp_out(l), vector.contiguous(), from.activation, {.pos = {from.position}}));
    }
    const Interventions base = Interventions(held).then(after),
                        more = base.then(Interventions(adds));
    return pre(more) - pre(base);
  };
  const EdgeHeads e = heads_on_edge(model, set, graph, source, target);
  EXPECT_NEAR(effect({scale(site::mlp_out(2), 1)}), e.weight, 1e-6);
  ASSERT_GT(e.heads.size(), 3u);
  for (std::size_t i = 0; i < 4; ++i) {
    const auto& [place, weight] = e.heads[i];
    const double without =
        effect({zero(site::pattern(place.layer),
                     {.pos = {place.query}, .head = {place.head}, .key = {place.key}})});
    EXPECT_NEAR(e.weight - without, weight, 1e-6) << place.layer << "." << place.head;
    EXPECT_GT(std::abs(weight), 1e-5);
  }
}

TEST_F(EdgesInTheModel, EndsThatAreNoneAreRefused) {
  EXPECT_THROW(heads_on_edge(model, set, graph, graph.first_logit(), 3), Error);
  EXPECT_THROW(heads_on_edge(model, set, graph, 3, graph.first_token()), Error);
  EXPECT_THROW(heads_on_edge(model, set, graph, 3, graph.first_error()), Error);
  EXPECT_THROW(heads_on_edge(model, set, graph, -1, 3), Error);
}

}  // namespace
}  // namespace vitrine::sae
