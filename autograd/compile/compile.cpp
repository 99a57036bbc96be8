// The compiler: resolves the names of wanted values, runs the optimisation passes over the graph,
// and lays it out as a program (compile/phases.h).
#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <optional>
#include <utility>

#include "autograd/compile/optimise.h"
#include "autograd/compile/phases.h"
#include "autograd/transform/expand.h"
#include "autograd/transform/gradient.h"
#include "tensor/error.h"

namespace vitrine {

std::string Fetch::key() const {
  std::string key;
  for (const Want& w : wants) key += fmt::format("{}:{};", static_cast<int>(w.kind), w.pattern);
  return key;
}

namespace {

std::vector<std::string> wanted_sites(const Graph& g, const Fetch& wanted) {
  std::vector<std::string> names;
  for (const Want& w : wanted.wants) {
    if (w.kind != Want::Kind::site && w.kind != Want::Kind::before) continue;
    const auto found = select_sites({w.pattern}, g.site_names());
    names.insert(names.end(), found.begin(), found.end());
  }
  return names;
}

// The gradients that were asked for must have been added by gradient().
std::vector<std::string> wanted_grads(const Graph& g, const Want& w) {
  std::vector<std::string> sites, leaves;
  for (const auto& [name, id] : g.outputs()) {
    if (!name.starts_with("grad(") || !name.ends_with(")")) continue;
    const std::string of = name.substr(5, name.size() - 6);
    (g.find_site(of) != nullptr ? sites : leaves).push_back(of);
  }
  const auto& known = w.kind == Want::Kind::grad_of_site ? sites : leaves;
  if (known.empty()) {
    throw GraphError(fmt::format(
        "the graph has no gradient of '{}': add it with gradient(graph, metric, ...) first",
        w.pattern));
  }
  return select_sites({w.pattern}, known);
}

}  // namespace

std::vector<WantedNode> wanted_nodes(const Graph& g, const Fetch& wanted) {
  std::vector<WantedNode> nodes;
  for (const Want& w : wanted.wants) {
    switch (w.kind) {
      case Want::Kind::site:
        for (const auto& name : select_sites({w.pattern}, g.site_names())) {
          nodes.push_back({name, g.site(name).node, g.site(name).axes});
        }
        break;
      case Want::Kind::before:
        for (const auto& name : select_sites({w.pattern}, g.site_names())) {
          nodes.push_back({before_name(name), g.site(name).before, g.site(name).axes});
        }
        break;
      case Want::Kind::output:
        nodes.push_back({w.pattern, g.output(w.pattern), {}});
        break;
      case Want::Kind::grad_of_site:
      case Want::Kind::grad_of_leaf:
        for (const auto& name : wanted_grads(g, w)) {
          const SiteEntry* site = g.find_site(name);
          nodes.push_back(
              {grad_name(name), g.output(grad_name(name)), site != nullptr ? site->axes : Axes{}});
        }
        break;
    }
  }
  // An output that is a site's value has that site's axes.
  for (WantedNode& n : nodes) {
    if (!n.axes.empty()) continue;
    for (const SiteEntry& s : g.sites()) {
      if (s.node == n.node) n.axes = s.axes;
    }
  }
  return nodes;
}

std::vector<LeafUpdate> leaf_updates(const Graph& g, const Updates& updates) {
  std::vector<LeafUpdate> found;
  for (const auto& [leaf, output] : updates) {
    const LeafUpdate u{g.leaf(leaf), g.output(output)};
    if (u.leaf == kNoNode)
      throw GraphError(fmt::format("there is no input or parameter '{}' to update", leaf));
    if (!(g.node(u.leaf).type == g.node(u.value).type)) {
      throw GraphError(fmt::format("'{}' is {}; it cannot be updated by '{}', a {}", leaf,
                                   to_string(g.node(u.leaf).type), output,
                                   to_string(g.node(u.value).type)));
    }
    if (std::holds_alternative<LeafName>(g.node(u.value).attributes) && u.leaf != u.value) {
      throw GraphError(fmt::format("'{}' cannot be updated by another leaf, '{}'", leaf, output));
    }
    found.push_back(u);
  }
  return found;
}

namespace {

// Everything that must have its whole value.
std::vector<NodeId> ids_of(const Graph& g, const Fetch& wanted, const Updates& updates) {
  std::vector<NodeId> ids;
  for (const WantedNode& w : wanted_nodes(g, wanted)) ids.push_back(w.node);
  for (const auto& [leaf, output] : updates) ids.push_back(g.output(output));
  return ids;
}

// The names of the inputs, sorted.
std::vector<std::string> inputs_of(const Graph& g) {
  std::vector<std::string> names;
  for (const Node& n : g.nodes()) {
    const auto* leaf = std::get_if<LeafName>(&n.attributes);
    if (leaf != nullptr && n.op->kind != OpKind::parameter) names.push_back(leaf->name);
  }
  std::sort(names.begin(), names.end());
  return names;
}

// The graph with what is wanted as nodes, then with less to compute for it: by each pass where it
// finds something to do. Counts in `stats` what each found.
Graph rewritten(const Graph& graph, const Fetch& wanted, const Updates& updates,
                Plan::Stats& stats) {
  struct Pass {
    std::optional<Narrowed> (*narrow)(const Graph&, std::span<const NodeId>);
    int& count;
  };
  Graph g = expand_sites(graph, wanted_sites(graph, wanted));
  for (const Pass& pass :
       {Pass{narrow_columns, stats.narrowed_columns},
        Pass{narrow_sparse_products, stats.sparse_products},
        Pass{sum_before_products, stats.summed_products}, Pass{narrow_rows, stats.narrowed}}) {
    if (auto narrowed = pass.narrow(g, ids_of(g, wanted, updates))) {
      g = std::move(narrowed->graph);
      pass.count = narrowed->nodes;
    }
  }
  return g;
}

}  // namespace

Plan compile(const Graph& graph, const Fetch& wanted, const Updates& updates) {
  Plan::Stats rewriting;
  auto compiled = std::make_shared<Plan::Compiled>();
  compiled->inputs = inputs_of(graph);
  compiled->graph = rewritten(graph, wanted, updates, rewriting);
  const Graph& g = compiled->graph;
  const std::vector<WantedNode> results = wanted_nodes(g, wanted);
  const std::vector<LeafUpdate> new_values = leaf_updates(g, updates);
  std::vector<NodeId> ids;
  for (const WantedNode& w : results) ids.push_back(w.node);
  for (const LeafUpdate& u : new_values) ids.insert(ids.end(), {u.leaf, u.value});
  const Pruned pruned = prune(g, ids);

  Draft draft = lay_out(g, pruned, ids);
  draft = place_results(std::move(draft), results);
  draft = place_updates(std::move(draft), new_values);
  draft = write_over_inputs(std::move(draft));
  draft = place_in_arena(std::move(draft));

  Plan::Stats& stats = compiled->stats = draft.stats;
  stats.nodes = static_cast<int>(g.nodes().size());
  stats.steps = static_cast<int>(draft.program.steps.size());
  stats.dead = pruned.dead;
  stats.identities = pruned.identities;
  stats.duplicates = pruned.duplicates;
  const StoredWeights weights = stored_weights(draft.program);
  stats.stored = static_cast<int>(weights.as_stored.size());
  stats.widened = static_cast<int>(weights.in_full.size());
  stats.narrowed_columns = rewriting.narrowed_columns;
  stats.sparse_products = rewriting.sparse_products;
  stats.summed_products = rewriting.summed_products;
  stats.narrowed = rewriting.narrowed;
  compiled->program = std::move(draft.program);
  compiled->timing = std::make_unique<Timing>(compiled->program.steps.size());
  compiled->memory = std::make_shared<MemoryPool>(4 * (stats.arena_bytes + stats.result_bytes));
  Plan plan;
  plan.compiled_ = std::move(compiled);
  return plan;
}

}  // namespace vitrine
