// Circuits found by runs: ACDC, exact greedy pruning; path patching.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "interp/circuits/circuit_runs.h"
#include "nn/model/batch.h"
#include "tensor/error.h"

namespace vitrine::interp {
namespace {

// The edges in the order in which ACDC looks at them.
std::vector<StreamEdge> from_the_end(const EdgeGrid& grid) {
  std::vector<StreamEdge> edges;
  for (std::size_t v = grid.receivers.size(); v-- > 0;) {
    for (std::size_t u = grid.reads[v]; u-- > 0;) edges.push_back({u, v});
  }
  return edges;
}

// Whether anything in the circuit reads what the receiver is computed into.
class Read {
 public:
  Read(const EdgeGrid& grid, const EdgeMask& circuit)
      : grid_(grid), readers_(grid.senders.size(), 0) {
    for (const StreamEdge& e : circuit.edges()) ++readers_[e.sender];
  }
  bool matters(std::size_t receiver) const {
    const auto& feeds = grid_.feeds[receiver];
    return feeds.empty() ||
           std::any_of(feeds.begin(), feeds.end(), [&](std::size_t u) { return readers_[u] > 0; });
  }
  void remove(const StreamEdge& e) { --readers_[e.sender]; }

 private:
  const EdgeGrid& grid_;
  std::vector<int> readers_;  // by sender
};

}  // namespace

PrunedByRuns acdc(const CircuitRuns& runs, double threshold,
                  const std::function<void(int done, int total)>& progress) {
  return acdc(runs.grid(),
              [&](std::span<const EdgeMask> circuits) { return runs.mean_kept(circuits); },
              threshold, {.progress = progress});
}

PrunedByRuns acdc(const EdgeGrid& grid, const CircuitMetric& metric, double threshold,
                  const AcdcOptions& options) {
  const std::vector<StreamEdge> order = from_the_end(grid);
  PrunedByRuns result{all_edges(grid), {}, 0};
  EdgeMask& circuit = result.circuit;
  double current = metric(std::span(&circuit, 1))[0];
  // Nearly all edges go, so the next ones are run as if they all went; what was run behind one that
  // stays is thrown away.
  const std::size_t most = std::max<std::size_t>(1, options.ahead);
  std::size_t ahead = std::min<std::size_t>(8, most);
  for (std::size_t next = 0; next < order.size();) {
    std::vector<std::size_t> trials;  // in order
    std::vector<EdgeMask> circuits;   // after each of them
    EdgeMask guess = circuit;
    Read read(grid, guess);
    std::size_t at = next;
    for (; at < order.size() && trials.size() < ahead; ++at) {
      const bool matters = read.matters(order[at].receiver);
      guess.set(order[at], false);
      read.remove(order[at]);
      if (!matters) continue;
      trials.push_back(at);
      circuits.push_back(guess);
    }
    const std::vector<double> metrics = metric(circuits);
    result.runs += static_cast<int>(circuits.size());
    std::size_t kept_at = order.size();
    for (std::size_t i = 0; i < trials.size() && kept_at == order.size(); ++i) {
      const double change = metrics[i] - current;
      const bool keep = !(std::abs(change) < threshold);
      result.decisions.push_back({order[trials[i]], change, keep});
      if (keep) {
        kept_at = trials[i];
        circuit = circuits[i];
        circuit.set(order[kept_at]);
        ahead = std::max<std::size_t>(1, ahead / 4);
      } else {
        current = metrics[i];
      }
    }
    if (kept_at == order.size()) {
      circuit = guess;
      next = at;
      ahead = std::min(most, ahead * 2);
    } else {
      next = kept_at + 1;
    }
    if (options.progress) options.progress(static_cast<int>(next), static_cast<int>(order.size()));
  }
  return result;
}

PrunedByRuns prune_greedily(const CircuitRuns& runs, const EdgeMask& from, std::size_t edges,
                            double share,
                            const std::function<void(int done, int total)>& progress) {
  if (!(share > 0 && share <= 1)) {
    throw Error(ErrorKind::usage,
                fmt::format("the share of edges that go in a round lies in (0, 1], not {}", share));
  }
  PrunedByRuns result{pruned(runs.grid(), from), {}, 0};
  EdgeMask& circuit = result.circuit;
  const std::size_t begin = circuit.count();
  while (circuit.count() > edges) {
    const std::vector<StreamEdge> left = circuit.edges();
    const std::vector<double> worth = runs.worth(circuit);
    result.runs += static_cast<int>(worth.size()) + 1;
    std::vector<std::size_t> order(left.size());
    for (std::size_t i = 0; i < order.size(); ++i) order[i] = i;
    std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
      return std::abs(worth[a]) < std::abs(worth[b]);
    });
    const auto some = static_cast<std::size_t>(std::ceil(share * static_cast<double>(left.size())));
    const std::size_t go = std::min(some, left.size() - edges);
    for (std::size_t i = 0; i < go; ++i) {
      circuit.set(left[order[i]], false);
      result.decisions.push_back({left[order[i]], -worth[order[i]], false});
    }
    // What leads nowhere any more goes too, but never below the size that is asked for.
    const EdgeMask rest = pruned(runs.grid(), circuit);
    if (rest.count() >= edges) circuit = rest;
    if (progress) {
      progress(static_cast<int>(begin - circuit.count()),
               static_cast<int>(begin - std::min(begin, edges)));
    }
  }
  return result;
}

// ---- path patching ---------------------------------------------------------------------------------
double path_patch(const nn::Model& model, const Pair& pair, std::size_t sender,
                  std::span<const std::size_t> receivers, PathForm form, const CircuitSpec& spec) {
  const EdgeSet edges = edges_of(model, spec.edges);
  const EdgeGrid grid = edge_grid(edges);
  for (const std::size_t v : receivers) {
    if (grid.valid(sender, v)) continue;
    throw Error(ErrorKind::usage,
                fmt::format("{} is no edge: '{}' does not come before '{}'", grid.name(sender, v),
                            grid.senders[sender], grid.receivers[v]));
  }
  if (form == PathForm::edges) {
    const CircuitRuns runs(model, {&pair, 1}, spec);
    EdgeMask cut(grid);
    for (const std::size_t v : receivers) cut.set(sender, v);
    return runs.mean_cut(std::span(&cut, 1))[0];
  }
  check_pair(model, pair);
  const PairRuns runs = pair_runs(model, pair, edges, spec.metric, spec.direction);
  const auto change =
      runs.change.select(1, static_cast<std::int64_t>(sender)).to_vector<double>();  // [rows, d]
  const std::vector<nn::Tokens> prompts = {base_prompt(pair, spec.direction)};
  std::vector<Edit> edits;
  std::size_t first = 0;
  for (const EdgeReceivers& group : edges.receivers) {
    for (std::size_t i = 0; i < group.names.size(); ++i) {
      if (std::find(receivers.begin(), receivers.end(), first + i) == receivers.end()) continue;
      Tensor stream = model.run(prompts, group.site).results.raw(group.site.name);
      Where where;
      if (stream.rank() == 3) {
        where.head = {static_cast<std::int64_t>(i)};
        stream = stream.select(1, static_cast<std::int64_t>(i));
      }
      auto values = stream.to_vector<double>();
      for (std::size_t j = 0; j < values.size(); ++j) values[j] += change[j];
      Shape shape = stream.shape();
      if (!where.head.empty()) shape.insert(1, 1);
      edits.push_back(replace(group.site, Tensor::of(shape, values).to(stream.dtype()), where,
                              "the base run and the sender's change"));
    }
    first += group.names.size();
  }
  const Metric metric = metric_of(model, {{example_of(pair)}}, spec.metric);
  const std::string each = nn::per_prompt_name(metric);
  return model.run_edited(prompts, Interventions(std::move(edits)), fetch(value(each)), &metric)
      .results.raw(each)
      .to_vector<double>()[0];
}

}  // namespace vitrine::interp
