#include "apps/graphs/packed_graph.h"

#include <fmt/format.h>

namespace vitrine::app {
namespace {

using sae::ViewerNodeKind;

// The names that packed_graph.js gives.
std::string usual_id(const sae::ViewerNode& n) {
  switch (n.kind) {
    case ViewerNodeKind::error:
      return fmt::format("error_{}_{}", n.layer, n.position);
    case ViewerNodeKind::token:
      return fmt::format("E_{}_{}", n.number, n.position);
    case ViewerNodeKind::feature:
    case ViewerNodeKind::logit:
      break;
  }
  return fmt::format("{}_{}_{}", n.layer, n.number, n.position);
}
std::string usual_js_id(const sae::ViewerNode& n) {
  switch (n.kind) {
    case ViewerNodeKind::feature:
      return fmt::format("{}_{}-0", n.layer, n.number);
    case ViewerNodeKind::error:
      return fmt::format("{}_{}-0", n.layer, n.position);
    case ViewerNodeKind::token:
      return fmt::format("E_{}-{}", n.number, n.position);
    case ViewerNodeKind::logit:
      break;
  }
  return fmt::format("L_{}-{}", n.number, n.position);
}

Json packed_node(const sae::ViewerNode& n) {
  Json more = Json::object();
  if (n.id != usual_id(n)) more["id"] = n.id;
  if (n.js_id != usual_js_id(n)) more["js_id"] = n.js_id;
  if (!n.label.empty()) more["label"] = n.label;
  if (n.probability != 0) more["probability"] = n.probability;
  if (n.is_target) more["is_target"] = true;
  if (n.run != 0) more["run"] = n.run;
  if (n.from_end != 0) more["from_end"] = n.from_end;
  if (!n.others.fields()->empty()) more["others"] = n.others;
  Json node = Json::list();
  node.push_back(static_cast<int>(n.kind));
  node.push_back(n.layer);
  node.push_back(n.number);
  node.push_back(n.position);
  node.push_back(n.influence);
  node.push_back(n.activation);
  if (!more.fields()->empty()) node.push_back(std::move(more));
  return node;
}

}  // namespace

Json packed_graph(const sae::ViewerGraph& graph) {
  Json nodes = Json::list(), links = Json::list();
  for (const sae::ViewerNode& n : graph.nodes) nodes.push_back(packed_node(n));
  for (const sae::ViewerLink& l : graph.links) {
    Json link = Json::list();
    link.push_back(l.source);
    link.push_back(l.target);
    link.push_back(l.weight);
    links.push_back(std::move(link));
  }
  return {{"nodes", Json::list()},
          {"links", Json::list()},
          {"packed", {{"nodes", std::move(nodes)}, {"links", std::move(links)}}}};
}

}  // namespace vitrine::app
