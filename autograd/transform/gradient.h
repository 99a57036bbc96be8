// Gradients are a transformation: the graph with the nodes that compute them added.
//
//   Graph g = gradient(model, nn::logit_diff(austin, sacramento), sites("blocks.*.attn.hook_z"));
//   Plan plan = compile(g, fetch(grad(sites("blocks.*.attn.hook_z"))));
#pragma once

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "autograd/graph/builder.h"

namespace vitrine {

// What a graph's inputs are given, by name.
using Feeds = std::map<std::string, Tensor, std::less<>>;

// A scalar to explain or to minimise: a function that emits it onto a given graph. value(metric)
// fetches it. `feeds` are for inputs that it adds; a run needs them beside those of the model.
struct Metric {
  std::string name;
  std::function<Value(Builder&)> emit;
  Feeds feeds = {};
};

// Leaves (parameters and inputs) by comma-separated patterns.
struct LeafSet {
  std::string patterns;
};
inline LeafSet leaves(std::string_view patterns) { return {std::string(patterns)}; }

// The names under which results are kept.
inline std::string grad_name(std::string_view of) { return "grad(" + std::string(of) + ")"; }
inline std::string before_name(std::string_view site) {
  return "before(" + std::string(site) + ")";
}

// Emits `metric` and registers it as an output under its name.
Graph with_metric(const Graph& graph, const Metric& metric);

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

// Replaces every composite that hides one of these sites by its expansion; the sites become nodes.
Graph expand_sites(const Graph& graph, const std::vector<std::string>& names);

}  // namespace vitrine
