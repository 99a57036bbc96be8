// Edges and circuits on every family: cuts against a naive loop of edited runs, sweeps against cuts,
// estimates against finite differences; sets of edges.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>

#include "autograd/edges/split_edges.h"
#include "interp/circuits/circuit_file.h"
#include "interp/circuits/circuit_runs.h"
#include "interp/circuits/edge_attribution.h"
#include "nn/model/batch.h"
#include "tensor/error.h"
#include "tests/support.h"

namespace vitrine::interp {
namespace {

using ::testing::HasSubstr;

const Pair kPair = {{1, 2, 3, 4, 5, 6}, {1, 2, 9, 4, 7, 6}, 7, 8};

class CircuitFamily : public testing::TestWithParam<const char*> {
 protected:
  static nn::Model load(DType dtype = DType::f64) {
    const std::string name = GetParam();
    const auto folder =
        name == "tiny-gpt2" ? test::data() / name : test::data() / "families" / name;
    return nn::load_model(folder.string(), {.dtype = dtype});
  }
};
INSTANTIATE_TEST_SUITE_P(Families, CircuitFamily,
                         testing::Values("tiny-gpt2", "llama", "neox", "gemma2"),
                         [](const auto& family) {
                           std::string name = family.param;
                           std::erase(name, '-');
                           return name;
                         });

Metric metric_for(const nn::Model& m) {
  return metric_of(m, {{example_of(kPair)}}, parse_metric("logit_diff"));
}

// The edge-cut run by its definition: receivers in order, each given the stream of a run so far and
// the differences of the senders that are cut, until the last one has been.
double naive_cut(const nn::Model& m, const EdgeMask& cut, Direction direction) {
  const EdgeSet edges = nn::stream_edges(m.config());
  const EdgeGrid grid = edge_grid(edges);
  const PairRuns runs = pair_runs(m, kPair, edges, parse_metric("logit_diff"), direction);
  const nn::Tokens prompt = base_prompt(kPair, direction);
  const auto other = runs.senders.other.to_vector<double>();
  const std::int64_t tokens = std::ssize(prompt), s = std::ssize(grid.senders),
                     d = m.config().d_model;
  std::vector<Edit> edits;
  std::size_t first = 0;
  for (const EdgeReceivers& group : edges.receivers) {
    // What senders give in the run with all edits made so far.
    Graph graph = with_senders(m.build(nn::batch_size({prompt})), edges);
    const Interventions so_far(edits);
    if (!edits.empty()) graph = intervene(graph, so_far);
    Feeds feeds = m.feeds(graph, {prompt});
    if (!edits.empty()) feeds = with_interventions(graph, so_far, feeds);
    const auto now = m.run_graph(graph, {prompt}, fetch(value("edges.senders")), feeds)
                         .results.raw("edges.senders")
                         .to_vector<double>();
    const std::int64_t names = std::ssize(group.names);
    std::vector<double> change(static_cast<std::size_t>(tokens * names * d), 0);
    for (std::int64_t r = 0; r < tokens; ++r) {
      for (std::int64_t n = 0; n < names; ++n) {
        for (std::int64_t u = 0; u < s; ++u) {
          if (!cut.has(static_cast<std::size_t>(u), first + static_cast<std::size_t>(n))) continue;
          for (std::int64_t i = 0; i < d; ++i) {
            const auto from = static_cast<std::size_t>((r * s + u) * d + i);
            change[static_cast<std::size_t>((r * names + n) * d + i)] += other[from] - now[from];
          }
        }
      }
    }
    const Shape shape = graph.site(group.site.name).type.shape;
    edits.push_back(add(group.site, Tensor::of(shape, change)));
    first += static_cast<std::size_t>(names);
  }
  const Metric metric = metric_for(m);
  return m
      .run_edited({prompt}, Interventions(edits), fetch(value(nn::per_prompt_name(metric))),
                  &metric)
      .results.raw(nn::per_prompt_name(metric))
      .to_vector<double>()[0];
}

TEST_P(CircuitFamily, CutsAreThoseOfANaiveLoop) {
  const nn::Model m = load();
  std::mt19937_64 random(7);
  for (const Direction direction : {Direction::noise, Direction::denoise}) {
    const CircuitRuns runs(m, {{kPair}}, {.direction = direction});
    std::vector<EdgeMask> cuts;
    for (const int one_in : {2, 4, 20}) {
      EdgeMask mask(runs.grid());
      for (const StreamEdge& e : all_edges(runs.grid()).edges())
        mask.set(e, random() % static_cast<unsigned>(one_in) == 0);
      cuts.push_back(mask);
    }
    const std::vector<double> found = runs.mean_cut(cuts);
    for (std::size_t i = 0; i < cuts.size(); ++i)
      EXPECT_NEAR(found[i], naive_cut(m, cuts[i], direction), 1e-9) << i;
  }
}

TEST_P(CircuitFamily, EverythingIsTheModelAndNothingTheCorruptRun) {
  const nn::Model m = load(DType::f32);
  const CircuitRuns runs(m, {{kPair}});
  const Faithfulness all = runs.judge(all_edges(runs.grid())),
                     none = runs.judge(EdgeMask(runs.grid()));
  EXPECT_NEAR(all.metric, runs.clean(), 1e-5);
  EXPECT_NEAR(all.complement, runs.corrupt(), 1e-5);
  EXPECT_NEAR(none.metric, runs.corrupt(), 1e-5);
  EXPECT_NEAR(none.complement, runs.clean(), 1e-5);
}

TEST_P(CircuitFamily, ASweepOfEdgesIsALoopOfCuts) {
  const nn::Model m = load();
  EdgeSpec spec;
  spec.method = EdgeMethod::exact;
  for (const Direction direction : {Direction::noise, Direction::denoise}) {
    spec.direction = direction;
    const EdgeScores scores = edge_scores(m, kPair, spec);
    const CircuitRuns runs(m, {{kPair}}, {.direction = direction});
    std::vector<EdgeMask> cuts;
    const auto edges = all_edges(runs.grid()).edges();
    for (const StreamEdge& e : edges) cuts.emplace_back(runs.grid()).set(e);
    const auto metrics = runs.mean_cut(cuts);
    for (std::size_t i = 0; i < edges.size(); ++i) {
      const auto [u, v] = edges[i];
      EXPECT_NEAR(scores.at(scores.grid.senders[u], scores.grid.receivers[v]),
                  metrics[i] - scores.base(), 1e-9)
          << scores.grid.name(u, v);
    }
  }
}

// A small part of an edge's cut changes the metric by that part of its score.
TEST_P(CircuitFamily, EapIsTheDerivativeOfTheCut) {
  const nn::Model m = load();
  EdgeSpec spec;
  spec.method = EdgeMethod::eap;
  spec.direction = Direction::noise;
  const EdgeScores scores = edge_scores(m, kPair, spec);
  const EdgeSet edges = nn::stream_edges(m.config());
  const EdgeGrid& grid = scores.grid;
  const PairRuns runs = pair_runs(m, kPair, edges, spec.metric, spec.direction);
  const Metric metric = metric_for(m);
  const std::vector<nn::Tokens> prompts(2, kPair.clean);
  const std::int64_t tokens = std::ssize(kPair.clean), s = std::ssize(grid.senders),
                     r = std::ssize(grid.receivers);
  Graph graph = split_edges(m.build(nn::batch_size(prompts)), edges, {.other_rows = tokens});
  const Metric both = metric_of(m, std::vector<Example>(2, example_of(kPair)), spec.metric);
  graph = with_metric(graph, both);
  std::mt19937_64 random(3);
  const auto all = all_edges(grid).edges();
  for (int n = 0; n < 40; ++n) {
    const StreamEdge e = all[random() % all.size()];
    constexpr double kPart = 1e-4;
    Tensor cut = Tensor::zeros({2, r, s}, DType::f64);
    const auto at = static_cast<std::int64_t>(e.receiver) * s + static_cast<std::int64_t>(e.sender);
    cut.data<double>()[at] = kPart;
    cut.data<double>()[r * s + at] = -kPart;
    Feeds feeds = both.feeds;
    feeds["edges.cut"] = cut;
    feeds["edges.other"] = runs.senders.other;
    std::vector<int> rows;
    for (int i = 0; i < 2 * tokens; ++i) rows.push_back(i % static_cast<int>(tokens));
    feeds["edges.row"] = Tensor::of({2 * tokens}, rows).to(DType::i32);
    const auto found = m.run_graph(graph, prompts, fetch(value(nn::per_prompt_name(both))), feeds)
                           .results.raw(nn::per_prompt_name(both))
                           .to_vector<double>();
    EXPECT_NEAR((found[0] - found[1]) / (2 * kPart),
                scores.at(grid.senders[e.sender], grid.receivers[e.receiver]), 1e-5)
        << grid.name(e.sender, e.receiver);
  }
}

// With the norms' scales held the logits are linear in what is added to the stream's end, unless a
// soft cap bends them: there the estimate is the truth.
TEST_P(CircuitFamily, WithNormsHeldEdgesToTheLogitsAreLinear) {
  const nn::Model m = load();
  EdgeSpec spec;
  spec.norms_held = true;
  spec.method = EdgeMethod::eap;
  const EdgeScores estimate = edge_scores(m, kPair, spec);
  spec.method = EdgeMethod::exact;
  const EdgeScores exact = edge_scores(m, kPair, spec);
  const CircuitRuns runs(m, {{kPair}}, {.direction = spec.direction, .norms_held = true});
  spec.norms_held = false;
  const EdgeScores whole = edge_scores(m, kPair, spec);
  double size = 0, moved = 0;
  for (const std::string& u : exact.grid.senders) {
    const double x = exact.at(u, "logits");
    size = std::max(size, std::abs(x));
    moved = std::max(moved, std::abs(x - whole.at(u, "logits")));
    if (m.config().logit_cap == 0) {
      EXPECT_NEAR(estimate.at(u, "logits"), x, 1e-9) << u;
    }
    EdgeMask cut(exact.grid);
    cut.set(exact.grid.sender(u), exact.grid.receiver("logits"));
    EXPECT_NEAR(runs.mean_cut({{cut}})[0] - exact.corrupt, x, 1e-9) << u;
    const std::vector<EdgeMask> everywhere(kPair.clean.size(), cut);
    EXPECT_NEAR(runs.cut_at(everywhere) - exact.corrupt, x, 1e-9) << u;
  }
  EXPECT_GT(size, 1e-3);
  EXPECT_GT(moved, 1e-6);  // the norm does matter
}

TEST_P(CircuitFamily, AFileKeepsACircuit) {
  const nn::Model m = load();
  EdgeSpec spec;
  spec.method = EdgeMethod::eap;
  const EdgeScores scores = edge_scores(m, kPair, spec);
  const EdgeMask circuit = pruned(scores.grid, strongest_edges(scores.grid, scores.scores, 30));
  const CircuitFile read = read_circuit(
      circuit_json(m.config(), scores.grid, circuit, scores.scores), "c.json", scores.grid);
  EXPECT_EQ(read.circuit, circuit);
  for (const StreamEdge& e : circuit.edges()) {
    const auto at = static_cast<std::int64_t>(e.sender * scores.grid.receivers.size() + e.receiver);
    EXPECT_EQ(read.scores.data<double>()[at], scores.scores.data<double>()[at]);
  }
  EXPECT_THAT(circuit_dot(scores.grid, circuit, scores.scores), HasSubstr("\"input\" -> "));
}

// ---- sets of edges --------------------------------------------------------------------------------
// input -> a, b -> logits; a and b do not read each other.
EdgeGrid small_grid() {
  return {{"input", "a", "b"}, {"a<q>", "a<v>", "b", "logits"}, {1, 1, 1, 3}, {{1}, {1}, {2}, {}}};
}

TEST(EdgeSets, PruningDropsWhatLeadsNowhereAndWhatComesFromNowhere) {
  const EdgeGrid grid = small_grid();
  EXPECT_EQ(grid.count(), 6U);
  EdgeMask mask(grid);
  mask.set(0, 0);  // input->a<q>: a writes to nobody
  mask.set(2, 3);  // b->logits: b hears nothing
  EXPECT_EQ(pruned(grid, mask).count(), 0U);
  mask.set(1, 3);  // a->logits: now a is whole
  EXPECT_EQ(pruned(grid, mask).edges(), (std::vector<StreamEdge>{{0, 0}, {1, 3}}));
  mask.set(0, 2);  // input->b
  EXPECT_EQ(pruned(grid, mask), mask);
  EXPECT_EQ(kept_senders(grid, mask), (std::vector<bool>{true, true, true}));
}

// What each size keeps, found at once, is what pruning every size by itself keeps.
TEST(EdgeSets, EverySizeKeepsWhatItsPrunedCircuitHas) {
  nn::Config config;
  config.layers = 3;
  config.heads = 4;
  config.kv_heads = 2;
  const EdgeGrid grid = edge_grid(nn::stream_edges(config));
  std::mt19937_64 random(7);
  std::vector<StreamEdge> edges = all_edges(grid).edges();
  std::shuffle(edges.begin(), edges.end(), random);
  // What leads into the last MLP leads nowhere.
  std::erase_if(edges, [&](const StreamEdge& e) { return e.sender == grid.sender("m2"); });
  edges.resize(80);
  const std::vector<std::size_t> from = kept_from(grid, edges);
  EXPECT_GT(std::count(from.begin(), from.end(), 0), 0);
  EdgeMask taken(grid);
  for (std::size_t n = 1; n <= edges.size(); ++n) {
    taken.set(edges[n - 1]);
    const EdgeMask kept = pruned(grid, taken);
    for (std::size_t i = 0; i < edges.size(); ++i)
      EXPECT_EQ(kept.has(edges[i]), from[i] != 0 && from[i] <= n) << n << " " << i;
  }
}

TEST(EdgeSets, GrowingKeepsTheWayToTheEnd) {
  const EdgeGrid grid = small_grid();
  // The strongest edge leads to a, which leads to the logits by a weak one.
  const Tensor scores =
      Tensor::of({3, 4}, {9.0, 1.0, 2.0, 0.5, 0.0, 0.0, 0.0, 0.7, 0.0, 0.0, 0.0, -0.6});
  EXPECT_EQ(strongest_edges(grid, scores, 1).edges(), (std::vector<StreamEdge>{{0, 0}}));
  EXPECT_EQ(grown_edges(grid, scores, 1).edges(), (std::vector<StreamEdge>{{1, 3}}));
  EXPECT_EQ(grown_edges(grid, scores, 2).edges(), (std::vector<StreamEdge>{{0, 0}, {1, 3}}));
  EXPECT_EQ(ranked_edges(grid, scores, EdgeRank::raising).back(), (StreamEdge{2, 3}));
  EXPECT_EQ(grown_edges(grid, scores, 100).count(), grid.count());
}

TEST(EdgeSets, RandomCircuitsLieOnPaths) {
  const EdgeGrid grid = small_grid();
  std::mt19937_64 random(1);
  for (std::size_t n = 0; n <= 6; ++n) {
    for (int i = 0; i < 20; ++i) {
      const EdgeMask mask = random_edges(grid, n, random);
      EXPECT_LE(mask.count(), n);
      EXPECT_EQ(pruned(grid, mask), mask);
    }
  }
}

TEST(EdgeSets, OverlapsAreCounted) {
  const EdgeGrid grid = small_grid();
  EdgeMask a(grid), b(grid);
  a.set(0, 0), a.set(1, 3), b.set(0, 0), b.set(1, 3), b.set(0, 2), b.set(2, 3);
  const EdgeOverlap o = overlap(grid, a, b);
  EXPECT_EQ(o.both, 2U);
  EXPECT_DOUBLE_EQ(o.jaccard(), 0.5);
  EXPECT_EQ(o.nodes_both, 2U);
  EXPECT_EQ(o.nodes_second, 3U);
}

TEST(EdgeSets, GroupsOfSendersAreReadWhole) {
  const nn::Model m = nn::load_model((test::data() / "tiny-gpt2").string());
  EdgeSet edges = nn::stream_edges(m.config());
  edges.receivers.back().reads = 2;  // the input, and one of the heads of layer 0
  try {
    split_edges(m.build(nn::batch_size({kPair.clean})), edges);
    FAIL() << "a part of a group was read";
  } catch (const GraphError& error) {
    EXPECT_THAT(error.what(), HasSubstr("'logits' reads 'a0.h0' but not 'a0.h1'"));
  }
}

TEST(EdgeSets, WhatIsNoEdgeIsRefused) {
  const EdgeGrid grid = small_grid();
  EXPECT_THROW(mask_of(grid, Tensor::full({3, 4}, DType::f64, 1)), ShapeError);
  EXPECT_THROW(mask_of(grid, Tensor::zeros({3, 3}, DType::f64)), ShapeError);
  const auto message = [&](const std::string& text) {
    try {
      read_circuit(text, "c.json", grid);
    } catch (const FileError& error) {
      return std::string(error.what());
    }
    return std::string("none");
  };
  EXPECT_THAT(message("{}"), HasSubstr("c.json: edges: expected an object"));
  EXPECT_THAT(message(R"({"edges": {"input->m0": {"in_graph": true}}})"),
              HasSubstr("no receiver 'm0'"));
  EXPECT_THAT(message(R"({"edges": {"a->b": {"in_graph": true}}})"),
              HasSubstr("does not come before"));
  EXPECT_THAT(message(R"({"edges": {"input->b": {"in_graph": 1}}})"),
              HasSubstr("expected true or false"));
  EXPECT_THAT(message(R"({"edges": [{"from": "input"}]})"),
              HasSubstr("edges[0].to: expected the name"));
  EXPECT_THAT(message(R"({"edges": [{"from": "input", "to": "b"}, {"from": "input", "to": "b"}]})"),
              HasSubstr("there twice"));
}

}  // namespace
}  // namespace vitrine::interp
