#include "apps/drawings/formula.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>

#include "apps/terminal/numbers.h"
#include "tensor/error.h"

namespace vitrine::app {
namespace {

constexpr std::string_view kBlocks = "blocks.";

// How an op is written: its operands, how tightly the whole binds, and how tightly operands must.
struct Notation {
  std::string_view op, text;
  int binds;
  std::array<int, 2> operands;
};
constexpr Notation kNotations[] = {
    {"add", "{0} + {1}", 1, {1, 1}},
    {"sub", "{0} − {1}", 1, {1, 2}},
    {"mul", "{0} · {1}", 2, {2, 2}},
    {"div", "{0} / {1}", 2, {2, 3}},
    {"neg", "−{0}", 2, {3, 3}},
    {"square", "{0}²", 3, {3, 3}},
    {"sqrt", "√({0})", 3, {1, 1}},
    {"matmul", "{0} {1}", 2, {3, 3}},
    {"gather_rows", "{0}[{1}]", 3, {3, 1}},
    {"attention_mix", "{0} {1}", 2, {3, 3}},
    {"gelu_tanh", "gelu({0})", 3, {1, 1}},
    {"gelu_erf", "gelu({0})", 3, {1, 1}},
    {"rotary", "rotary({0}, {1})", 3, {1, 1}},
};

// What is written as what it is made of: the same numbers in another order, or a part of them.
bool is_silent(const OpDef& op) {
  return op.kind == OpKind::rearrangement || op.kind == OpKind::identity ||
         op.kind == OpKind::detach || op.name == "slice" || op.name == "cast";
}

void note(std::vector<std::string>& list, const std::string& name) {
  if (std::find(list.begin(), list.end(), name) == list.end()) list.push_back(name);
}

// "W_Q" of "blocks.0.attn.W_Q", "ln1.w" of "blocks.0.ln1.w".
std::string short_weight(const std::string& label) {
  const std::string last = label.substr(label.find_last_of('.') + 1);
  return last.size() > 1 && last[1] == '_' ? last : short_site(label);
}

std::string short_number(double x) { return fmt::format("{:.4g}", x); }

}  // namespace

int layer_of_site(std::string_view name) {
  if (!name.starts_with(kBlocks)) return -1;
  name.remove_prefix(kBlocks.size());
  return number_in<int>(std::string(name.substr(0, name.find('.')))).value_or(-1);
}

std::string short_site(std::string_view name) {
  std::string text(layer_of_site(name) < 0 ? name
                                           : name.substr(name.find('.', kBlocks.size()) + 1));
  if (text.starts_with("attn.")) text.erase(0, 5);
  if (const auto hook = text.find("hook_"); hook != std::string::npos) text.erase(hook, 5);
  return text;
}

FormulaWriter::FormulaWriter(const Graph& graph) : graph_(graph) {
  for (const SiteEntry& site : graph.sites()) {
    if (site.interior()) hidden_[site.node].push_back(site.name);
    else sites_[site.node] = site.name;
  }
  for (const auto& [label, node] : graph.weights()) weights_.emplace(node, label);
}

Formula FormulaWriter::of(std::string_view site) const {
  const SiteEntry& entry = graph_.site(site);
  if (entry.interior())
    throw GraphError(
        fmt::format("'{}' is inside the op {}; expand it", site, graph_.node(entry.node).op->name));
  Formula formula;
  Writing to{layer_of_site(site), formula};
  formula.text = write(entry.before, to).text;
  return formula;
}

FormulaWriter::Text FormulaWriter::write(NodeId id, Writing& to) const {
  const Node& node = graph_.node(id);
  if (const auto site = sites_.find(id); site != sites_.end()) {
    note(to.formula.sites, site->second);
    const int layer = layer_of_site(site->second);
    std::string name = short_site(site->second);
    if (layer != to.layer && layer >= 0)
      name += to.layer < 0 ? fmt::format("[{}]", layer) : fmt::format("[L−{}]", to.layer - layer);
    return {name, 3};
  }
  if (const auto weight = weights_.find(id); weight != weights_.end()) {
    const auto known = [&](const auto& w) { return w.first == weight->second; };
    auto& weights = to.formula.weights;
    if (std::none_of(weights.begin(), weights.end(), known))
      weights.emplace_back(weight->second, node.type.shape);
    return {short_weight(weight->second), 3};
  }
  if (const auto* leaf = std::get_if<LeafName>(&node.attributes)) {
    const bool weight = node.op->kind == OpKind::parameter;
    if (weight) to.formula.weights.emplace_back(leaf->name, node.type.shape);
    else note(to.formula.inputs, leaf->name);
    return {leaf->name.starts_with("rows.") ? leaf->name.substr(5) : leaf->name, 3};
  }
  if (const auto* constant = std::get_if<ConstantValue>(&node.attributes)) {
    if (constant->value.numel() != 1) return {"constant", 3};
    return {short_number(constant->value.to_vector<double>()[0]), 3};
  }
  if (is_silent(*node.op)) return write(node.inputs[0], to);
  if (std::find(to.formula.ops.begin(), to.formula.ops.end(), node.op) == to.formula.ops.end())
    to.formula.ops.push_back(node.op);
  if (const auto inside = hidden_.find(id); inside != hidden_.end()) {
    for (const std::string& name : inside->second) note(to.formula.hidden, name);
  }
  return write_op(node, to);
}

std::string FormulaWriter::operand(const Node& node, std::size_t input, int binds,
                                   Writing& to) const {
  const Text text = write(node.inputs[input], to);
  return text.binds < binds ? "(" + text.text + ")" : text.text;
}

// A bias that a family does not have is a vector of zeros.
bool FormulaWriter::is_zero(NodeId id) const {
  const auto* constant = std::get_if<ConstantValue>(&graph_.node(id).attributes);
  if (constant == nullptr) return false;
  const auto values = constant->value.to_vector<double>();
  return std::all_of(values.begin(), values.end(), [](double x) { return x == 0; });
}

// Over which axis: "head".
std::string FormulaWriter::sum_name(const Node& node) const {
  const auto& axes = std::get<AxisList>(node.attributes).axes;
  const Node& in = graph_.node(node.inputs[0]);
  if (axes.size() != 1) return "";
  if (const auto site = sites_.find(in.id); site != sites_.end())
    return "_" +
           std::string(name_of(graph_.site(site->second).axes[static_cast<std::size_t>(axes[0])]));
  return axes[0] + 1 == in.type.shape.size() ? "_feature" : "";
}

FormulaWriter::Text FormulaWriter::write_op(const Node& node, Writing& to) const {
  const std::string_view op = node.op->name;
  if (op == "linear" || op == "heads_in") {  // x w + bias
    const auto* rule = std::get_if<HeadsRule>(&node.attributes);
    const bool biased = rule == nullptr ? node.inputs.size() > 2 : rule->biased;
    const std::string product = operand(node, 0, 3, to) + " " + operand(node, 1, 3, to);
    if (!biased || is_zero(node.inputs[2])) return {product, 2};
    return {product + " + " + operand(node, 2, 1, to), 1};
  }
  if (op == "add" && is_zero(node.inputs[1])) return write(node.inputs[0], to);
  if (op == "mul" && graph_.node(node.inputs[0]).op->name == "sum") {  // sum / n is a mean
    const Node& sum = graph_.node(node.inputs[0]);
    const auto* by = std::get_if<ConstantValue>(&graph_.node(node.inputs[1]).attributes);
    const double n = static_cast<double>(numel(graph_.node(sum.inputs[0]).type.shape)) /
                     static_cast<double>(std::max<std::int64_t>(1, numel(sum.type.shape)));
    if (by != nullptr && by->value.numel() == 1 &&
        std::abs(by->value.to_vector<double>()[0] * n - 1) < 1e-3)
      return {"mean" + sum_name(sum) + "(" + operand(sum, 0, 1, to) + ")", 3};
  }
  if (op == "sum") return {"Σ" + sum_name(node) + " " + operand(node, 0, 2, to), 2};
  if (op == "attention_scores") {
    const double scale = std::get<ScoreScale>(node.attributes).scale;
    const std::string product = operand(node, 0, 3, to) + " " + operand(node, 1, 3, to) + "ᵀ";
    return {scale == 1 ? product : short_number(scale) + " · " + product, 2};
  }
  if (op == "mask") {
    const auto window = std::get<Visibility>(node.attributes).window;
    const std::string more = window > 0 ? fmt::format(", the last {} keys", window) : "";
    return {"mask(" + operand(node, 0, 1, to) + more + ")", 3};
  }
  if (op == "softcap") {
    const std::string cap = short_number(std::get<SoftcapRule>(node.attributes).cap);
    return {fmt::format("{} · tanh({} / {})", cap, operand(node, 0, 2, to), cap), 2};
  }
  for (const Notation& n : kNotations) {
    if (n.op != op) continue;
    std::array<std::string, 2> texts;
    for (std::size_t i = 0; i < std::min<std::size_t>(2, node.inputs.size()); ++i)
      texts[i] = operand(node, i, n.operands[i], to);
    return {fmt::format(fmt::runtime(n.text), texts[0], texts[1]), n.binds};
  }
  std::string list;
  for (std::size_t i = 0; i < node.inputs.size(); ++i)
    list += (i > 0 ? ", " : "") + operand(node, i, 1, to);
  return {fmt::format("{}({})", op, list), 3};
}

}  // namespace vitrine::app
