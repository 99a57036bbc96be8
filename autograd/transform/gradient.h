// Reverse-mode automatic differentiation: adds the nodes that compute gradients to a graph.
//
//   Graph g = gradient(model, nn::logit_diff(austin, sacramento), sites("blocks.*.attn.hook_z"));
//   Plan plan = compile(g, fetch(grad(sites("blocks.*.attn.hook_z"))));
#pragma once

#include <string_view>

#include "autograd/graph/metric.h"
#include "autograd/graph/site.h"

namespace vitrine {

// Adds d output / d site (of the value that flows on from it) or d output / d leaf as outputs
// grad(NAME). `output` names a scalar output of the graph. Interior sites are expanded first. What
// the output does not depend on gets exact zeros. Throws GraphError when the output is not a scalar
// or an op on the way has no gradient, SiteError for unknown names.
Graph gradient(const Graph& graph, std::string_view output, const SiteSet& wrt);
Graph gradient(const Graph& graph, std::string_view output, const LeafSet& wrt);
Graph gradient(const Graph& graph, const Metric& metric, const SiteSet& wrt);
Graph gradient(const Graph& graph, const Metric& metric, const LeafSet& wrt);
Graph gradient(const Graph& graph, std::string_view output, const SiteSet& sites,
               const LeafSet& leaves);

}  // namespace vitrine
