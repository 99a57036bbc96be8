// Constant folding: computes once what depends on parameters alone.
//
//   Graph g = nn::reweight(model, config, gauge);   // weights computed from weights
//   Graph folded = fold(g, {"reweighted.wte.weight"});      // are leaves from now on,
//   parameters.merge(folded_values(g, {"reweighted.wte.weight"}, parameters));   // with values
#pragma once

#include <string>
#include <vector>

#include "autograd/compile/plan.h"

namespace vitrine {

// Returns the graph in which each of these outputs is a parameter of that name: what only leads
// there is no longer computed. Throws GraphError for an output that the graph does not have, or
// whose name is that of a leaf.
Graph fold(const Graph& graph, const std::vector<std::string>& outputs);

// Computes the values of these parameters. Throws GraphError for an output that depends on an
// input.
Parameters folded_values(const Graph& graph, const std::vector<std::string>& outputs,
                         const Parameters& parameters, ThreadPool* pool = nullptr);

}  // namespace vitrine
