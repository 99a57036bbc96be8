#include "autograd/gradient.h"

#include <fmt/format.h>

#include <algorithm>

#include "autograd/ops.h"
#include "tensor/error.h"

namespace vitrine {
namespace {

std::vector<std::string> leaf_names(const Graph& graph) {
  std::vector<std::string> names;
  for (const Node& n : graph.nodes()) {
    const auto* leaf = std::get_if<LeafName>(&n.attributes);
    if (leaf != nullptr && is_compute_float(n.type.dtype)) names.push_back(leaf->name);
  }
  return names;
}

struct Target {
  std::string name;
  NodeId node;
};

// Which nodes lie between a target and the output: those are the ones to differentiate.
std::vector<bool> on_the_way(const Graph& g, const std::vector<Target>& targets, NodeId output) {
  std::vector<bool> below(static_cast<std::size_t>(g.next_id()), false), above = below;
  for (const Target& t : targets) below[static_cast<std::size_t>(t.node)] = true;
  for (const Node& n : g.nodes()) {
    for (const NodeId i : n.inputs) {
      if (below[static_cast<std::size_t>(i)] && !n.op->integer_only)
        below[static_cast<std::size_t>(n.id)] = true;
    }
  }
  above[static_cast<std::size_t>(output)] = true;
  for (auto n = g.nodes().rbegin(); n != g.nodes().rend(); ++n) {
    if (!above[static_cast<std::size_t>(n->id)]) continue;
    for (const NodeId i : n->inputs) above[static_cast<std::size_t>(i)] = true;
  }
  for (std::size_t i = 0; i < below.size(); ++i) below[i] = below[i] && above[i];
  return below;
}

std::vector<Target> find_targets(const Graph& g, const std::vector<std::string>& sites,
                                 const std::vector<std::string>& leaves) {
  std::vector<Target> targets;
  for (const std::string& name : sites) targets.push_back({name, g.site(name).node});
  for (const std::string& name : leaves) targets.push_back({name, g.leaf(name)});
  return targets;
}

// Ops without a gradient of their own but with an expansion are differentiated through it.
Graph expand_for_gradient(Graph g, const std::vector<std::string>& sites,
                          const std::vector<std::string>& leaves, std::string_view output) {
  for (;;) {
    const std::vector<bool> way = on_the_way(g, find_targets(g, sites, leaves), g.output(output));
    std::vector<NodeId> expand;
    for (const Node& n : g.nodes()) {
      if (way[static_cast<std::size_t>(n.id)] && n.op->vjp == nullptr && n.op->expand != nullptr)
        expand.push_back(n.id);
    }
    if (expand.empty()) return g;
    Builder b(g);
    for (const NodeId id : expand) b.expand(id);
    g = std::move(b).finish();
  }
}

Graph differentiate(const Graph& graph, std::string_view output,
                    const std::vector<std::string>& sites, const std::vector<std::string>& leaves) {
  const Graph g = expand_for_gradient(expand_sites(graph, sites), sites, leaves, output);
  const NodeId root = g.output(output);
  const Node& metric = g.node(root);
  if (numel(metric.type.shape) != 1 || !is_compute_float(metric.type.dtype)) {
    throw GraphError(fmt::format(
        "gradients are taken of a scalar; '{}' is {}: take its sum or mean, or pick one entry",
        output, to_string(metric.type)));
  }
  const std::vector<Target> targets = find_targets(g, sites, leaves);
  const std::vector<bool> way = on_the_way(g, targets, root);

  Builder b(g);
  std::vector<Value> grads(
      static_cast<std::size_t>(g.next_id()));  // d output / d node, by id, as far as known
  grads[static_cast<std::size_t>(root)] =
      broadcast_to(b.scalar(1, metric.type.dtype), metric.type.shape);
  for (auto n = g.nodes().rbegin(); n != g.nodes().rend(); ++n) {
    const Value grad = grads[static_cast<std::size_t>(n->id)];
    if (!grad.defined() || !way[static_cast<std::size_t>(n->id)] || n->inputs.empty()) continue;
    const bool needed = std::any_of(n->inputs.begin(), n->inputs.end(),
                                    [&](NodeId i) { return way[static_cast<std::size_t>(i)]; });
    if (!needed) continue;
    if (n->op->vjp == nullptr) {
      throw GraphError(fmt::format("{} (%{}, in '{}') has no gradient, and '{}' depends on it",
                                   n->op->name, n->id, n->scope, output));
    }
    const Builder::Origin origin(b, "grad(" + n->scope + ")", n->line);
    std::vector<Value> in;
    for (const NodeId i : n->inputs) in.push_back(b.value(i));
    const Grads parts = n->op->vjp({b, in, b.value(n->id), grad, n->attributes});
    for (std::size_t i = 0; i < in.size(); ++i) {
      const auto at = static_cast<std::size_t>(n->inputs[i]);
      if (!way[at] || i >= parts.size() || !parts[i].defined()) continue;
      grads[at] = grads[at].defined() ? grads[at] + parts[i] : parts[i];
    }
  }
  for (const Target& t : targets) {
    const Value& known = grads[static_cast<std::size_t>(t.node)];
    const Type& type = g.node(t.node).type;
    b.output(grad_name(t.name), known.defined() && way[static_cast<std::size_t>(t.node)]
                                    ? known
                                    : broadcast_to(b.scalar(0, type.dtype), type.shape));
  }
  return std::move(b).finish();
}

}  // namespace

Graph with_metric(const Graph& graph, const Metric& metric) {
  Builder b(graph);
  b.output(metric.name, metric.emit(b));
  return std::move(b).finish();
}

Graph expand_sites(const Graph& graph, const std::vector<std::string>& names) {
  Graph g = graph;
  for (;;) {
    std::vector<NodeId> hiding;
    for (const std::string& name : names) {
      const SiteEntry& s = g.site(name);
      if (s.interior() && std::find(hiding.begin(), hiding.end(), s.node) == hiding.end())
        hiding.push_back(s.node);
    }
    if (hiding.empty()) return g;
    Builder b(g);
    for (const NodeId id : hiding) b.expand(id);
    g = std::move(b).finish();
  }
}

Graph gradient(const Graph& graph, std::string_view output, const SiteSet& wrt) {
  return differentiate(graph, output, select_sites(wrt, graph.site_names()), {});
}
Graph gradient(const Graph& graph, std::string_view output, const LeafSet& wrt) {
  return differentiate(graph, output, {}, select_sites({wrt.patterns}, leaf_names(graph)));
}
Graph gradient(const Graph& graph, const Metric& metric, const SiteSet& wrt) {
  return gradient(with_metric(graph, metric), metric.name, wrt);
}
Graph gradient(const Graph& graph, const Metric& metric, const LeafSet& wrt) {
  return gradient(with_metric(graph, metric), metric.name, wrt);
}
Graph gradient(const Graph& graph, std::string_view output, const SiteSet& sites,
               const LeafSet& leaves) {
  return differentiate(graph, output, select_sites(sites, graph.site_names()),
                       select_sites({leaves.patterns}, leaf_names(graph)));
}

}  // namespace vitrine
