#include "sae/graphs/viewer_graph.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <map>
#include <set>

#include "sae/graphs/node_names.h"
#include "tensor/error.h"

namespace vitrine::sae {
namespace {

ViewerNode seen_node(const AttributionGraph& graph, const PrunedGraph& pruned, std::int64_t n,
                     const ViewerSpec& spec) {
  const std::int64_t positions = graph.positions();
  ViewerNode node{.id = node_name(graph, n),
                  .influence = pruned.cumulative[static_cast<std::size_t>(n)]};
  if (n < graph.first_error()) {
    const ActiveFeature& f = graph.features[static_cast<std::size_t>(n)];
    node.layer = f.layer;
    node.position = f.position;
    node.number = f.feature;
    node.activation = f.activation;
    node.js_id = fmt::format("{}_{}-0", f.layer, f.feature);
  } else if (n < graph.first_token()) {
    node.kind = ViewerNodeKind::error;
    node.layer = static_cast<int>((n - graph.first_error()) / positions);
    node.position = (n - graph.first_error()) % positions;
    node.js_id = fmt::format("{}_{}-0", node.layer, node.position);
  } else if (n < graph.first_logit()) {
    node.kind = ViewerNodeKind::token;
    node.position = n - graph.first_token();
    node.number = graph.prompt[static_cast<std::size_t>(node.position)];
    node.js_id = fmt::format("E_{}-{}", node.number, node.position);
  } else {
    const auto k = static_cast<std::size_t>(n - graph.first_logit());
    node.kind = ViewerNodeKind::logit;
    node.layer = graph.layers + 1;
    node.position = positions - 1;
    node.number = graph.logit_tokens[k];
    node.probability = graph.logit_probabilities[k];
    node.is_target = k == 0;
    node.js_id = fmt::format("L_{}-{}", node.number, node.position);
    const int id = graph.logit_tokens[k];
    node.label = fmt::format("Output \"{}\" (p={:.3f})",
                             spec.text ? spec.text(id) : fmt::format("{}", id), node.probability);
    node.influence = {};
  }
  return node;
}

// The shortest decimal number that is this float: files have no more digits than it has.
double shortest(float x) { return std::strtod(fmt::format("{}", x).c_str(), nullptr); }

[[noreturn]] void refuse_supernode(const std::string& message) {
  throw Error(ErrorKind::usage, message);
}

}  // namespace

std::string_view name_of(ViewerNodeKind kind) {
  switch (kind) {
    case ViewerNodeKind::feature:
      return "cross layer transcoder";
    case ViewerNodeKind::error:
      return "mlp reconstruction error";
    case ViewerNodeKind::token:
      return "embedding";
    case ViewerNodeKind::logit:
      break;
  }
  return "logit";
}

std::optional<std::int32_t> ViewerGraph::find(std::string_view id) const {
  const auto at =
      std::find_if(nodes.begin(), nodes.end(), [&](const ViewerNode& n) { return n.id == id; });
  if (at == nodes.end()) return {};
  return static_cast<std::int32_t>(at - nodes.begin());
}

void ViewerGraph::check_supernodes() const {
  std::set<std::string> names;
  std::map<std::string, std::string> owner;
  std::set<std::string> known;
  for (const ViewerNode& n : nodes) known.insert(n.id);
  for (const Supernode& s : supernodes) {
    if (s.name.empty()) refuse_supernode("a supernode has no name");
    if (known.contains(s.name))
      refuse_supernode(fmt::format("the supernode '{0}' has the name of the node {0}", s.name));
    if (!names.insert(s.name).second)
      refuse_supernode(
          fmt::format("two supernodes are called '{}'; each needs a name of its own", s.name));
    if (s.nodes.empty()) refuse_supernode(fmt::format("the supernode '{}' has no nodes", s.name));
    for (const std::string& node : s.nodes) {
      if (!known.contains(node))
        refuse_supernode(fmt::format(
            "the supernode '{}' has a node {} that the graph does not have", s.name, node));
      const auto [at, fresh] = owner.emplace(node, s.name);
      if (!fresh)
        refuse_supernode(
            at->second == s.name
                ? fmt::format("the supernode '{}' has the node {} twice", s.name, node)
                : fmt::format("the node {} is in two supernodes, '{}' and '{}'; a node is in one",
                              node, at->second, s.name));
    }
  }
}

ViewerGraph viewer_graph(const AttributionGraph& graph, const PrunedGraph& pruned,
                         const ViewerSpec& spec) {
  std::vector<bool> used(static_cast<std::size_t>(graph.nodes()), false);
  std::fill(used.begin() + graph.first_token(), used.end(), true);
  for (const PrunedGraph::Edge& e : pruned.edges)
    used[static_cast<std::size_t>(e.source)] =
        used[static_cast<std::size_t>(graph.node_of_target(e.target))] = true;
  for (const Supernode& s : spec.supernodes) {
    for (const std::string& name : s.nodes)
      used[static_cast<std::size_t>(node_named(graph, name))] = true;
  }
  ViewerGraph seen{.slug = spec.slug,
                   .scan = spec.scan,
                   .node_threshold = spec.node_threshold,
                   .supernodes = spec.supernodes};
  std::vector<std::int32_t> number(used.size(), -1);
  for (std::int64_t n = 0; n < graph.nodes(); ++n) {
    if (!used[static_cast<std::size_t>(n)]) continue;
    number[static_cast<std::size_t>(n)] = static_cast<std::int32_t>(seen.nodes.size());
    seen.nodes.push_back(seen_node(graph, pruned, n, spec));
  }
  for (const PrunedGraph::Edge& e : pruned.edges)
    seen.links.push_back({number[static_cast<std::size_t>(e.source)],
                          number[static_cast<std::size_t>(graph.node_of_target(e.target))],
                          shortest(e.weight)});
  for (const int id : graph.prompt) {
    seen.prompt_tokens.push_back(spec.text ? spec.text(id) : fmt::format("{}", id));
    seen.prompt += (seen.prompt.empty() || spec.text ? "" : " ") + seen.prompt_tokens.back();
  }
  seen.check_supernodes();
  return seen;
}

std::vector<MergedLink> merged_links(const ViewerGraph& graph) {
  std::vector<std::int64_t> whole(graph.nodes.size());  // the node, or the supernode after them
  std::vector<std::string> names;
  std::map<std::string_view, std::int64_t> numbers;
  for (std::size_t n = 0; n < graph.nodes.size(); ++n) {
    whole[n] = static_cast<std::int64_t>(n);
    numbers.emplace(graph.nodes[n].id, whole[n]);
    names.push_back(graph.nodes[n].id);
  }
  for (const Supernode& s : graph.supernodes) {
    for (const std::string& node : s.nodes)
      whole[static_cast<std::size_t>(numbers.at(node))] = std::ssize(names);
    names.push_back(s.name);
  }
  std::map<std::pair<std::int64_t, std::int64_t>, std::pair<double, std::int64_t>> sums;
  for (const ViewerLink& l : graph.links) {
    const std::int64_t from = whole[static_cast<std::size_t>(l.source)],
                       to = whole[static_cast<std::size_t>(l.target)];
    if (from == to) continue;
    auto& [weight, count] = sums[{from, to}];
    weight += l.weight;
    ++count;
  }
  std::vector<MergedLink> links;
  for (const auto& [ends, sum] : sums)
    links.push_back({names[static_cast<std::size_t>(ends.first)],
                     names[static_cast<std::size_t>(ends.second)], sum.first, sum.second});
  std::stable_sort(links.begin(), links.end(), [](const MergedLink& a, const MergedLink& b) {
    return std::abs(a.weight) > std::abs(b.weight);
  });
  return links;
}

}  // namespace vitrine::sae
