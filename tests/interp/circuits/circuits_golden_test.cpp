// Edge scores, circuits, curves, ACDC and path patching against values computed in float64 from
// their definitions.
#include <cmath>
#include <set>

#include "interp/circuits/circuit_runs.h"
#include "interp/circuits/edge_attribution.h"
#include "tensor/files/file.h"
#include "tensor/files/json_value.h"
#include "tests/interp/golden_case.h"

namespace vitrine::interp {
namespace {

constexpr Direction kDirections[] = {Direction::denoise, Direction::noise};

class CircuitsGolden : public test::GoldenTest {
 protected:
  void SetUp() override {
    GoldenTest::SetUp();
    if (testing::Test::IsSkipped()) return;
    golden.emplace(open("circuits"));
    grid = edge_grid(nn::stream_edges(model().config()));
  }
  Tensor at(const std::string& name) const { return golden->at(name).to(DType::f64); }
  Tensor at(const std::string& name, std::int64_t row) const { return at(name).select(0, row); }
  std::string way(const std::string& name, Direction d) const {
    return fmt::format("{}/{}", name, name_of(d));
  }
  EdgeScores scores(EdgeMethod method, Direction direction, PathRule rule = PathRule::left,
                    int steps = 5) {
    EdgeSpec spec;
    spec.method = method;
    spec.rule = rule;
    spec.steps = steps;
    spec.direction = direction;
    return edge_scores(model(), pair, spec);
  }
  EdgeMask mask(const std::string& name, std::int64_t row) const {
    return mask_of(grid, at(name, row));
  }

  std::optional<SafeTensors> golden;
  EdgeGrid grid;
};

TEST_P(CircuitsGolden, TheEdgesAreThose) {
  const JsonValue json =
      JsonValue::parse(read_text(GetParam().golden / "edges.json"), "edges.json");
  const auto names = [&](const char* what) {
    std::vector<std::string> all;
    for (const JsonValue& name : *json.find(what)->list_items()) all.push_back(*name.text());
    return all;
  };
  EXPECT_EQ(grid.senders, names("senders"));
  EXPECT_EQ(grid.receivers, names("receivers"));
  EXPECT_EQ(mask_of(grid, at("valid")), all_edges(grid));
}

TEST_P(CircuitsGolden, EstimatesOfEveryEdge) {
  for (const Direction d : kDirections) {
    SCOPED_TRACE(name_of(d));
    test::expect_close(scores(EdgeMethod::eap, d).scores, at(way("eap", d)), 1e-4, "eap");
    test::expect_close(scores(EdgeMethod::eap_ig, d).scores, at(way("eap_ig", d)), 1e-4, "eap_ig");
    test::expect_close(scores(EdgeMethod::eap_ig, d, PathRule::midpoint, 16).scores,
                       at(way("eap_ig_midpoint", d)), 1e-4, "midpoint");
    test::expect_close(scores(EdgeMethod::clean_corrupted, d).scores, at(way("clean_corrupted", d)),
                       1e-4, "clean_corrupted");
    test::expect_close(scores(EdgeMethod::eap_ig_activations, d).scores,
                       at(way("eap_ig_activations", d)), 1e-4, "activations");
  }
}

TEST_P(CircuitsGolden, EveryEdgeExactly) {
  for (const Direction d : kDirections) {
    SCOPED_TRACE(name_of(d));
    const EdgeScores s = scores(EdgeMethod::exact, d);
    test::expect_close(s.scores, at(way("exact", d)), 1e-4, "exact");
    EXPECT_NEAR(s.clean, at("metric/clean").item<double>(), 1e-4);
    EXPECT_NEAR(s.corrupt, at("metric/corrupt").item<double>(), 1e-4);
    EXPECT_EQ(s.runs, static_cast<int>(grid.count()));
  }
}

TEST_P(CircuitsGolden, ByPositionAddsUpAndCutsAgree) {
  EdgeSpec spec;
  spec.method = EdgeMethod::eap;
  spec.by_position = true;
  const EdgeScores s = edge_scores(model(), pair, spec);
  const auto sums = s.scores.to_vector<double>(), each = s.by_position.to_vector<double>();
  for (std::size_t i = 0; i < sums.size(); ++i) {
    double sum = 0;
    for (std::size_t j = i; j < each.size(); j += sums.size()) sum += each[j];
    EXPECT_NEAR(sum, sums[i], 1e-9);
  }
  // One edge at one position: as a sweep does it, and as a cut.
  const CircuitRuns runs(model(), {{pair}}, {.direction = Direction::denoise});
  const StreamEdge edge{0, grid.receiver("a1.h0<v>")};
  for (const std::int64_t pos : {std::int64_t{1}, std::ssize(pair.clean) - 2}) {
    spec.method = EdgeMethod::exact;
    const EdgePlace place{edge, pos};
    const ExactEdges exact = exact_edges(model(), pair, {&place, 1}, spec);
    std::vector<EdgeMask> cuts(pair.clean.size(), EdgeMask(grid));
    cuts[static_cast<std::size_t>(pos)].set(edge);
    EXPECT_NEAR(exact.change[0], runs.cut_at(cuts) - runs.corrupt(), 1e-5);
  }
}

TEST_P(CircuitsGolden, CircuitsOfTheStrongestEdges) {
  const CircuitRuns runs(model(), {{pair}});
  const auto sizes = golden->at("circuits/sizes").to_vector<int>();
  for (const Direction d : kDirections) {
    SCOPED_TRACE(name_of(d));
    const std::string of = way("circuits", d) + "/";
    const Tensor eap = scores(EdgeMethod::eap, d).scores;
    std::vector<EdgeMask> circuits;
    for (std::size_t i = 0; i < sizes.size(); ++i) {
      const auto row = static_cast<std::int64_t>(i);
      const EdgeMask top = strongest_edges(grid, eap, static_cast<std::size_t>(sizes[i]));
      EXPECT_EQ(top, mask(of + "top", row)) << sizes[i];
      circuits.push_back(pruned(grid, top));
      EXPECT_EQ(circuits.back(), mask(of + "mask", row)) << sizes[i];
      const auto kept = kept_senders(grid, top);
      const auto nodes = at(of + "nodes", row).to_vector<double>();
      for (std::size_t u = 0; u < kept.size(); ++u)
        EXPECT_EQ(kept[u], nodes[u] != 0) << sizes[i] << " " << u;
    }
    const std::vector<Faithfulness> judged = runs.judge(circuits);
    for (std::size_t i = 0; i < sizes.size(); ++i) {
      const auto value = [&](const char* name) { return at(of + name).to_vector<double>()[i]; };
      EXPECT_NEAR(judged[i].metric, value("metric"), 1e-4) << sizes[i];
      EXPECT_NEAR(judged[i].complement, value("complement_metric"), 1e-4) << sizes[i];
      const double way = std::abs(runs.clean() - runs.corrupt());
      EXPECT_NEAR(judged[i].faithfulness, value("faithfulness"), 1e-4 / std::min(1.0, way))
          << sizes[i];
      EXPECT_NEAR(judged[i].completeness, value("complement_faithfulness"),
                  1e-4 / std::min(1.0, way));
    }
  }
}

TEST_P(CircuitsGolden, AllEdgesAreTheModelAndNoneTheCorruptRun) {
  const CircuitRuns runs(model(), {{pair}});
  const std::vector<EdgeMask> ends = {all_edges(grid), EdgeMask(grid)};
  const auto judged = runs.judge(ends);
  EXPECT_NEAR(judged[0].metric, runs.clean(), 1e-5 * std::max(1.0, std::abs(runs.clean())));
  EXPECT_NEAR(judged[1].metric, runs.corrupt(), 1e-5 * std::max(1.0, std::abs(runs.corrupt())));
  EXPECT_NEAR(judged[0].complement, runs.corrupt(), 1e-5 * std::max(1.0, std::abs(runs.corrupt())));
}

TEST_P(CircuitsGolden, AreasUnderAndOverTheCurve) {
  const CircuitRuns runs(model(), {{pair}});
  const double unit = std::min(1.0, std::abs(runs.clean() - runs.corrupt()));
  for (const Direction d : kDirections) {
    for (const char* rank : {"eap", "eap_ig", "exact"}) {
      for (const EdgeRank by : {EdgeRank::absolute, EdgeRank::raising}) {
        const std::string of = fmt::format("cpr/{}/{}/{}/", name_of(d), rank,
                                           by == EdgeRank::absolute ? "abs" : "signed");
        SCOPED_TRACE(of);
        const CircuitCurve curve = circuit_curve(runs, at(way(rank, d)), d, by);
        const auto faithful = at(of + "faithfulness").to_vector<double>();
        for (std::size_t i = 0; i < faithful.size(); ++i)
          EXPECT_NEAR(curve.faithfulness[i], faithful[i], 1e-4 / unit) << i;
        EXPECT_NEAR(curve.cpr, at(of + "cpr").item<double>(), 1e-4 / unit);
        EXPECT_NEAR(curve.cmd, at(of + "cmd").item<double>(), 1e-4 / unit);
        const auto edges = at(of + "edges").to_vector<double>();
        for (std::size_t i = 0; i < edges.size(); ++i) {
          // A signed ranking meets many edges whose score is 0 but for rounding.
          EXPECT_NEAR(static_cast<double>(curve.edges[i]), edges[i],
                      by == EdgeRank::absolute ? 0 : 6);
        }
      }
    }
  }
}

TEST_P(CircuitsGolden, AcdcKeepsTheSameEdges) {
  const CircuitRuns runs(model(), {{pair}});
  const auto tau = at("acdc/tau").to_vector<double>();
  for (std::size_t i = 0; i < tau.size(); ++i) {
    const auto row = static_cast<std::int64_t>(i);
    const PrunedByRuns found = acdc(runs, tau[i]);
    EXPECT_EQ(found.circuit, mask("acdc/mask", row)) << tau[i];
    const EdgeMask rest = pruned(grid, found.circuit);
    EXPECT_EQ(rest, mask("acdc/mask_pruned", row)) << tau[i];
    EXPECT_NEAR(runs.judge(rest).metric, at("acdc/metric").to_vector<double>()[i], 1e-4);
    EXPECT_LT(found.runs, 2 * static_cast<int>(grid.count()));
  }
}

TEST_P(CircuitsGolden, PathPatchingInBothForms) {
  const JsonValue json =
      JsonValue::parse(read_text(GetParam().golden / "circuits_paths.json"), "circuits_paths.json");
  for (const Direction d : kDirections) {
    for (const JsonField& set : *json.find("receivers")->fields()) {
      std::vector<std::size_t> receivers;
      for (const JsonValue& name : *set.value.list_items())
        receivers.push_back(grid.receiver(*name.text()));
      for (const PathForm form : {PathForm::edges, PathForm::overwrite}) {
        const auto wanted = at(fmt::format("path/{}/{}/{}", name_of(d), set.name,
                                           form == PathForm::edges ? "edges" : "overwrite"))
                                .to_vector<double>();
        std::size_t i = 0;
        for (const JsonValue& sender : *json.find("senders")->list_items()) {
          EXPECT_NEAR(path_patch(model(), pair, grid.sender(*sender.text()), receivers, form,
                                 {.direction = d}),
                      wanted[i], 1e-4)
              << set.name << " " << i;
          ++i;
        }
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Models, CircuitsGolden, testing::ValuesIn(test::circuit_cases()),
                         [](const auto& tested) { return tested.param.name; });

}  // namespace
}  // namespace vitrine::interp
