#include "interp/circuits/circuit_file.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>

#include "tensor/error.h"
#include "tensor/files/json_value.h"
#include "tensor/nearest.h"

namespace vitrine::interp {
namespace {

// What a receiver is computed into: "a0.h1" of "a0.h1<q>".
std::string node_of(const std::string& receiver) { return receiver.substr(0, receiver.find('<')); }

double score_at(const EdgeGrid& grid, const Tensor& scores, const StreamEdge& e) {
  return scores.data<double>()[e.sender * grid.receivers.size() + e.receiver];
}

// Finds edges by their names.
class NamedEdges {
 public:
  NamedEdges(const EdgeGrid& grid, const std::string& file) : grid_(grid), file_(file) {
    for (std::size_t u = 0; u < grid.senders.size(); ++u) senders_[grid.senders[u]] = u;
    for (std::size_t v = 0; v < grid.receivers.size(); ++v) receivers_[grid.receivers[v]] = v;
  }
  StreamEdge operator()(std::string_view from, std::string_view to, const std::string& at) const {
    const auto u = senders_.find(std::string(from));
    const auto v = receivers_.find(std::string(to));
    if (u == senders_.end()) missing(from, grid_.senders, "sender", at);
    if (v == receivers_.end()) missing(to, grid_.receivers, "receiver", at);
    if (!grid_.valid(u->second, v->second)) {
      throw FileError(
          fmt::format("{}: {}: '{}' does not come before '{}' in this model", file_, at, from, to));
    }
    return {u->second, v->second};
  }

 private:
  [[noreturn]] void missing(std::string_view name, const std::vector<std::string>& names,
                            const char* what, const std::string& at) const {
    throw FileError(
        fmt::format("{}: {}: this model has no {} '{}'{}; is the circuit another model's?", file_,
                    at, what, name, did_you_mean(nearest(name, names))));
  }
  const EdgeGrid& grid_;
  const std::string& file_;
  std::map<std::string, std::size_t> senders_, receivers_;
};

double number_or_nan(const JsonValue* value, const std::string& file, const std::string& at) {
  if (value == nullptr || value->is_null()) return std::nan("");
  if (const auto x = value->number()) return *x;
  throw FileError(fmt::format("{}: {}: expected a number, found {}", file, at, value->shown()));
}

bool flag(const JsonValue* value, const std::string& file, const std::string& at) {
  if (value != nullptr && value->boolean() != nullptr) return *value->boolean();
  throw FileError(fmt::format("{}: {}: expected true or false, found {}", file, at,
                              value == nullptr ? "nothing" : value->shown()));
}

}  // namespace

std::string circuit_json(const nn::Config& config, const EdgeGrid& grid, const EdgeMask& circuit,
                         const Tensor& scores) {
  JsonValue json = {{"cfg",
                     {{"n_layers", config.layers},
                      {"n_heads", config.heads},
                      {"parallel_attn_mlp", config.parallel},
                      {"d_model", config.d_model}}}};
  const std::vector<bool> kept = kept_senders(grid, circuit);
  JsonValue nodes = JsonValue::object(), edges = JsonValue::object();
  for (std::size_t u = 0; u < grid.senders.size(); ++u)
    nodes[grid.senders[u]] = {{"in_graph", static_cast<bool>(kept[u])}};
  for (std::size_t v = 0; v < grid.receivers.size(); ++v) {
    if (grid.feeds[v].empty()) nodes[grid.receivers[v]] = {{"in_graph", true}};
  }
  for (const StreamEdge& e : all_edges(grid).edges()) {
    edges[grid.name(e.sender, e.receiver)] = {{"score", score_at(grid, scores, e)},
                                              {"in_graph", circuit.has(e)}};
  }
  json["nodes"] = std::move(nodes);
  json["edges"] = std::move(edges);
  return json.indented();
}

CircuitFile read_circuit(std::string_view text, const std::string& file, const EdgeGrid& grid) {
  const JsonValue json = JsonValue::parse(text, file);
  const JsonValue* edges = json.find("edges");
  if (edges == nullptr || (edges->fields() == nullptr && edges->list_items() == nullptr)) {
    throw FileError(fmt::format(
        "{}: edges: expected an object {{\"input->m0\": {{\"in_graph\": true}}}} or a list of "
        "{{\"from\": \"input\", \"to\": \"m0\"}}",
        file));
  }
  const NamedEdges named(grid, file);
  const Shape shape{std::ssize(grid.senders), std::ssize(grid.receivers)};
  CircuitFile read{EdgeMask(grid), Tensor::full(shape, DType::f64, std::nan(""))};
  const auto put = [&](const StreamEdge& e, double score) {
    read.scores.data<double>()[e.sender * grid.receivers.size() + e.receiver] = score;
  };
  if (const auto* list = edges->list_items()) {
    for (std::size_t i = 0; i < list->size(); ++i) {
      const JsonValue& item = (*list)[i];
      const std::string at = fmt::format("edges[{}]", i);
      const auto name = [&](const char* key) -> const std::string& {
        const JsonValue* value = item.find(key);
        if (value != nullptr && value->text() != nullptr) return *value->text();
        throw FileError(fmt::format("{}: {}.{}: expected the name of a node", file, at, key));
      };
      const StreamEdge e = named(name("from"), name("to"), at);
      if (read.circuit.has(e))
        throw FileError(fmt::format("{}: {}: the edge is there twice", file, at));
      read.circuit.set(e);
      put(e, number_or_nan(item.find("score"), file, at + ".score"));
    }
    return read;
  }
  for (const JsonField& field : *edges->fields()) {
    const std::string at = fmt::format("edges.\"{}\"", field.name);
    const std::size_t arrow = field.name.find("->");
    if (arrow == std::string::npos)
      throw FileError(fmt::format("{}: {}: expected SENDER->RECEIVER", file, at));
    const std::string_view name = field.name;
    const StreamEdge e = named(name.substr(0, arrow), name.substr(arrow + 2), at);
    read.circuit.set(e, flag(field.value.find("in_graph"), file, at + ".in_graph"));
    put(e, number_or_nan(field.value.find("score"), file, at + ".score"));
  }
  return read;
}

std::string circuit_dot(const EdgeGrid& grid, const EdgeMask& circuit, const Tensor& scores) {
  const std::vector<StreamEdge> edges = circuit.edges();
  double largest = 0;
  for (const StreamEdge& e : edges) {
    const double x = score_at(grid, scores, e);
    if (std::isfinite(x)) largest = std::max(largest, std::abs(x));
  }
  // Nodes side by side are of one layer and kind: the name up to ".".
  std::map<std::string, std::vector<std::string>> ranks;
  std::vector<std::string> names;
  const auto node = [&](const std::string& name) {
    if (std::find(names.begin(), names.end(), name) != names.end()) return;
    names.push_back(name);
    ranks[name.substr(0, name.find('.'))].push_back(name);
  };
  for (const StreamEdge& e : edges)
    node(grid.senders[e.sender]), node(node_of(grid.receivers[e.receiver]));

  std::string dot =
      "digraph circuit {\n  rankdir=BT;\n  node [shape=box, fontname=\"Helvetica\"];\n";
  for (const auto& [rank, members] : ranks) {
    if (members.size() < 2) continue;
    dot += "  { rank=same;";
    for (const std::string& name : members) dot += fmt::format(" \"{}\";", name);
    dot += " }\n";
  }
  for (const StreamEdge& e : edges) {
    const std::string& to = grid.receivers[e.receiver];
    const std::size_t bracket = to.find('<');
    const double score = score_at(grid, scores, e);
    const double width =
        std::isfinite(score) && largest > 0 ? 0.5 + 4.5 * std::abs(score) / largest : 1;
    dot += fmt::format("  \"{}\" -> \"{}\" [penwidth={:.2f}, color=\"{}\"", grid.senders[e.sender],
                       node_of(to), width, score < 0 ? "#c0392b" : "#2563a8");
    if (bracket != std::string::npos)
      dot += fmt::format(", label=\"{}\"", to.substr(bracket + 1, to.size() - bracket - 2));
    if (std::isfinite(score)) dot += fmt::format(", tooltip=\"{:+.4g}\"", score);
    dot += "];\n";
  }
  return dot + "}\n";
}

}  // namespace vitrine::interp
