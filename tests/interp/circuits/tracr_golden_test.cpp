// A graph of one's own whose circuit is known: outputs, the effect of every edge by each way of
// ablation, and circuits, against values computed in float64 from their definitions.
#include <cmath>

#include "interp/circuits/graph_edges.h"
#include "tests/interp/circuits/tracr.h"

namespace vitrine::interp {
namespace {

constexpr std::int64_t kPartners[] = {1, 5, 17, 31};

struct Effects {
  Tensor largest;          // [senders, receivers]
  Tensor flips, and_ties;  // shares of answers, without and with those that are level
};

class TracrGolden : public testing::TestWithParam<std::string> {
 protected:
  TracrGolden() : tracr(GetParam()), tokens(tracr.golden.at("tokens")) {}

  Tensor golden(const std::string& name) const { return tracr.golden.at(name).to(DType::f64); }
  EdgeMask mask(const EdgeGrid& grid, const std::string& name) const {
    return mask_of(grid, golden(name));
  }
  Feeds feeds(std::int64_t by = 0) const {
    return tracr.feeds(by == 0 ? tokens : test::rolled(tokens, by),
                       tracr.weights(tracr.golden.at("output")));
  }
  GraphEdges edges() const {
    return GraphEdges(tracr.graph(tokens.dim(0), tokens.dim(1)), tracr.edges(), tracr.parameters,
                      feeds(), "answers", {.pool = &pool});
  }
  std::vector<Tensor> carried(const GraphEdges& runs, const std::string& way) const {
    if (way == "mean") return {runs.mean_senders()};
    if (way == "zero") return {runs.zero_senders()};
    std::vector<Tensor> all;
    for (const std::int64_t by : kPartners) all.push_back(runs.senders(feeds(by)));
    return all;
  }

  // The share of answers that a change makes others. An answer that is level with another one to
  // rounding may be either: they are counted only where `ties` are.
  double changed_answers(const std::vector<double>& before, const double* change,
                         std::size_t stride, bool ties) const {
    const auto n = static_cast<std::size_t>(tracr.outputs);
    double changed = 0;
    for (std::size_t at = 0; at < before.size(); at += n) {
      const auto was = before.begin() + static_cast<std::ptrdiff_t>(at);
      if (!tracr.categorical) {
        changed += std::abs(change[at * stride]) > .01;
        continue;
      }
      const auto answer =
          static_cast<std::size_t>(std::max_element(was, was + tracr.outputs) - was);
      double best = -1e30;  // of the others
      for (std::size_t i = 0; i < n; ++i)
        if (i != answer) best = std::max(best, before[at + i] + change[(at + i) * stride]);
      const double lead = before[at + answer] + change[(at + answer) * stride] - best;
      changed += lead < (ties ? 1e-5 : -1e-5);
    }
    return changed / static_cast<double>(before.size() / n);
  }

  Effects effects(const GraphEdges& runs, const std::string& way) const {
    const EdgeGrid& grid = runs.grid();
    const Shape shape{std::ssize(grid.senders), std::ssize(grid.receivers)};
    Effects found{Tensor::zeros(shape, DType::f64), Tensor::zeros(shape, DType::f64),
                  Tensor::zeros(shape, DType::f64)};
    const auto before = runs.output().to_vector<double>();
    for (const Tensor& other : carried(runs, way)) {
      const EdgeEffects effects = runs.exact(other);
      const auto largest = effects.largest().to_vector<double>();
      for (std::size_t e = 0; e < largest.size(); ++e) {
        const auto take = [e](const Tensor& to, double x) {
          to.data<double>()[e] = std::max(to.data<double>()[e], x);
        };
        const double* change = effects.each.data<double>() + e;
        take(found.largest, largest[e]);
        take(found.flips, changed_answers(before, change, largest.size(), false));
        take(found.and_ties, changed_answers(before, change, largest.size(), true));
      }
    }
    return found;
  }

  mutable ThreadPool pool{2};
  test::TracrModel tracr;
  Tensor tokens;
};
INSTANTIATE_TEST_SUITE_P(Programs, TracrGolden, testing::ValuesIn(test::kTracrPrograms),
                         [](const auto& program) { return program.param; });

TEST_P(TracrGolden, OutputsAndAnswers) {
  const GraphEdges runs = edges();
  const Tensor golden_output = golden("output").slice(1, 1, tokens.dim(1));
  test::expect_close(runs.output(), golden_output, 2e-5, "output");
  // Every example is answered as the program itself does.
  const auto expected = golden("expected").to_vector<double>();
  const auto out = runs.output().to_vector<double>();
  const auto n = static_cast<std::size_t>(tracr.outputs);
  for (std::size_t i = 0; i < expected.size(); ++i) {
    const auto from = out.begin() + static_cast<std::ptrdiff_t>(i * n);
    if (tracr.categorical)
      EXPECT_EQ(std::max_element(from, from + tracr.outputs) - from, expected[i]) << i;
    else EXPECT_NEAR(*from, expected[i], .01) << i;
  }
}

TEST_P(TracrGolden, EffectOfEveryEdge) {
  const GraphEdges runs = edges();
  EXPECT_EQ(mask(runs.grid(), "valid"), all_edges(runs.grid()));
  for (const std::string way : {"resample", "mean", "zero"}) {
    SCOPED_TRACE(way);
    const Effects found = effects(runs, way);
    test::expect_relative(found.largest, golden("effect/" + way), 1e-4, "effect");
    const auto flips = golden("flips/" + way).to_vector<double>();
    for (std::size_t e = 0; e < flips.size(); ++e) {
      EXPECT_GE(flips[e], found.flips.data<double>()[e] - 1e-6) << e;
      EXPECT_LE(flips[e], found.and_ties.data<double>()[e] + 1e-6) << e;
    }
    if (way == "resample" && GetParam() != "sort")
      test::expect_close(found.flips, found.and_ties, 1e-9, "no ties");
    EdgeMask real(runs.grid());
    for (const StreamEdge& e : all_edges(runs.grid()).edges()) {
      const Dims at{static_cast<std::int64_t>(e.sender), static_cast<std::int64_t>(e.receiver)};
      real.set(e, found.largest.at<double>(at) > .01);
    }
    EXPECT_EQ(real, mask(runs.grid(), "edges/" + way));
    EXPECT_EQ(pruned(runs.grid(), real), mask(runs.grid(), "circuit/" + way));
    const std::vector<bool> nodes = kept_senders(runs.grid(), real);
    const auto kept = golden("circuit_nodes/" + way).to_vector<int>();
    EXPECT_EQ(std::vector<int>(nodes.begin(), nodes.end()), kept);
  }
}

TEST_P(TracrGolden, TheCircuitAloneDoesTheSame) {
  const GraphEdges runs = edges();
  for (const Tensor& other : carried(runs, "resample")) {
    for (const char* circuit : {"circuit/resample", "program/edges"}) {
      const Tensor kept = runs.kept(mask(runs.grid(), circuit), other);
      test::expect_close(kept, runs.output(), 2e-5, circuit);
    }
    // And without it nothing is left of what differs: the outputs are the other run's.
    const Tensor none = runs.kept(EdgeMask(runs.grid()), other);
    EXPECT_GT(max_abs_difference(none, runs.output()), .1);
  }
}

}  // namespace
}  // namespace vitrine::interp
