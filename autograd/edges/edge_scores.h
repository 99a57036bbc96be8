// Edge attribution patching: the first-order effect of every edge of the residual stream.
//
//   score(u -> v) = sum over d of (out_u(other) - out_u(base)) . d m / d in_v
//
// (Syed et al. 2023.) The gradient at the input of each head's query, key and value differs from
// head to head. It is never taken at a copy of the stream for each head: the gradient of a query is
// multiplied back through its head's weights and the norm, layer by layer, and met at once with
// what the senders changed; what is kept is a number for each edge and row.
//
// Runs of one batch may be points of a path between two runs, over which the gradient is averaged
// (integrated gradients; EAP-IG, Hanna et al. 2024): sequences in `points` blocks of equal rows.
#pragma once

#include <cstdint>
#include <functional>
#include <string_view>

#include "autograd/compile/plan.h"
#include "autograd/edges/edge_set.h"

namespace vitrine {

// The name of the output with the scores of one group of receivers: [rows / points, reads, names].
std::string edge_score_name(const EdgeReceivers& receivers);

// Adds these outputs to a graph, for the scalar output `metric`, with the input edges.change
// [rows / points, senders, d]: out_u(other) - out_u(base). Throws what check_edges and gradient
// throw, and ShapeError where the rows do not divide into `points` blocks.
Graph with_edge_scores(const Graph& graph, const EdgeSet& edges, std::string_view metric,
                       std::int64_t points = 1);

// All scores of such a graph as results, and each of them: of a row, a sender and a receiver.
Fetch edge_score_fetch(const EdgeSet& edges);
void each_edge_score(const EdgeSet& edges, const Results& results,
                     const std::function<void(std::size_t row, std::size_t sender,
                                              std::size_t receiver, double)>& f);

}  // namespace vitrine
