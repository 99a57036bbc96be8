// Runs in which one edge of the residual stream is changed, each by itself, as one sweep.
#pragma once

#include <functional>
#include <span>
#include <string>

#include "autograd/sweep/sweep.h"
#include "interp/circuits/edge_mask.h"

namespace vitrine::interp {

struct SweptEdges {
  Tensor change;  // f64 [edges, elements of the output]
  int passes = 0, without_effect = 0;
  std::string explanation;  // of the last sweep
};

// What adding to each edge's receiver `change` [rows, senders, d] of its sender changes in an
// output. Takes as many edges at a time as memory allows. Throws Error (usage) for what is no edge
// of the set.
SweptEdges sweep_edges(const Graph& graph, const Feeds& feeds, const Parameters& parameters,
                       const EdgeSet& edges, const Tensor& change,
                       std::span<const EdgePlace> places, const std::string& output,
                       const SweepOptions& options);

}  // namespace vitrine::interp
