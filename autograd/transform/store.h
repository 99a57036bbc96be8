// Weights that stay as their file has them: f16, bf16, GGUF's quantised blocks.
//
//   Graph g = store_as(model, parameters);   // those that are stored in fewer bits stay so
#pragma once

#include "autograd/graph/feeds.h"
#include "autograd/graph/graph.h"

namespace vitrine {

// Returns the graph in which every parameter that `weights` has in a stored type is a leaf of that
// type, and what read it reads it widened to f32 (`widen` of ops/ops.h). All other values, sites
// and names stay. Throws GraphError for a leaf that is not f32: nothing else is widened to.
Graph store_as(const Graph& graph, const Parameters& weights);

}  // namespace vitrine
