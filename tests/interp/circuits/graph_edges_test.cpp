// Edges of a graph of one's own: the same as those of a model that is given as a graph, cuts against
// a sweep of edits, what edges carry, and what is refused.
#include "interp/circuits/graph_edges.h"

#include <gmock/gmock.h>

#include <cmath>

#include "autograd/ops/ops.h"
#include "interp/circuits/edge_auroc.h"
#include "nn/families/sites.h"
#include "tensor/error.h"
#include "tests/interp/circuits/pairs_graph.h"
#include "tests/support.h"

namespace vitrine::interp {
namespace {

using ::testing::HasSubstr;

const std::vector<Pair> kPairs = {{{1, 2, 3, 4, 5, 6}, {1, 2, 9, 4, 7, 6}, 7, 8},
                                  {{3, 1, 8, 8, 2, 6}, {4, 1, 8, 9, 2, 6}, 5, 2}};

using test_support::PairsGraph;

class GraphEdgesFamily : public testing::TestWithParam<const char*> {
 protected:
  static nn::Model load() {
    const std::string name = GetParam();
    const auto folder =
        name == "tiny-gpt2" ? test::data() / name : test::data() / "families" / name;
    return nn::load_model(folder.string(), {.dtype = DType::f64});
  }
};
INSTANTIATE_TEST_SUITE_P(Families, GraphEdgesFamily, testing::Values("tiny-gpt2", "llama"),
                         [](const auto& family) {
                           std::string name = family.param;
                           std::erase(name, '-');
                           return name;
                         });

TEST_P(GraphEdgesFamily, ScoreAModelAsItsPairsAreScored) {
  const nn::Model m = load();
  const PairsGraph g(m, kPairs);
  const GraphEdges runs = g.runs(m);
  const Tensor other = runs.senders(g.other_feeds);
  const Tensor start = runs.value(site::embed(), g.other_feeds);
  const auto expect = [&](const EdgeEffects& found, const EdgeSpec& spec) {
    const auto scores = edge_scores(m, kPairs, spec);
    ASSERT_EQ(found.each.dim(0), std::ssize(kPairs));
    for (std::size_t p = 0; p < scores.size(); ++p) {
      test::expect_close(found.each.select(0, static_cast<std::int64_t>(p)), scores[p].scores, 1e-9,
                         std::string(name_of(spec.method)));
    }
    test::expect_close(found.mean(), summarise(scores).mean, 1e-9, "mean");
  };
  EdgeSpec spec{.method = EdgeMethod::exact, .direction = Direction::noise};
  expect(runs.exact(other), spec);
  spec.method = EdgeMethod::eap;
  expect(runs.eap(other), spec);
  spec.method = EdgeMethod::clean_corrupted;
  expect(runs.clean_corrupted(other, g.other_feeds), spec);
  spec.method = EdgeMethod::eap_ig;
  for (const PathRule rule : {PathRule::left, PathRule::midpoint}) {
    spec.rule = rule;
    spec.steps = 3;
    expect(runs.eap_ig(other, site::embed(), start, rule, 3), spec);
  }
}

TEST_P(GraphEdgesFamily, JudgeCircuitsAsThoseOfAModel) {
  const nn::Model m = load();
  const PairsGraph g(m, kPairs);
  const GraphEdges runs = g.runs(m);
  const Tensor other = runs.senders(g.other_feeds);
  const CircuitRuns of_model(m, kPairs);
  const EdgeMask circuit = strongest_edges(runs.grid(), runs.eap(other).mean(), 30);
  const Faithfulness found = runs.judge(circuit, other), expected = of_model.judge(circuit);
  EXPECT_NEAR(found.metric, expected.metric, 1e-9);
  EXPECT_NEAR(found.complement, expected.complement, 1e-9);
  EXPECT_NEAR(found.faithfulness, expected.faithfulness, 1e-7);
  EXPECT_NEAR(found.completeness, expected.completeness, 1e-7);
}

// The sweep of all edges, and each edge cut in the split graph.
TEST_P(GraphEdgesFamily, EffectsAreThoseOfSingleCuts) {
  const nn::Model m = load();
  const PairsGraph g(m, kPairs);
  const GraphEdges runs = g.runs(m);
  const auto base = runs.output().to_vector<double>();
  for (const Tensor& other : {runs.zero_senders(), runs.mean_senders()}) {
    const Tensor exact = runs.exact(other).each;
    const auto edges = all_edges(runs.grid()).edges();
    for (std::size_t i = 0; i < edges.size(); i += 7) {
      EdgeMask one(runs.grid());
      one.set(edges[i]);
      const auto after = runs.cut(one, other).to_vector<double>();
      for (std::size_t p = 0; p < base.size(); ++p) {
        EXPECT_NEAR(exact.at<double>({static_cast<std::int64_t>(p),
                                      static_cast<std::int64_t>(edges[i].sender),
                                      static_cast<std::int64_t>(edges[i].receiver)}),
                    after[p] - base[p], 1e-9)
            << runs.grid().name(edges[i].sender, edges[i].receiver);
      }
    }
  }
}

TEST_P(GraphEdgesFamily, PruneAsAModelIsPruned) {
  const nn::Model m = load();
  const PairsGraph g(m, kPairs);
  const GraphEdges runs = g.runs(m);
  const Tensor other = runs.senders(g.other_feeds);
  const CircuitMetric mean_kept = [&](std::span<const EdgeMask> circuits) {
    std::vector<double> means;
    for (const EdgeMask& c : circuits) {
      const auto each = runs.kept(c, other).to_vector<double>();
      means.push_back((each[0] + each[1]) / 2);
    }
    return means;
  };
  const CircuitRuns of_model(m, kPairs);
  const double threshold = .02;
  const PrunedByRuns expected = acdc(of_model, threshold);
  for (const std::size_t ahead : {1, 5})
    EXPECT_EQ(acdc(runs.grid(), mean_kept, threshold, {.ahead = ahead}).circuit, expected.circuit);
}

TEST(GraphEdges, MeansAreThoseOfEachPosition) {
  const nn::Model m = nn::load_model((test::data() / "tiny-gpt2").string(), {.dtype = DType::f64});
  const PairsGraph g(m, kPairs);
  const GraphEdges runs = g.runs(m);
  const Tensor mean = runs.mean_senders();
  const std::int64_t tokens = std::ssize(kPairs[0].clean);
  for (std::int64_t pos = 0; pos < tokens; ++pos) {
    const auto first = runs.senders().select(0, pos).to_vector<double>(),
               second = runs.senders().select(0, tokens + pos).to_vector<double>(),
               found = mean.select(0, pos).to_vector<double>();
    for (std::size_t i = 0; i < found.size(); ++i)
      EXPECT_NEAR(found[i], (first[i] + second[i]) / 2, 1e-12);
    EXPECT_EQ(found, mean.select(0, tokens + pos).to_vector<double>());
  }
}

TEST(GraphEdges, ScoreAScalarAsTheSumOfItsSequences) {
  const nn::Model m = nn::load_model((test::data() / "tiny-gpt2").string(), {.dtype = DType::f64});
  const PairsGraph g(m, kPairs);
  const GraphEdges runs = g.runs(m);
  Builder b(g.graph);
  b.output("total", sum(b.output(g.output)));
  const GraphEdges total(std::move(b).finish(), g.edges, m.parameters(), g.feeds, "total");
  const Tensor other = runs.senders(g.other_feeds);
  const auto expect_sum = [](const EdgeEffects& one, const EdgeEffects& each) {
    ASSERT_EQ(one.each.dim(0), 1);
    auto sums = each.mean().to_vector<double>();
    for (double& x : sums) x *= static_cast<double>(kPairs.size());
    test::expect_close(one.mean(), Tensor::of(each.mean().shape(), sums), 1e-9, "sum");
  };
  expect_sum(total.exact(other), runs.exact(other));
  expect_sum(total.eap(other), runs.eap(other));
}

TEST(GraphEdges, RefuseWhatDoesNotFit) {
  const nn::Model m = nn::load_model((test::data() / "tiny-gpt2").string(), {.dtype = DType::f64});
  const PairsGraph g(m, kPairs);
  const GraphEdges runs = g.runs(m);
  const auto message = [](const auto& what) {
    try {
      what();
    } catch (const Error& error) {
      return std::string(error.what());
    }
    return std::string("none");
  };
  const Tensor other = runs.zero_senders(), small = other.slice(0, 0, 3).clone();
  EXPECT_THAT(message([&] { runs.eap(small); }), HasSubstr("what edges carry is [12, "));
  EXPECT_THAT(message([&] { runs.eap_ig(other, site::embed(), small); }),
              HasSubstr("cannot start at a value of"));
  EXPECT_THAT(message([&] { runs.eap_ig(other, site::embed(), other, PathRule::left, 0); }),
              HasSubstr("at least one step"));
  const GraphEdges logits(g.graph, g.edges, m.parameters(), g.feeds, "logits");
  EXPECT_THAT(message([&] { logits.eap(other); }), HasSubstr("the output 'logits' is ["));
  EXPECT_EQ(logits.cut(EdgeMask(runs.grid()), other).shape(), logits.output().shape());
}

// ---- AUROC ------------------------------------------------------------------------------------------
// input -> a, b -> logits.
const EdgeGrid kGrid = {
    {"input", "a", "b"}, {"a<q>", "a<v>", "b", "logits"}, {1, 1, 1, 3}, {{1}, {1}, {2}, {}}};

TEST(EdgeAuroc, CountsPairsInTheRightOrder) {
  EdgeMask known(kGrid);
  known.set(0, 0), known.set(1, 3);
  // Of the circuit 3 and 1; of the others 2, 1, 0, 0: 4 + 2.5 of 8 pairs.
  const Tensor scores =
      Tensor::of({3, 4}, {-3.0, 2.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0, 9.0, 9.0, 9.0, 0.0});
  const EdgeAuroc found = edge_auroc(kGrid, scores, known);
  EXPECT_DOUBLE_EQ(found.auroc, 6.5 / 8);
  EXPECT_EQ(found.edges, 2U);
  EXPECT_EQ(found.others, 4U);
  EXPECT_LT(found.low, found.auroc);
  EXPECT_GT(found.high, found.auroc);
  // What is below the floor is level.
  EXPECT_DOUBLE_EQ(edge_auroc(kGrid, scores, known, .9).auroc, (4 + 2) / 8.0);
  EXPECT_THROW(edge_auroc(kGrid, scores, EdgeMask(kGrid)), Error);
  EXPECT_THROW(edge_auroc(kGrid, scores, all_edges(kGrid)), Error);
  EXPECT_THROW(edge_auroc(kGrid, Tensor::zeros({4, 4}, DType::f64), known), ShapeError);
}

// Its ends are where the distance is 1.96 standard deviations of that end's own variance, which
// with as many edges as others is the one of Hanley and McNeil (1982).
TEST(EdgeAuroc, IntervalsAreThoseOfTheScore) {
  const EdgeGrid grid = {{"input", "a"},
                         {"a<q>", "a<v>", "a<k>", "logits"},
                         {1, 1, 1, 2},
                         {{1}, {1}, {1}, {}}};  // five edges
  EdgeMask known(grid);
  known.set(0, 0), known.set(0, 1);
  const Tensor scores = Tensor::of({2, 4}, {3.0, 1.0, 2.0, 0.0, 0.0, 0.0, 0.0, 0.5});
  const EdgeAuroc found = edge_auroc(grid, scores, known);
  EXPECT_DOUBLE_EQ(found.auroc, 5 / 6.0);
  const auto distance = [&](double theta) {  // with n - 1 = 1.5 for both numbers
    const double q1 = theta / (2 - theta), q2 = 2 * theta * theta / (1 + theta);
    const double variance =
        (theta * (1 - theta) + 1.5 * (q1 - theta * theta) + 1.5 * (q2 - theta * theta)) / 6;
    return std::abs(found.auroc - theta) / std::sqrt(variance);
  };
  EXPECT_NEAR(distance(found.low), 1.96, 1e-3);
  EXPECT_NEAR(distance(found.high), 1.96, 1e-3);
  // Of a perfect order the interval has a width.
  const EdgeAuroc perfect =
      edge_auroc(grid, Tensor::of({2, 4}, {3.0, 4.0, 2.0, 0.0, 0.0, 0.0, 0.0, 0.5}), known);
  EXPECT_EQ(perfect.auroc, 1);
  EXPECT_EQ(perfect.high, 1);
  EXPECT_LT(perfect.low, .7);
  EXPECT_GT(perfect.low, .2);
}

}  // namespace
}  // namespace vitrine::interp
