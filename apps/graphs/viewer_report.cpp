#include "apps/graphs/viewer_report.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "apps/graphs/packed_graph.h"
#include "apps/graphs/supernode_report.h"

namespace vitrine::app {
namespace {

using sae::ViewerNodeKind;

std::int64_t count_of(const sae::ViewerGraph& graph, ViewerNodeKind kind) {
  return std::count_if(graph.nodes.begin(), graph.nodes.end(),
                       [&](const sae::ViewerNode& n) { return n.kind == kind; });
}

// The features with the most influence: those behind which the running share is least.
std::vector<std::size_t> strongest_features(const sae::ViewerGraph& graph, int most) {
  std::vector<std::size_t> order;
  for (std::size_t i = 0; i < graph.nodes.size(); ++i) {
    if (graph.nodes[i].kind == ViewerNodeKind::feature) order.push_back(i);
  }
  std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
    return graph.nodes[a].influence.value_or(2) < graph.nodes[b].influence.value_or(2);
  });
  order.resize(std::min(order.size(), static_cast<std::size_t>(most)));
  return order;
}

// Of the absolute weights of what enters each node.
std::vector<double> incoming_of(const sae::ViewerGraph& graph, bool of_errors) {
  std::vector<double> sums(graph.nodes.size(), 0.0);
  for (const sae::ViewerLink& l : graph.links) {
    const bool error =
        graph.nodes[static_cast<std::size_t>(l.source)].kind == ViewerNodeKind::error;
    if (error || !of_errors) sums[static_cast<std::size_t>(l.target)] += std::abs(l.weight);
  }
  return sums;
}

// The logits, the most probable one first.
std::vector<const sae::ViewerNode*> logits_of(const sae::ViewerGraph& graph) {
  std::vector<const sae::ViewerNode*> logits;
  for (const sae::ViewerNode& n : graph.nodes) {
    if (n.kind == ViewerNodeKind::logit) logits.push_back(&n);
  }
  std::stable_sort(logits.begin(), logits.end(),
                   [](const auto* a, const auto* b) { return a->probability > b->probability; });
  return logits;
}

// TOKEN of a label `Output "TOKEN" (p=...)`; the token's number where it is another one.
std::string token_of(const sae::ViewerNode& logit) {
  const std::string& label = logit.label;
  const auto from = label.find('"'), to = label.rfind('"');
  if (from == std::string::npos || from == to) return fmt::format("{}", logit.number);
  return label.substr(from + 1, to - from - 1);
}

std::string logits_line(const sae::ViewerGraph& graph, const Style& style) {
  const auto logits = logits_of(graph);
  std::string text;
  for (std::size_t i = 0; i < std::min<std::size_t>(3, logits.size()); ++i)
    text += fmt::format("{}{} {}", i == 0 ? "" : "  ",
                        style.strong("\"" + visible(token_of(*logits[i])) + "\""),
                        percent(logits[i]->probability));
  return text;
}

// The result says itself where it comes from.
sae::ViewerGraph without_meta(const sae::ViewerGraph& graph) {
  sae::ViewerGraph other = graph;
  other.others = Json::object();
  for (const JsonField& field : *graph.others.fields()) {
    if (field.name != "meta" && field.name != "file") other.others[field.name] = field.value;
  }
  return other;
}

Json strongest_json(const sae::ViewerGraph& graph, int most) {
  Json list = Json::list();
  for (const std::size_t i : strongest_features(graph, most)) {
    const sae::ViewerNode& n = graph.nodes[i];
    list.push_back({{"layer", n.layer},
                    {"position", n.position},
                    {"feature", n.number},
                    {"activation", n.activation},
                    {"influence", nullptr},
                    {"effect", nullptr},
                    {"exact", nullptr},
                    {"raised", Json::list()}});
  }
  return list;
}

}  // namespace

std::string ViewerReport::text(const Style& style) const {
  std::string text =
      fmt::format("{} → {}\n{} features, {} errors, {} tokens and {} logits, {} edges{}\n\n",
                  style.bold("`" + visible(graph.prompt) + "`"), logits_line(graph, style),
                  grouped(count_of(graph, ViewerNodeKind::feature)),
                  grouped(count_of(graph, ViewerNodeKind::error)),
                  grouped(count_of(graph, ViewerNodeKind::token)),
                  grouped(count_of(graph, ViewerNodeKind::logit)), grouped(std::ssize(graph.links)),
                  graph.node_threshold ? fmt::format("; nodes with {} of all influence were kept",
                                                     percent(*graph.node_threshold))
                                       : "");
  using Align = Table::Align;
  Table table({{"layer", Align::right},
               {"pos", Align::right},
               {"token", Align::left},
               {"feature", Align::right},
               {"activation", Align::right},
               {"running share", Align::right},
               {"errors in it", Align::right},
               {"called", Align::left}});
  const std::vector<double> all = incoming_of(graph, false), errors = incoming_of(graph, true);
  for (const std::size_t i : strongest_features(graph, top)) {
    const sae::ViewerNode& n = graph.nodes[i];
    table.row(
        {fmt::format("{}", n.layer), fmt::format("{}", n.position),
         fmt::format("\"{}\"", visible(graph.prompt_tokens[static_cast<std::size_t>(n.position)])),
         fmt::format("{}", n.number), n.activation ? fmt::format("{:.3f}", *n.activation) : "",
         n.influence ? percent(*n.influence) : "", all[i] > 0 ? percent(errors[i] / all[i]) : "",
         visible(n.label)});
  }
  text += table.text(style);
  text +=
      "\nrunning share: of all influence, what nodes with as much or more have; errors in it: of "
      "the "
      "kept edges into the feature, by |weight|\n";
  return text + merged_text(graph, static_cast<std::size_t>(top), style);
}

Json ViewerReport::json() const {
  Json json = sae::viewer_json(without_meta(graph));
  if (json.find("counts") == nullptr)
    json["counts"] = {{"features", count_of(graph, ViewerNodeKind::feature)},
                      {"errors", count_of(graph, ViewerNodeKind::error)},
                      {"tokens", count_of(graph, ViewerNodeKind::token)},
                      {"logits", count_of(graph, ViewerNodeKind::logit)},
                      {"kept_nodes", std::ssize(graph.nodes)},
                      {"kept_edges", std::ssize(graph.links)}};
  json["merged"] = merged_json(graph);
  return json;
}

Json ViewerReport::page_data() const {
  Json data = packed_graph(graph), kept = Json::list();
  for (const JsonField& field : *graph.others.fields()) {
    if (field.name != "meta" && field.name != "supernodes" && field.name != "merged")
      kept.push_back(field.name);
  }
  data["kept"] = kept;
  if (graph.others.find("logits") == nullptr) {
    data["logits"] = Json::list();
    for (const sae::ViewerNode* n : logits_of(graph))
      data["logits"].push_back(
          {{"id", n->number}, {"token", token_of(*n)}, {"prob", n->probability}});
  }
  if (graph.others.find("strongest") == nullptr) data["strongest"] = strongest_json(graph, top);
  return data;
}

}  // namespace vitrine::app
