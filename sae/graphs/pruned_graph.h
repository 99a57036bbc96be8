// Influence, pruning and scores of attribution graphs, by circuit-tracer's definitions.
//
//   influence    w sum over k >= 1 of Â^k: Â is |A| with rows divided by their sums, w the probabilities of the logits
//   nodes        those with the most influence that have `nodes` of all of it together; tokens and logits always
//   edges        the strongest that have `edges` of all of their scores together, after rows were divided again
//   dangling     what no kept edge leaves, and features that none enters, go with their edges, until nothing changes
#pragma once

#include <vector>

#include "sae/graphs/attribution_graph.h"

namespace vitrine::sae {

// Which shares of all influence, and of all edges' scores, are kept.
struct PruneSpec {
  double nodes = 0.8, edges = 0.98;  // shares, from 0 to 1
};

// The nodes and edges that carry most of the influence on the logits.
struct PrunedGraph {
  std::vector<double> influence;   // of each node
  std::vector<double> cumulative;  // the share of all influence of those with as much or more
  std::vector<bool> node_kept;
  struct Edge {
    std::int32_t target = 0, source = 0;  // a row of the graph; a node
    float weight = 0;
  };
  std::vector<Edge> edges;  // the kept ones, by target and source
  // Of the whole graph: how much of what reaches the logits comes from tokens and not from errors; how much of the inputs of
  // nodes, weighted by influence, is no error.
  double replacement_score = 0, completeness_score = 0;
  std::int64_t kept_nodes() const;
};

// Throws Error (usage) for a share outside [0, 1].
PrunedGraph prune(const AttributionGraph& graph, const PruneSpec& spec = {});

}  // namespace vitrine::sae
