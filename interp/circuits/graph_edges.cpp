#include "interp/circuits/graph_edges.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <map>
#include <utility>

#include "autograd/edges/edge_scores.h"
#include "autograd/edges/split_edges.h"
#include "autograd/ops/ops.h"
#include "interp/circuits/edge_sweep.h"
#include "interp/circuits/run_values.h"
#include "tensor/error.h"

namespace vitrine::interp {
namespace {

// Outputs for what a graph's own inputs say, whatever they are called.
constexpr const char* kSequence = "edges.sequence";
constexpr const char* kPosition = "edges.position";
constexpr const char* kKeys = "edges.keys";
constexpr const char* kTotal = "edges.total";

Graph with_rows(const Graph& graph, const EdgeSet& edges) {
  Builder b(with_senders(graph, edges));
  const RowTable rows = b.row_table();
  b.output(kSequence, b.value(rows.sequence));
  b.output(kPosition, b.value(rows.position));
  b.output(kKeys, b.value(rows.keys));
  return std::move(b).finish();
}

// Over the first axis of [values, senders, receivers]: start from 0, take every value in.
Tensor reduced(const Tensor& each, const std::function<double(double, double)>& take) {
  const std::int64_t values = each.dim(0), edges = each.dim(1) * each.dim(2);
  Tensor out = Tensor::zeros({each.dim(1), each.dim(2)}, DType::f64);
  const double* x = each.data<double>();
  double* to = out.data<double>();
  for (std::int64_t i = 0; i < values * edges; ++i) to[i % edges] = take(to[i % edges], x[i]);
  return out;
}

}  // namespace

Tensor EdgeEffects::mean() const {
  const auto n = static_cast<double>(each.dim(0));
  return reduced(each, [n](double so_far, double x) { return so_far + x / n; });
}
Tensor EdgeEffects::mean_absolute() const {
  const auto n = static_cast<double>(each.dim(0));
  return reduced(each, [n](double so_far, double x) { return so_far + std::abs(x) / n; });
}
Tensor EdgeEffects::largest() const {
  return reduced(each, [](double so_far, double x) { return std::max(so_far, std::abs(x)); });
}

GraphEdges::GraphEdges(Graph graph, EdgeSet edges, Parameters parameters, Feeds feeds,
                       std::string output, const GraphEdgeOptions& options)
    : graph_(std::move(graph)),
      split_(split_edges(graph_, edges)),
      edges_(std::move(edges)),
      grid_(edge_grid(edges_)),
      parameters_(std::move(parameters)),
      feeds_(std::move(feeds)),
      name_(std::move(output)),
      options_(options) {
  const Results base =
      run(with_rows(graph_, edges_),
          fetch(vitrine::value(name_), vitrine::value("edges.senders"), vitrine::value(kSequence),
                vitrine::value(kPosition), vitrine::value(kKeys)),
          feeds_);
  output_ = base.raw(name_);
  senders_ = base.raw("edges.senders");
  sequence_ = base.raw(kSequence).to_vector<std::int64_t>();
  position_ = base.raw(kPosition).to_vector<std::int64_t>();
  sequences_ = base.raw(kKeys).dim(0);
}

Results GraphEdges::run(const Graph& graph, const Fetch& wanted, const Feeds& feeds) const {
  const RunOptions how{.pool = options_.pool, .cancel = options_.cancel};
  return plans_.get(graph, wanted).run(feeds, parameters_, how);
}

// ---- what edges carry -----------------------------------------------------------------------------
Tensor GraphEdges::senders(const Feeds& feeds) const {
  return run(with_senders(graph_, edges_), fetch(vitrine::value("edges.senders")), feeds)
      .raw("edges.senders");
}

Tensor GraphEdges::mean_senders() const {
  const auto values = senders_.to_vector<double>();
  const std::size_t width = values.size() / position_.size();
  std::map<std::int64_t, std::pair<std::vector<double>, double>> sums;  // and how many rows
  for (std::size_t r = 0; r < position_.size(); ++r) {
    auto& [sum, count] = sums[position_[r]];
    sum.resize(width);
    for (std::size_t i = 0; i < width; ++i) sum[i] += values[r * width + i];
    ++count;
  }
  std::vector<double> means(values.size());
  for (std::size_t r = 0; r < position_.size(); ++r) {
    const auto& [sum, count] = sums[position_[r]];
    for (std::size_t i = 0; i < width; ++i) means[r * width + i] = sum[i] / count;
  }
  return Tensor::of(senders_.shape(), means).to(senders_.dtype());
}

Tensor GraphEdges::zero_senders() const {
  return Tensor::zeros(senders_.shape(), senders_.dtype());
}

Tensor GraphEdges::value(const Site& site, const Feeds& feeds) const {
  return run(graph_, fetch(site), feeds).raw(site.name);
}

// ---- exactly --------------------------------------------------------------------------------------
Tensor GraphEdges::cut(const EdgeMask& edges, const Tensor& other) const {
  Feeds feeds = feeds_;
  feeds["edges.other"] = other;
  feeds["edges.row"] = rows_again(std::ssize(sequence_), 1);
  const std::vector<EdgeMask> same(static_cast<std::size_t>(sequences_), edges);
  feeds["edges.cut"] = cut_feed(same, grid_, senders_.dtype());
  return run(split_, fetch(vitrine::value(name_)), feeds).raw(name_);
}

Tensor GraphEdges::kept(const EdgeMask& circuit, const Tensor& other) const {
  return cut(without(all_edges(grid_), circuit), other);
}

Tensor GraphEdges::no_effects() const {
  return Tensor::zeros({output_.numel(), std::ssize(grid_.senders), std::ssize(grid_.receivers)},
                       DType::f64);
}

EdgeEffects GraphEdges::exact(const Tensor& other) const {
  const std::vector<StreamEdge> edges = all_edges(grid_).edges();
  std::vector<EdgePlace> places;
  places.reserve(edges.size());
  for (const StreamEdge& e : edges) places.push_back({e});
  const SweepOptions how{
      .pool = options_.pool, .memory = options_.memory, .cancel = options_.cancel};
  const SweptEdges swept =
      sweep_edges(graph_, feeds_, parameters_, edges_, change(other), places, name_, how);
  const std::int64_t values = output_.numel(), s = std::ssize(grid_.senders),
                     r = std::ssize(grid_.receivers);
  Tensor each = no_effects();
  for (std::size_t i = 0; i < edges.size(); ++i) {
    const double* of = swept.change.data<double>() + static_cast<std::int64_t>(i) * values;
    const auto at = static_cast<std::int64_t>(edges[i].sender) * r +
                    static_cast<std::int64_t>(edges[i].receiver);
    for (std::int64_t j = 0; j < values; ++j) each.data<double>()[j * s * r + at] = of[j];
  }
  return {each};
}

Faithfulness GraphEdges::judge(const EdgeMask& circuit, const Tensor& other) const {
  Faithfulness f;
  f.each = kept(circuit, other).to_vector<double>();
  f.each_complement = cut(circuit, other).to_vector<double>();
  f.metric = mean_of(f.each);
  f.complement = mean_of(f.each_complement);
  const double clean = mean_of(output_.to_vector<double>());
  const double corrupt = mean_of(cut(all_edges(grid_), other).to_vector<double>());
  f.faithfulness = faithfulness_of(f.metric, clean, corrupt);
  f.completeness = faithfulness_of(f.complement, clean, corrupt);
  return f;
}

// ---- estimated ------------------------------------------------------------------------------------
Tensor GraphEdges::change(const Tensor& other) const {
  if (!(other.shape() == senders_.shape())) {
    throw ShapeError(fmt::format(
        "edges: what edges carry is {} here, [rows, senders, d], not {}; senders(feeds), "
        "mean_senders() and zero_senders() give it",
        to_string(senders_.shape()), to_string(other.shape())));
  }
  return difference(other, senders_);
}

Graph GraphEdges::with_scores(const Graph& graph) const {
  const Shape& shape = output_.shape();
  if (!shape.empty() && !(shape.size() == 1 && shape[0] == sequences_)) {
    throw GraphError(fmt::format(
        "edges: gradients score edges for one number, or one for each of the {} sequences; the "
        "output '{}' is {}: give one that sums it up",
        sequences_, name_, to_string(shape)));
  }
  Builder b(graph);
  b.output(kTotal, sum(b.output(name_)));
  return with_edge_scores(std::move(b).finish(), edges_, kTotal);
}

// Adds `share` of the scores, row by row, to what its sequence has in `to`.
void GraphEdges::add_scores(const Graph& graph, Feeds feeds, const Tensor& change, double share,
                            Tensor& to) const {
  feeds["edges.change"] = change;
  const Results results = run(graph, edge_score_fetch(edges_), feeds);
  const std::size_t s = grid_.senders.size(), r = grid_.receivers.size();
  double* sums = to.data<double>();
  each_edge_score(edges_, results, [&](std::size_t row, std::size_t u, std::size_t v, double x) {
    const std::size_t sequence =
        output_.shape().empty() ? 0 : static_cast<std::size_t>(sequence_[row]);
    sums[(sequence * s + u) * r + v] += share * x;
  });
}

EdgeEffects GraphEdges::eap(const Tensor& other) const {
  Tensor each = no_effects();
  add_scores(with_scores(graph_), feeds_, change(other), 1, each);
  return {each};
}

EdgeEffects GraphEdges::clean_corrupted(const Tensor& other, const Feeds& other_feeds) const {
  const Graph graph = with_scores(graph_);
  const Tensor changed = change(other);
  Tensor each = no_effects();
  add_scores(graph, feeds_, changed, 0.5, each);
  add_scores(graph, other_feeds, changed, 0.5, each);
  return {each};
}

EdgeEffects GraphEdges::eap_ig(const Tensor& other, const Site& site, const Tensor& start,
                               PathRule rule, int steps) const {
  const std::vector<double> weights = path_weights(rule, steps);
  const Tensor end = value(site, feeds_), changed = change(other);
  if (!(start.shape() == end.shape())) {
    throw ShapeError(
        fmt::format("edges: a path to '{}', which is {}, cannot start at a value of {}", site.name,
                    to_string(end.shape()), to_string(start.shape())));
  }
  Tensor each = no_effects();
  Graph graph;
  for (const double w : weights) {
    const Interventions point = {
        replace(site, on_the_way(end, start, std::span(&w, 1)), {}, "the way between the runs")};
    if (graph.nodes().empty()) graph = with_scores(intervene(graph_, point));
    add_scores(graph, with_interventions(graph, point, feeds_), changed,
               1.0 / static_cast<double>(steps), each);
  }
  return {each};
}

}  // namespace vitrine::interp
