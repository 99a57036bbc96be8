// The graph as text, one line a node, and as a Graphviz drawing.
#include <fmt/format.h>

#include "autograd/graph/graph.h"

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

std::vector<std::string_view> axis_names(const Axes& axes) {
  std::vector<std::string_view> names;
  for (const Axis a : axes) names.push_back(name_of(a));
  return names;
}

std::string call(const Graph& g, const Node& n) {
  std::string args;
  for (const NodeId i : n.inputs) args += (args.empty() ? "" : ", ") + reference(g, i);
  const bool site = std::holds_alternative<SiteLabel>(n.attributes);
  const std::string attributes =
      site ? "" : to_string(n.attributes);  // a site's label goes into the note
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
  struct Line {
    std::string left, type, right, note;
  };
  std::vector<Line> lines;
  std::size_t left_width = 0, type_width = 0, right_width = 0;
  for (const Node& n : nodes_) {
    if (!printed(n)) continue;
    Line line{reference(*this, n.id), to_string(n.type), call(*this, n), {}};
    if (std::holds_alternative<LeafName>(n.attributes)) line.right = std::string(n.op->name);
    std::vector<std::string> notes;
    if (const auto* site = std::get_if<SiteLabel>(&n.attributes)) {
      notes.push_back(fmt::format("{} [{}]", site->name, fmt::join(axis_names(site->axes), ", ")));
    }
    std::vector<std::string> inside;
    for (const SiteEntry& s : sites_) {
      if (s.interior() && s.node == n.id) inside.push_back(s.name);
    }
    if (!inside.empty()) notes.push_back(fmt::format("inside: {}", fmt::join(inside, ", ")));
    for (const auto& [name, id] : outputs_) {
      if (id == n.id) notes.push_back("-> " + name);
    }
    line.note = fmt::format("{}", fmt::join(notes, "  "));
    left_width = std::max(left_width, line.left.size());
    type_width = std::max(type_width, line.type.size());
    if (!line.note.empty()) right_width = std::max(right_width, line.right.size());
    lines.push_back(std::move(line));
  }
  std::string text;
  for (const Line& l : lines) {
    text += fmt::format("{:<{}} : {:<{}} = ", l.left, left_width, l.type, type_width);
    text += l.note.empty() ? l.right
                           : fmt::format("{:<{}}  # {}", l.right,
                                         std::min<std::size_t>(right_width, 34), l.note);
    text += "\n";
  }
  return text;
}

std::string Graph::to_dot() const {
  std::string text =
      "digraph vitrine {\n  rankdir=TB; node [fontname=\"monospace\" fontsize=10 shape=ellipse];\n";
  for (const Node& n : nodes_) {
    if (!printed(n)) continue;
    std::string label = std::string(n.op->name), style;
    if (const auto* leaf = std::get_if<LeafName>(&n.attributes)) {
      label = leaf->name;
      style = n.op->kind == OpKind::parameter ? " shape=cylinder style=filled fillcolor=\"#eeeeee\""
                                              : " shape=house";
    } else if (const auto* site = std::get_if<SiteLabel>(&n.attributes)) {
      label = site->name;
      style = " shape=box style=filled fillcolor=\"#fff2cc\"";
    }
    text += fmt::format("  n{} [label=\"{}\\n{}\"{}];\n", n.id, escaped(label), to_string(n.type),
                        style);
    for (const NodeId i : n.inputs) {
      if (printed(node(i))) text += fmt::format("  n{} -> n{};\n", i, n.id);
    }
    for (const SiteEntry& s : sites_) {
      if (!s.interior() || s.node != n.id) continue;
      text += fmt::format("  \"{}\" [shape=box style=\"filled,dashed\" fillcolor=\"#fff9e8\"];\n",
                          escaped(s.name));
      text +=
          fmt::format("  \"{}\" -> n{} [style=dashed arrowhead=none];\n", escaped(s.name), n.id);
    }
  }
  return text + "}\n";
}

}  // namespace vitrine
