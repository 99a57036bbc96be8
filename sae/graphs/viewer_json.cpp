#include <fmt/format.h>

#include "sae/graphs/node_names.h"
#include "sae/graphs/viewer_graph.h"

namespace vitrine::sae {
namespace {

// What circuit-tracer calls the feature of a node.
std::int64_t number_in_file(const ViewerNode& n) {
  switch (n.kind) {
    case ViewerNodeKind::feature:
      return paired(n.layer, n.number);
    case ViewerNodeKind::error:
      return -1;
    case ViewerNodeKind::token:
      return n.position;
    case ViewerNodeKind::logit:
      break;
  }
  return n.number;
}

JsonValue viewer_node_json(const ViewerNode& n) {
  JsonValue json = {{"node_id", n.id},
                    {"token_prob", n.probability},
                    {"is_target_logit", n.is_target},
                    {"run_idx", n.run},
                    {"reverse_ctx_idx", n.from_end},
                    {"clerp", n.label},
                    {"influence", n.influence},
                    {"activation", n.activation},
                    {"feature", number_in_file(n)},
                    {"layer", n.kind == ViewerNodeKind::token ? "E" : fmt::format("{}", n.layer)},
                    {"ctx_idx", n.position},
                    {"feature_type", name_of(n.kind)},
                    {"jsNodeId", n.js_id}};
  json.update(n.others);
  return json;
}

}  // namespace

JsonValue supernodes_json(const std::vector<Supernode>& supernodes) {
  JsonValue list = JsonValue::list();
  for (const Supernode& s : supernodes) {
    JsonValue one = JsonValue::list();
    one.push_back(s.name);
    for (const std::string& node : s.nodes) one.push_back(node);
    list.push_back(std::move(one));
  }
  return list;
}

JsonValue viewer_json(const ViewerGraph& graph) {
  JsonValue metadata = {{"slug", graph.slug},
                        {"scan", graph.scan},
                        {"transcoder_list", graph.transcoders},
                        {"prompt_tokens", graph.prompt_tokens},
                        {"prompt", graph.prompt},
                        {"node_threshold", graph.node_threshold},
                        {"schema_version", 1}};
  metadata.update(graph.other_metadata);
  JsonValue parameters = {{"pinnedIds", graph.pinned},
                          {"supernodes", supernodes_json(graph.supernodes)},
                          {"linkType", graph.link_type},
                          {"clickedId", graph.clicked},
                          {"sg_pos", graph.shown_positions}};
  parameters.update(graph.other_parameters);
  JsonValue nodes = JsonValue::list(), links = JsonValue::list();
  for (const ViewerNode& n : graph.nodes) nodes.push_back(viewer_node_json(n));
  for (const ViewerLink& l : graph.links)
    links.push_back({{"source", graph.nodes[static_cast<std::size_t>(l.source)].id},
                     {"target", graph.nodes[static_cast<std::size_t>(l.target)].id},
                     {"weight", l.weight}});
  JsonValue json = {
      {"metadata", metadata}, {"qParams", parameters}, {"nodes", nodes}, {"links", links}};
  json.update(graph.others);
  return json;
}

}  // namespace vitrine::sae
