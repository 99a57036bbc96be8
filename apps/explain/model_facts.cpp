#include "apps/explain/model_facts.h"

#include <algorithm>
#include <map>
#include <tuple>

#include "apps/drawings/formula.h"
#include "apps/drawings/model_drawing.h"
#include "autograd/transform/expand.h"
#include "autograd/transform/gradient.h"
#include "nn/model/metrics.h"

namespace vitrine::app {
namespace {

std::int64_t flops_of(const Graph& graph, const Node& node) {
  if (node.op->flops == nullptr) return 0;
  std::vector<Type> in;
  for (const NodeId input : node.inputs) in.push_back(graph.node(input).type);
  return node.op->flops({in, node.attributes}, node.type);
}

std::int64_t count_of(const Graph& graph, const OpDef& op, NodeId from = 0) {
  return std::count_if(graph.nodes().begin(), graph.nodes().end(),
                       [&](const Node& n) { return n.op == &op && n.id >= from; });
}

// "blocks.L" of "blocks.3"
std::string any_layer(const std::string& scope) {
  const int layer = layer_of_site(scope + ".");
  if (layer < 0) return scope;
  return "blocks.L" + scope.substr(std::string("blocks.").size() + std::to_string(layer).size());
}

// "f32[5, 256], f32[256] → f32[5, 256]"
std::string type_text(const Graph& graph, const Node& node) {
  std::string text;
  for (const NodeId input : node.inputs)
    text += (text.empty() ? "" : ", ") + to_string(graph.node(input).type);
  return text + (text.empty() ? "" : " → ") + to_string(node.type);
}

}  // namespace

std::string in_checkout(std::string_view file) {
  std::size_t at = file.npos;
  for (const char* folder : {"/tensor/", "/autograd/", "/nn/", "/interp/", "/sae/", "/apps/"}) {
    const std::size_t found = file.rfind(folder);
    if (found != file.npos && (at == file.npos || found > at)) at = found;
  }
  return std::string(at == file.npos ? file : file.substr(at + 1));
}

ModelFacts::ModelFacts(Graph graph, std::int64_t length)
    : graph_(std::move(graph)), length_(length) {}

Json ModelFacts::of_site(const std::string& name) {
  if (drawing_.is_null()) drawing_ = drawing_json(graph_, length_);
  const int layer = layer_of_site(name);
  std::string wanted = name;
  std::vector<const Json*> lists = {drawing_.find("before"), drawing_.find("after")};
  if (layer >= 0) {
    wanted = "blocks.L" + name.substr(name.find('.', std::string_view("blocks.").size()));
    const auto structure = drawing_["layers"][static_cast<std::size_t>(layer)].whole();
    lists = {&drawing_["structures"][static_cast<std::size_t>(structure.value_or(0))]};
  }
  const SiteEntry& site = graph_.site(name);
  const Node& node = graph_.node(site.node);
  Json json = {{"shape", Json::list()}};
  for (const Json* list : lists) {
    for (const Json& drawn : *list->list_items()) {
      if (*drawn.find("name")->text() != wanted) continue;
      for (const char* field : {"shape", "axes", "formula", "from", "weights", "ops"})
        json[field] = *drawn.find(field);
      json["inside"] = *drawn.find("copies");
    }
  }
  json["file"] = in_checkout(node.line.file);
  json["line"] = node.line.line;
  // Inside which op it is: it becomes a value of its own when somebody asks for it.
  json["hidden_in"] = site.interior() ? Json(node.op->name) : Json();
  return json;
}

Json ModelFacts::of_op(const OpDef& op) {
  if (!expanded_) {
    expanded_ = expand_sites(graph_, graph_.site_names());
    const std::vector<std::string> names = graph_.site_names();
    if (!names.empty()) backward_ = gradient(graph_, nn::logit({0}), sites(names.front()));
  }
  std::int64_t flops = 0, all = 0;
  using Place = std::tuple<std::string, int, std::string>;
  std::map<Place, std::pair<std::int64_t, std::string>> places;
  for (const Node& node : graph_.nodes()) {
    const std::int64_t cost = flops_of(graph_, node);
    all += cost;
    if (node.op != &op) continue;
    flops += cost;
    auto& place = places[{in_checkout(node.line.file), node.line.line, any_layer(node.scope)}];
    if (place.first++ == 0) place.second = type_text(graph_, node);
  }
  Json json = {{"count", count_of(graph_, op)}, {"flops", flops}};
  json["share"] = all == 0 ? 0.0 : static_cast<double>(flops) / static_cast<double>(all);
  json["places"] = Json::list();
  for (const auto& [place, found] : places) {
    const auto& [file, line, scope] = place;
    json["places"].push_back({{"file", file},
                              {"line", line},
                              {"scope", scope},
                              {"count", found.first},
                              {"type", found.second}});
  }
  json["expanded"] = count_of(*expanded_, op);
  json["backward"] = backward_ ? count_of(*backward_, op, graph_.next_id()) : 0;
  return json;
}

}  // namespace vitrine::app
