#include "interp/circuits/circuit_runs.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "autograd/edges/split_edges.h"
#include "autograd/transform/linearise.h"
#include "interp/circuits/run_values.h"
#include "nn/model/batch.h"
#include "tensor/error.h"

namespace vitrine::interp {
struct CircuitRuns::OfPair {
  Pair pair;
  Tensor other;  // [rows, senders, d]: what senders give in the other run
};

CircuitRuns::CircuitRuns(const nn::Model& model, std::span<const Pair> pairs,
                         const CircuitSpec& spec)
    : model_(model), spec_(spec), edges_(edges_of(model, spec.edges)), grid_(edge_grid(edges_)) {
  check_pairs(model, pairs);
  for (const Pair& pair : pairs) {
    PairRuns runs = pair_runs(model, pair, edges_, spec.metric, spec.direction);
    clean_.push_back(runs.clean(spec.direction));
    corrupt_.push_back(runs.corrupt(spec.direction));
    pairs_.push_back(std::make_unique<OfPair>(OfPair{pair, std::move(runs.senders.other)}));
  }
}
CircuitRuns::~CircuitRuns() = default;

double CircuitRuns::clean() const { return mean_of(clean_); }
double CircuitRuns::corrupt() const { return mean_of(corrupt_); }
const std::vector<double>& CircuitRuns::each_clean() const { return clean_; }
const std::vector<double>& CircuitRuns::each_corrupt() const { return corrupt_; }

std::vector<double> CircuitRuns::run_pair(const OfPair& of, std::span<const EdgeMask> cuts,
                                          bool by_position) const {
  const std::int64_t tokens = std::ssize(of.pair.clean);
  const std::size_t runs = by_position ? 1 : cuts.size();
  const std::vector<nn::Tokens> prompts(runs, base_prompt(of.pair, spec_.direction));
  const std::vector<Example> examples(runs, example_of(of.pair));
  const Metric metric = metric_of(model_, examples, spec_.metric);
  const std::string each = nn::per_prompt_name(metric);
  const auto graph = model_.derived(
      nn::batch_size(prompts),
      {by_position ? "split edges by position" : "split edges", spec_.metric.text,
       spec_.norms_held ? "norms held" : "", key_of(edges_)},
      [&](const Graph& g) {
        const Graph plain = spec_.norms_held ? linearise(g, {.norm = Policy::hold}) : g;
        const SplitOptions options{.by_position = by_position, .other_rows = tokens};
        return with_metric(split_edges(plain, edges_, options), metric);
      });
  Feeds feeds = metric.feeds;
  if (spec_.norms_held) {
    const nn::Run recorded = model_.run(prompts, held_sites(*graph));
    feeds.merge(with_held(*graph, recorded.results, model_.feeds(*graph, prompts)));
  }
  feeds["edges.other"] = of.other;
  feeds["edges.row"] = rows_again(tokens, static_cast<std::int64_t>(runs));
  feeds["edges.cut"] = cut_feed(cuts, grid_, of.other.dtype());
  return model_.run_graph(*graph, prompts, fetch(value(each)), feeds)
      .results.raw(each)
      .to_vector<double>();
}

std::vector<std::vector<double>> CircuitRuns::cut(std::span<const EdgeMask> cuts) const {
  std::vector<std::vector<double>> metrics(cuts.size(), std::vector<double>(pairs_.size()));
  for (std::size_t p = 0; p < pairs_.size(); ++p) {
    // A batch holds what all senders give, twice, in each run.
    const std::int64_t bytes = 3 * pairs_[p]->other.bytes();
    const auto together = static_cast<std::size_t>(
        std::clamp<std::int64_t>(spec_.memory / std::max<std::int64_t>(1, bytes), 1, 64));
    for (std::size_t begin = 0; begin < cuts.size(); begin += together) {
      if (spec_.cancel != nullptr && *spec_.cancel) throw InterruptedError("interrupted");
      const std::size_t count = std::min(together, cuts.size() - begin);
      const std::vector<double> some = run_pair(*pairs_[p], cuts.subspan(begin, count), false);
      for (std::size_t i = 0; i < count; ++i) metrics[begin + i][p] = some[i];
    }
  }
  return metrics;
}

std::vector<double> CircuitRuns::mean_cut(std::span<const EdgeMask> cuts) const {
  std::vector<double> means;
  for (const auto& each : cut(cuts)) means.push_back(mean_of(each));
  return means;
}

std::vector<double> CircuitRuns::mean_kept(std::span<const EdgeMask> circuits) const {
  const EdgeMask all = all_edges(grid_);
  std::vector<EdgeMask> cuts;
  for (const EdgeMask& c : circuits) cuts.push_back(without(all, c));
  return mean_cut(cuts);
}

double CircuitRuns::cut_at(std::span<const EdgeMask> by_position) const {
  if (pairs_.size() != 1) {
    throw Error(ErrorKind::usage,
                fmt::format("edges are cut at positions of one pair, not of {}", pairs_.size()));
  }
  const OfPair& of = *pairs_[0];
  const std::int64_t tokens = std::ssize(of.pair.clean);
  if (std::ssize(by_position) != tokens) {
    throw Error(ErrorKind::usage,
                fmt::format("the prompt has {} positions; there are {} sets of edges", tokens,
                            by_position.size()));
  }
  return run_pair(of, by_position, true)[0];
}

double faithfulness_of(double metric, double clean, double corrupt) {
  const double way = clean - corrupt;
  if (std::abs(way) <= 1e-6 * std::max(1.0, std::max(std::abs(clean), std::abs(corrupt)))) {
    throw NumericError(fmt::format(
        "the metric is {:.6g} of the clean runs and {:.6g} of the corrupt ones: there is no way "
        "between them of which a circuit could go a part; choose pairs whose answers differ",
        clean, corrupt));
  }
  return (metric - corrupt) / way;
}

double CircuitRuns::ratio(double metric) const {
  return faithfulness_of(metric, clean(), corrupt());
}

std::vector<Faithfulness> CircuitRuns::judge(std::span<const EdgeMask> circuits) const {
  const EdgeMask all = all_edges(grid_);
  std::vector<EdgeMask> cuts;
  for (const EdgeMask& c : circuits) {
    cuts.push_back(without(all, c));
    cuts.push_back(c);
  }
  const auto metrics = cut(cuts);
  std::vector<Faithfulness> judged;
  for (std::size_t i = 0; i < circuits.size(); ++i) {
    Faithfulness f;
    f.each = metrics[2 * i];
    f.each_complement = metrics[2 * i + 1];
    f.metric = mean_of(f.each);
    f.complement = mean_of(f.each_complement);
    f.faithfulness = ratio(f.metric);
    f.completeness = ratio(f.complement);
    judged.push_back(std::move(f));
  }
  return judged;
}

Faithfulness CircuitRuns::judge(const EdgeMask& circuit) const {
  return judge(std::span(&circuit, 1))[0];
}

std::vector<double> CircuitRuns::worth(const EdgeMask& circuit) const {
  std::vector<EdgeMask> circuits = {circuit};
  for (const StreamEdge& e : circuit.edges()) {
    circuits.push_back(circuit);
    circuits.back().set(e, false);
  }
  const std::vector<double> metrics = mean_kept(circuits);
  std::vector<double> worth;
  for (std::size_t i = 1; i < metrics.size(); ++i) worth.push_back(metrics[0] - metrics[i]);
  return worth;
}

// ---- curves ---------------------------------------------------------------------------------------
CircuitCurve circuit_curve(const CircuitRuns& runs, const Tensor& scores, Direction direction,
                           EdgeRank rank) {
  CircuitCurve curve;
  curve.rank = rank;
  curve.fractions = {.001, .002, .005, .01, .02, .05, .1, .2, .5, 1};
  std::vector<double> values = scores.to_vector<double>();
  if (rank == EdgeRank::raising && direction == Direction::noise) {
    for (double& x : values) x = -x;
  }
  const std::vector<StreamEdge> ranked =
      ranked_edges(runs.grid(), Tensor::of(scores.shape(), values), rank);
  std::vector<EdgeMask> circuits;
  for (const double p : curve.fractions) {
    const auto n = static_cast<std::size_t>(std::floor(p * static_cast<double>(ranked.size())));
    EdgeMask mask(runs.grid());
    for (std::size_t i = 0; i < n; ++i) mask.set(ranked[i]);
    circuits.push_back(pruned(runs.grid(), mask));
    curve.asked.push_back(n);
    curve.edges.push_back(circuits.back().count());
  }
  for (const double m : runs.mean_kept(circuits)) curve.faithfulness.push_back(runs.ratio(m));
  for (std::size_t i = 0; i + 1 < curve.fractions.size(); ++i) {
    const double width = curve.fractions[i + 1] - curve.fractions[i], a = curve.faithfulness[i],
                 b = curve.faithfulness[i + 1];
    curve.cpr += width * (a + b) / 2;
    curve.cmd += width * (std::abs(1 - a) + std::abs(1 - b)) / 2;
  }
  return curve;
}

}  // namespace vitrine::interp
