#include "sae/graphs/viewer_json.h"

#include <fmt/format.h>

#include <algorithm>
#include <vector>

namespace vitrine::sae {
namespace {

// One number for a layer and a feature (Cantor's pairing).
std::int64_t paired(std::int64_t layer, std::int64_t feature) {
  return (layer + feature) * (layer + feature + 1) / 2 + feature;
}

class Writer {
 public:
  Writer(const AttributionGraph& graph, const PrunedGraph& pruned, const ViewerSpec& spec)
      : graph_(graph), pruned_(pruned), spec_(spec) {}

  std::string id(std::int64_t node) const {
    if (node < graph_.first_error()) {
      const ActiveFeature& f = feature(node);
      return fmt::format("{}_{}_{}", f.layer, f.feature, f.position);
    }
    if (node < graph_.first_token())
      return fmt::format("error_{}_{}", error_layer(node), error_position(node));
    if (node < graph_.first_logit()) return fmt::format("E_{}_{}", token(node), position(node));
    return fmt::format("{}_{}_{}", graph_.layers + 1, logit(node), graph_.positions() - 1);
  }

  JsonValue node(std::int64_t n) const {
    JsonValue json = {{"node_id", id(n)},
                      {"token_prob", 0.0},
                      {"is_target_logit", false},
                      {"run_idx", 0},
                      {"reverse_ctx_idx", 0},
                      {"clerp", ""},
                      {"influence", pruned_.cumulative[static_cast<std::size_t>(n)]},
                      {"activation", nullptr}};
    if (n < graph_.first_error()) {
      const ActiveFeature& f = feature(n);
      json.update({{"feature", paired(f.layer, f.feature)},
                   {"layer", fmt::format("{}", f.layer)},
                   {"ctx_idx", f.position},
                   {"feature_type", "cross layer transcoder"},
                   {"jsNodeId", fmt::format("{}_{}-0", f.layer, f.feature)},
                   {"activation", f.activation}});
    } else if (n < graph_.first_token()) {
      json.update({{"feature", -1},
                   {"layer", fmt::format("{}", error_layer(n))},
                   {"ctx_idx", error_position(n)},
                   {"feature_type", "mlp reconstruction error"},
                   {"jsNodeId", fmt::format("{}_{}-0", error_layer(n), error_position(n))}});
    } else if (n < graph_.first_logit()) {
      json.update({{"feature", position(n)},
                   {"layer", "E"},
                   {"ctx_idx", position(n)},
                   {"feature_type", "embedding"},
                   {"jsNodeId", fmt::format("E_{}-{}", token(n), position(n))}});
    } else {
      const double p =
          graph_.logit_probabilities[static_cast<std::size_t>(n - graph_.first_logit())];
      json.update({{"feature", logit(n)},
                   {"layer", fmt::format("{}", graph_.layers + 1)},
                   {"ctx_idx", graph_.positions() - 1},
                   {"feature_type", "logit"},
                   {"token_prob", p},
                   {"is_target_logit", n == graph_.first_logit()},
                   {"jsNodeId", fmt::format("L_{}-{}", logit(n), graph_.positions() - 1)},
                   {"clerp", fmt::format("Output \"{}\" (p={:.3f})", text(logit(n)), p)},
                   {"influence", nullptr}});
    }
    return json;
  }

  std::string text(int id) const { return spec_.text ? spec_.text(id) : fmt::format("{}", id); }

 private:
  const ActiveFeature& feature(std::int64_t n) const {
    return graph_.features[static_cast<std::size_t>(n)];
  }
  std::int64_t error_layer(std::int64_t n) const {
    return (n - graph_.first_error()) / graph_.positions();
  }
  std::int64_t error_position(std::int64_t n) const {
    return (n - graph_.first_error()) % graph_.positions();
  }
  std::int64_t position(std::int64_t n) const { return n - graph_.first_token(); }
  int token(std::int64_t n) const { return graph_.prompt[static_cast<std::size_t>(position(n))]; }
  int logit(std::int64_t n) const {
    return graph_.logit_tokens[static_cast<std::size_t>(n - graph_.first_logit())];
  }

  const AttributionGraph& graph_;
  const PrunedGraph& pruned_;
  const ViewerSpec& spec_;
};

}  // namespace

JsonValue viewer_json(const AttributionGraph& graph, const PrunedGraph& pruned,
                      const ViewerSpec& spec) {
  const Writer writer(graph, pruned, spec);
  std::vector<bool> used(static_cast<std::size_t>(graph.nodes()), false);
  JsonValue links = JsonValue::list(), nodes = JsonValue::list(), tokens = JsonValue::list();
  for (const PrunedGraph::Edge& e : pruned.edges) {
    const std::int64_t target = graph.node_of_target(e.target);
    used[static_cast<std::size_t>(e.source)] = used[static_cast<std::size_t>(target)] = true;
    links.push_back({{"source", writer.id(e.source)},
                     {"target", writer.id(target)},
                     {"weight", static_cast<double>(e.weight)}});
  }
  for (std::int64_t n = 0; n < graph.nodes(); ++n) {
    if (n >= graph.first_token() || used[static_cast<std::size_t>(n)])
      nodes.push_back(writer.node(n));
  }
  std::string prompt;
  for (const int id : graph.prompt) {
    tokens.push_back(writer.text(id));
    prompt += (prompt.empty() || spec.text ? "" : " ") + writer.text(id);
  }
  return {{"metadata",
           {{"slug", spec.slug},
            {"scan", spec.scan},
            {"transcoder_list", JsonValue::list()},
            {"prompt_tokens", tokens},
            {"prompt", prompt},
            {"node_threshold", spec.node_threshold},
            {"schema_version", 1}}},
          {"qParams",
           {{"pinnedIds", JsonValue::list()},
            {"supernodes", JsonValue::list()},
            {"linkType", "both"},
            {"clickedId", ""},
            {"sg_pos", ""}}},
          {"nodes", nodes},
          {"links", links}};
}

}  // namespace vitrine::sae
