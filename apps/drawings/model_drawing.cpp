#include "apps/drawings/model_drawing.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "apps/drawings/formula.h"
#include "autograd/transform/expand.h"

namespace vitrine::app {
namespace {

// "blocks.L.attn.hook_q" of a site or weight of this layer, "blocks.L-1..." of one of the layer before.
std::string in_any_layer(const std::string& name, int layer) {
  const int own = layer_of_site(name);
  if (layer < 0 || own < 0) return name;
  const std::string rest = name.substr(name.find('.', std::string_view("blocks.").size()));
  return own == layer ? "blocks.L" + rest : fmt::format("blocks.L-{}", layer - own) + rest;
}

Json names_json(const std::vector<std::string>& names, int layer) {
  Json list = Json::list();
  for (const std::string& name : names) list.push_back(in_any_layer(name, layer));
  return list;
}

Json site_json(const SiteEntry& site, const Formula& formula, std::int64_t length) {
  const int layer = layer_of_site(site.name);
  const Shape shape = fetched_shape(site, length);
  Json json = {{"name", in_any_layer(site.name, layer)}, {"axes", fetched_axes(site)}};
  json["shape"] = std::vector<std::int64_t>(shape.begin(), shape.end());
  json["formula"] = formula.text;
  json["from"] = names_json(formula.sites, layer);
  json["copies"] = names_json(formula.hidden, layer);
  json["inputs"] = formula.inputs;
  json["weights"] = Json::list();
  for (const auto& [name, dims] : formula.weights) {
    json["weights"].push_back({{"name", in_any_layer(name, layer)},
                               {"shape", std::vector<std::int64_t>(dims.begin(), dims.end())}});
  }
  json["ops"] = Json::list();
  for (const OpDef* op : formula.ops)
    json["ops"].push_back({{"name", std::string(op->name)}, {"doc", std::string(op->doc)}});
  return json;
}

// With norms and attention taken apart into the steps that have sites. Projections to heads stay whole: inside each is a
// copy of the stream for every head, which would hide that all read one norm.
Graph taken_apart(const Graph& graph) {
  std::vector<std::string> names;
  for (const SiteEntry& site : graph.sites()) {
    if (site.interior() && graph.node(site.node).op->name != "heads_in") names.push_back(site.name);
  }
  return expand_sites(graph, names);
}

// ---- parts ----------------------------------------------------------------------------------------
enum class Part : std::size_t { embedding, attention, mlp, norms, unembedding, rest };
constexpr std::array<std::string_view, 6> kPartNames = {"embedding", "attention",   "MLP",
                                                        "norms",     "unembedding", "the rest"};

Part part_of(std::string_view site) {
  const auto has = [&](std::string_view text) { return site.find(text) != std::string_view::npos; };
  if (has("unembed")) return Part::unembedding;
  if (has("embed")) return Part::embedding;
  if (has("ln")) return Part::norms;
  if (has("attn")) return Part::attention;
  return has("mlp") ? Part::mlp : Part::rest;
}

struct Costs {
  std::int64_t parameters = 0, bytes = 0, flops = 0;
};

class CostsOfParts {
 public:
  CostsOfParts(const nn::Model& model, const Graph& graph)
      : model_(model), graph_(graph), seen_(static_cast<std::size_t>(graph.next_id()), false) {}

  std::array<Costs, kPartNames.size()> all() {
    for (const SiteEntry& site : graph_.sites()) {
      if (!site.interior()) visit(site.before, part_of(site.name));
    }
    for (const auto& [name, node] : graph_.outputs()) visit(node, Part::rest);
    return costs_;
  }

 private:
  // What a value is computed from belongs to its part, down to the sites, which have parts of their own.
  void visit(NodeId id, Part part) {
    if (seen_[by_id(id)]) return;
    const Node& node = graph_.node(id);
    if (node.op->name == "site") return;
    seen_[by_id(id)] = true;
    if (node.op->kind == OpKind::norm) part = Part::norms;
    Costs& costs = costs_[static_cast<std::size_t>(part)];
    if (node.op->kind == OpKind::parameter) {
      costs.parameters += numel(node.type.shape);
      const auto stored = model_.parameters().find(std::get<LeafName>(node.attributes).name);
      if (stored != model_.parameters().end()) costs.bytes += stored->second.bytes();
    }
    std::vector<Type> in;
    for (const NodeId input : node.inputs) in.push_back(graph_.node(input).type);
    if (node.op->flops != nullptr) costs.flops += node.op->flops({in, node.attributes}, node.type);
    for (const NodeId input : node.inputs) visit(input, part);
  }

  const nn::Model& model_;
  const Graph& graph_;
  std::vector<bool> seen_;
  std::array<Costs, kPartNames.size()> costs_;
};

}  // namespace

Shape fetched_shape(const SiteEntry& site, std::int64_t length) {
  Shape shape = {1};
  const bool keys = std::find(site.axes.begin(), site.axes.end(), Axis::key) != site.axes.end();
  for (std::size_t a = 0; a < site.axes.size(); ++a) {
    const bool row = site.axes[a] == Axis::row;
    if (site.axes[a] == Axis::key) shape.push_back(length);  // the queries stand before the keys
    if (!row) shape.push_back(site.type.shape[static_cast<int>(a)]);
    if (row && !keys) shape.push_back(length);
  }
  return shape;
}

std::vector<std::string> fetched_axes(const SiteEntry& site) {
  std::vector<std::string> names = {"batch"};
  const bool keys = std::find(site.axes.begin(), site.axes.end(), Axis::key) != site.axes.end();
  for (const Axis axis : site.axes) {
    if (axis == Axis::key) names.emplace_back("query");
    if (axis != Axis::row) names.emplace_back(name_of(axis));
    else if (!keys) names.emplace_back("position");
  }
  return names;
}

Json drawing_json(const Graph& graph, std::int64_t length) {
  const Graph apart = taken_apart(graph), all = expand_sites(apart, apart.site_names());
  const FormulaWriter writer(apart), inside(all);
  Json before = Json::list(), after = Json::list();
  std::vector<Json> blocks;  // of each layer
  for (const SiteEntry& site : apart.sites()) {
    Formula formula = (site.interior() ? inside : writer).of(site.name);
    if (site.interior()) formula.text += " for each head";
    Json json = site_json(site, formula, length);
    const int layer = layer_of_site(site.name);
    if (layer < 0) {
      (blocks.empty() ? before : after).push_back(std::move(json));
      continue;
    }
    while (std::ssize(blocks) <= layer) blocks.push_back(Json::list());
    blocks[static_cast<std::size_t>(layer)].push_back(std::move(json));
  }
  // Layers that are alike but for their number are said once.
  std::vector<std::string> kinds;
  Json structures = Json::list(), layers = Json::list();
  for (Json& block : blocks) {
    const std::string text = block.line();
    const auto kind = std::find(kinds.begin(), kinds.end(), text);
    layers.push_back(static_cast<std::int64_t>(kind - kinds.begin()));
    if (kind != kinds.end()) continue;
    kinds.push_back(text);
    structures.push_back(std::move(block));
  }
  return {{"before", before}, {"structures", structures}, {"layers", layers}, {"after", after}};
}

Json parts_json(const nn::Model& model, const Graph& graph) {
  const auto costs = CostsOfParts(model, graph).all();
  Json parts = Json::list();
  for (std::size_t p = 0; p < kPartNames.size(); ++p) {
    parts.push_back({{"name", std::string(kPartNames[p])},
                     {"parameters", costs[p].parameters},
                     {"bytes", costs[p].bytes},
                     {"flops", costs[p].flops}});
  }
  return parts;
}

}  // namespace vitrine::app
