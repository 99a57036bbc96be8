#include "autograd/graph/graph.h"

#include <fmt/format.h>

#include "tensor/error.h"
#include "tensor/nearest.h"

namespace vitrine {

std::string to_string(const Type& type) {
  return fmt::format("{}{}", name_of(type.dtype), to_string(type.shape));
}

bool Graph::contains(NodeId id) const {
  return id >= 0 && id < next_id() && position_[static_cast<std::size_t>(id)] >= 0;
}

const Node& Graph::node(NodeId id) const {
  if (!contains(id))
    throw GraphError(fmt::format("the graph has no node %{} (it has {} nodes)", id, nodes_.size()));
  return nodes_[static_cast<std::size_t>(position_[static_cast<std::size_t>(id)])];
}

std::vector<std::string> Graph::site_names() const {
  std::vector<std::string> names;
  for (const SiteEntry& s : sites_) names.push_back(s.name);
  return names;
}

const SiteEntry* Graph::find_site(std::string_view name) const {
  const auto it = site_index_.find(name);
  return it == site_index_.end() ? nullptr : &sites_[it->second];
}

const SiteEntry& Graph::site(std::string_view name) const {
  if (const SiteEntry* entry = find_site(name)) return *entry;
  const auto names = site_names();
  throw SiteError(fmt::format("there is no site '{}'{}", name, did_you_mean(nearest(name, names))));
}

NodeId Graph::output(std::string_view name) const {
  const auto it = outputs_.find(name);
  if (it != outputs_.end()) return it->second;
  std::vector<std::string> names;
  for (const auto& [known, id] : outputs_) names.push_back(known);
  throw GraphError(
      fmt::format("the graph has no output '{}'; it has: {}", name, fmt::join(names, ", ")));
}

NodeId Graph::leaf(std::string_view name) const {
  const auto it = leaves_.find(name);
  return it == leaves_.end() ? kNoNode : it->second;
}

bool is_identity(const Node& node) {
  return node.op->kind == OpKind::identity || node.op->kind == OpKind::detach;
}
bool passes_on(const Node& node) { return node.op->kind == OpKind::identity; }

bool selects_rows(const Graph& graph, const Node& node) {
  if (node.op->kind != OpKind::selection) return false;
  if (const auto* range = std::get_if<Range>(&node.attributes)) return range->axis == 0;
  return node.inputs.size() == 2 && graph.node(node.inputs[1]).type.shape.size() == 1;
}

void verify(const Graph& graph) {
  std::vector<bool> seen(static_cast<std::size_t>(graph.next_id()), false);
  const auto fault = [](const Node& n, const std::string& what) {
    return GraphError(fmt::format("node %{} ({}, in '{}', line {}): {}", n.id, n.op->name, n.scope,
                                  n.line.line, what));
  };
  for (const Node& n : graph.nodes()) {
    std::vector<Type> in;
    for (const NodeId i : n.inputs) {
      if (!graph.contains(i)) throw fault(n, fmt::format("its input %{} is not in the graph", i));
      if (!seen[static_cast<std::size_t>(i)])
        throw fault(n, fmt::format("it stands before its input %{}", i));
      in.push_back(graph.node(i).type);
    }
    if (seen[static_cast<std::size_t>(n.id)]) throw fault(n, "its id is used twice");
    seen[static_cast<std::size_t>(n.id)] = true;
    if (const std::string missing = what_is_missing(*n.op); !missing.empty())
      throw fault(n, fmt::format("the row of its op is not complete: {}", missing));
    if (const OpDef* listed = find_op(n.op->name); listed != nullptr && listed != n.op)
      throw fault(n, "the table has another op of this name");
    if (std::holds_alternative<LeafName>(n.attributes)) in = {n.type};
    Type type;
    try {
      type = n.op->infer({in, n.attributes});
    } catch (const ShapeError& e) {
      throw fault(n, e.what());
    }
    if (!(type == n.type)) {
      throw fault(n, fmt::format("its type is {}, but the shape rule gives {}", to_string(n.type),
                                 to_string(type)));
    }
  }
  for (const SiteEntry& s : graph.sites()) {
    if (!graph.contains(s.node)) throw GraphError(fmt::format("site '{}' names no node", s.name));
    const Node& n = graph.node(s.node);
    if (s.interior()) {
      if (n.op->interior == nullptr)
        throw fault(n, fmt::format("site '{}' lies inside it, but it has no inside", s.name));
    } else if (!(n.type == s.type)) {
      throw fault(n, fmt::format("site '{}' is {}, its node is {}", s.name, to_string(s.type),
                                 to_string(n.type)));
    }
  }
  for (const auto& [name, id] : graph.outputs()) {
    if (!graph.contains(id)) throw GraphError(fmt::format("output '{}' names no node", name));
  }
  for (const auto& [name, id] : graph.weights()) {
    if (!graph.contains(id)) throw GraphError(fmt::format("weight '{}' names no node", name));
  }
}

std::vector<Fact> facts(const Graph& graph) {
  std::vector<Fact> by_id(static_cast<std::size_t>(graph.next_id()));
  std::vector<Fact> result;
  for (const Node& n : graph.nodes()) {
    if (n.op->fact != nullptr) {
      std::vector<Type> in;
      std::vector<Fact> known;
      for (const NodeId i : n.inputs) {
        in.push_back(graph.node(i).type);
        known.push_back(by_id[static_cast<std::size_t>(i)]);
      }
      by_id[static_cast<std::size_t>(n.id)] =
          n.op->fact({in, n.type, n.attributes, known, n.inputs});
    }
    result.push_back(by_id[static_cast<std::size_t>(n.id)]);
  }
  return result;
}

}  // namespace vitrine
