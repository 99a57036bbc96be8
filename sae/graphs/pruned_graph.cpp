#include "sae/graphs/pruned_graph.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "tensor/error.h"

namespace vitrine::sae {
namespace {

constexpr double kLeast = 1e-10;  // that a row is divided by

// Rows of |A| divided by their sums, of the kept nodes alone.
struct Shares {
  const AttributionGraph& graph;
  std::vector<std::vector<double>> of;  // of each row, along its sources

  Shares(const AttributionGraph& g, const std::vector<bool>& kept) : graph(g), of(g.rows.size()) {
    for (std::size_t t = 0; t < of.size(); ++t) {
      const AttributionRow& row = g.rows[t];
      of[t].assign(row.sources.size(), 0.0);
      if (!kept[static_cast<std::size_t>(g.node_of_target(static_cast<std::int64_t>(t)))]) continue;
      double sum = 0;
      for (std::size_t i = 0; i < row.sources.size(); ++i) {
        if (kept[static_cast<std::size_t>(row.sources[i])])
          sum += of[t][i] = std::abs(static_cast<double>(row.weights[i]));
      }
      for (double& share : of[t]) share /= std::max(sum, kLeast);
    }
  }

  // w sum over k >= 1 of shares^k. Sources come before their targets, but in no simple order of numbers: the sum is made power by
  // power, and ends since the graph has no cycles.
  std::vector<double> influence(const std::vector<double>& w) const {
    std::vector<double> total(w.size(), 0.0), now = w, next(w.size());
    while (true) {
      std::fill(next.begin(), next.end(), 0.0);
      bool any = false;
      for (std::size_t t = 0; t < of.size(); ++t) {
        const double from =
            now[static_cast<std::size_t>(graph.node_of_target(static_cast<std::int64_t>(t)))];
        if (from == 0) continue;
        const auto& sources = graph.rows[t].sources;
        for (std::size_t i = 0; i < sources.size(); ++i) {
          if (of[t][i] == 0) continue;
          next[static_cast<std::size_t>(sources[i])] += from * of[t][i];
          any = true;
        }
      }
      if (!any) return total;
      for (std::size_t n = 0; n < total.size(); ++n) total[n] += next[n];
      now.swap(next);
    }
  }
};

// The value at the first place where the running sum of the values, largest first, is a share of all of it.
double threshold(std::vector<double> values, double share) {
  if (values.empty()) return 0;
  std::sort(values.begin(), values.end(), std::greater<>());
  const double all = std::accumulate(values.begin(), values.end(), 0.0);
  double sum = 0;
  for (const double v : values) {
    sum += v;
    if (sum / all >= share) return v;
  }
  return values.back();
}

std::vector<double> running_shares(const std::vector<double>& influence) {
  std::vector<std::size_t> order(influence.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](std::size_t a, std::size_t b) { return influence[a] > influence[b]; });
  const double all = std::accumulate(influence.begin(), influence.end(), 0.0);
  std::vector<double> shares(influence.size());
  double sum = 0;
  for (const std::size_t i : order) shares[i] = (sum += influence[i]) / all;
  return shares;
}

// Drops what leads nowhere, as long as something goes.
void drop_dangling(const AttributionGraph& graph, PrunedGraph& pruned) {
  bool first = true;
  while (true) {
    std::vector<bool> leaves(pruned.node_kept.size(), false),
        enters(pruned.node_kept.size(), false);
    for (const PrunedGraph::Edge& e : pruned.edges) {
      leaves[static_cast<std::size_t>(e.source)] = true;
      enters[static_cast<std::size_t>(graph.node_of_target(e.target))] = true;
    }
    std::vector<bool> kept = pruned.node_kept;
    for (std::int64_t n = 0; n < graph.first_token(); ++n) {
      const auto i = static_cast<std::size_t>(n);
      if (!leaves[i] || (n < graph.first_error() && !enters[i])) kept[i] = false;
    }
    const bool same = kept == pruned.node_kept;
    pruned.node_kept = std::move(kept);
    if (same && first) return;  // no node goes: the edges stay as they are
    std::erase_if(pruned.edges, [&](const PrunedGraph::Edge& e) {
      return !pruned.node_kept[static_cast<std::size_t>(e.source)] ||
             !pruned.node_kept[static_cast<std::size_t>(graph.node_of_target(e.target))];
    });
    if (same) return;
    first = false;
  }
}

void score(const AttributionGraph& graph, const Shares& shares, const std::vector<double>& w,
           PrunedGraph& pruned) {
  double tokens = 0, errors = 0;
  for (std::int64_t n = graph.first_error(); n < graph.first_logit(); ++n)
    (n < graph.first_token() ? errors : tokens) += pruned.influence[static_cast<std::size_t>(n)];
  pruned.replacement_score = tokens / (tokens + errors);
  std::vector<double> from_errors(w.size(), 0.0);
  for (std::size_t t = 0; t < graph.rows.size(); ++t) {
    const auto& sources = graph.rows[t].sources;
    for (std::size_t i = 0; i < sources.size(); ++i) {
      if (sources[i] >= graph.first_error() && sources[i] < graph.first_token())
        from_errors[static_cast<std::size_t>(graph.node_of_target(static_cast<std::int64_t>(t)))] +=
            shares.of[t][i];
    }
  }
  double complete = 0, all = 0;
  for (std::size_t n = 0; n < w.size(); ++n) {
    const double out = pruned.influence[n] + w[n];
    complete += (1 - from_errors[n]) * out;
    all += out;
  }
  pruned.completeness_score = complete / all;
}

}  // namespace

std::int64_t PrunedGraph::kept_nodes() const {
  return std::count(node_kept.begin(), node_kept.end(), true);
}

PrunedGraph prune(const AttributionGraph& graph, const PruneSpec& spec) {
  for (const double share : {spec.nodes, spec.edges}) {
    if (!(share >= 0 && share <= 1))
      throw Error(ErrorKind::usage,
                  fmt::format("a share of influence is from 0 to 1, not {}", share));
  }
  const auto n = static_cast<std::size_t>(graph.nodes());
  std::vector<double> w(n, 0.0);
  std::copy(graph.logit_probabilities.begin(), graph.logit_probabilities.end(),
            w.begin() + graph.first_logit());
  PrunedGraph pruned;
  const Shares all(graph, std::vector<bool>(n, true));
  pruned.influence = all.influence(w);
  pruned.cumulative = running_shares(pruned.influence);
  score(graph, all, w, pruned);

  const double least = threshold(pruned.influence, spec.nodes);
  pruned.node_kept.resize(n);
  for (std::size_t i = 0; i < n; ++i)
    pruned.node_kept[i] =
        pruned.influence[i] >= least || static_cast<std::int64_t>(i) >= graph.first_token();

  const Shares kept(graph, pruned.node_kept);
  std::vector<double> weight = kept.influence(w);
  for (std::size_t i = 0; i < n; ++i) weight[i] += w[i];
  std::vector<double> scores;
  for (std::size_t t = 0; t < graph.rows.size(); ++t) {
    for (const double share : kept.of[t])
      scores.push_back(
          share *
          weight[static_cast<std::size_t>(graph.node_of_target(static_cast<std::int64_t>(t)))]);
  }
  const double least_edge = threshold(scores, spec.edges);
  std::size_t at = 0;
  for (std::size_t t = 0; t < graph.rows.size(); ++t) {
    const AttributionRow& row = graph.rows[t];
    for (std::size_t i = 0; i < row.sources.size(); ++i, ++at) {
      if (scores[at] >= least_edge && scores[at] > 0)
        pruned.edges.push_back({static_cast<std::int32_t>(t), row.sources[i], row.weights[i]});
    }
  }
  drop_dangling(graph, pruned);
  return pruned;
}

}  // namespace vitrine::sae
