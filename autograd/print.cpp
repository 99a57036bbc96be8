// The graph as text, one line a node, and as a Graphviz drawing.
#include <fmt/format.h>

#include "autograd/graph.h"

namespace vitrine {
namespace {

std::string reference(const Graph& g, NodeId id) {
  const Node& n = g.node(id);
  if (const auto* leaf = std::get_if<LeafName>(&n.attributes)) return leaf->name;
  if (const auto* constant = std::get_if<ConstantValue>(&n.attributes)) {
    if (constant->value.numel() == 1) return to_string(n.attributes);
  }
  return fmt::format("%{}", id);
}

std::string call(const Graph& g, const Node& n) {
  std::string args;
  for (const NodeId i : n.inputs) args += (args.empty() ? "" : ", ") + reference(g, i);
  const bool site = std::holds_alternative<SiteLabel>(n.attributes);
  const std::string attributes = site ? "" : to_string(n.attributes);
  return fmt::format("{}({}){}{}", n.op->name, args, attributes.empty() ? "" : " ", attributes);
}

// Constants and leaves that are only ever named by their readers need no line of their own.
bool printed(const Node& n) {
  const auto* constant = std::get_if<ConstantValue>(&n.attributes);
  return constant == nullptr || constant->value.numel() != 1;
}

std::string escaped(std::string_view text) {
  std::string out;
  for (const char c : text) {
    if (c == '"' || c == '\\') out += '\\';
    out += c;
  }
  return out;
}

}  // namespace

std::string Graph::to_text() const {
  std::string text;
  for (const Node& n : nodes_) {
    if (!printed(n)) continue;
    std::string left, right = call(*this, n);
    if (const auto* leaf = std::get_if<LeafName>(&n.attributes)) {
      left = leaf->name;
      right = std::string(n.op->name);
    } else {
      left = fmt::format("%{}", n.id);
    }
    std::string note;
    if (const auto* site = std::get_if<SiteLabel>(&n.attributes)) {
      note = site->name;
      std::string axes;
      for (const Axis a : site->axes) axes += fmt::format("{}{}", axes.empty() ? "" : ", ", name_of(a));
      note += " [" + axes + "]";
    }
    for (const SiteEntry& s : sites_) {
      if (s.interior() && s.node == n.id) note += (note.empty() ? "holds " : ", ") + s.name;
    }
    for (const auto& [name, id] : outputs_) {
      if (id == n.id) note += fmt::format("{}-> {}", note.empty() ? "" : "  ", name);
    }
    text += fmt::format("{:<5} : {:<14} = {}{}{}\n", left, to_string(n.type), right, note.empty() ? "" : "  # ", note);
  }
  return text;
}

std::string Graph::to_dot() const {
  std::string text = "digraph vitrine {\n  rankdir=TB; node [fontname=\"monospace\" fontsize=10 shape=ellipse];\n";
  for (const Node& n : nodes_) {
    if (!printed(n)) continue;
    std::string label = std::string(n.op->name), style;
    if (const auto* leaf = std::get_if<LeafName>(&n.attributes)) {
      label = leaf->name;
      style = n.op->name == "parameter" ? " shape=cylinder style=filled fillcolor=\"#eeeeee\"" : " shape=house";
    } else if (const auto* site = std::get_if<SiteLabel>(&n.attributes)) {
      label = site->name;
      style = " shape=box style=filled fillcolor=\"#fff2cc\"";
    }
    text += fmt::format("  n{} [label=\"{}\\n{}\"{}];\n", n.id, escaped(label), to_string(n.type), style);
    for (const NodeId i : n.inputs) {
      if (printed(node(i))) text += fmt::format("  n{} -> n{};\n", i, n.id);
    }
    for (const SiteEntry& s : sites_) {
      if (!s.interior() || s.node != n.id) continue;
      text += fmt::format("  \"{}\" [shape=box style=\"filled,dashed\" fillcolor=\"#fff9e8\"];\n", escaped(s.name));
      text += fmt::format("  \"{}\" -> n{} [style=dashed arrowhead=none];\n", escaped(s.name), n.id);
    }
  }
  return text + "}\n";
}

}  // namespace vitrine
