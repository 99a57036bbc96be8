#include "apps/graphs/supernode_report.h"

#include <fmt/format.h>

#include <set>

#include "apps/options/options.h"
#include "sae/graphs/node_names.h"

namespace vitrine::app {
namespace {

constexpr int kSaid = 5;  // of the most probable next tokens

std::vector<double> row_of(const Tensor& effects, std::int64_t row) {
  return effects.select(0, row).contiguous().to_vector<double>();
}

std::vector<nn::Candidate> most_probable(const Tensor& logits, std::int64_t row) {
  return nn::top_tokens(logits.select(0, row).contiguous().to_vector<float>(), kSaid);
}

std::string said(const nn::Model& model, const std::vector<nn::Candidate>& tokens,
                 std::size_t most) {
  std::string text;
  for (std::size_t i = 0; i < std::min(most, tokens.size()); ++i)
    text +=
        fmt::format("{}{} {}", i == 0 ? "" : "  ", token_label(tokenizer_of(model), tokens[i].id),
                    percent(tokens[i].probability));
  return text;
}

Json candidates_json(const nn::Model& model, const std::vector<nn::Candidate>& tokens) {
  Json list = Json::list();
  for (const nn::Candidate& c : tokens) {
    Json token = token_json(model, c.id);
    token["prob"] = c.probability;
    list.push_back(std::move(token));
  }
  return list;
}

std::set<std::string> names_of(const sae::ViewerGraph& graph) {
  std::set<std::string> names;
  for (const sae::Supernode& s : graph.supernodes) names.insert(s.name);
  return names;
}

}  // namespace

SupernodesMeasured measure_supernodes(const nn::Model& model, const sae::TranscoderSet& set,
                                      const sae::AttributionGraph& graph,
                                      const std::vector<sae::Supernode>& supernodes, double factor,
                                      const std::atomic<bool>* cancel) {
  SupernodesMeasured measured{.factor = factor};
  if (supernodes.empty()) return measured;
  std::vector<sae::NodeGroup> groups;
  for (const sae::Supernode& s : supernodes) {
    sae::NodeGroup group{{}, factor};
    for (const std::string& name : s.nodes) group.nodes.push_back(sae::node_named(graph, name));
    groups.push_back(std::move(group));
  }
  using sae::AttentionPatterns;
  const sae::GroupEffects free = sae::effects_in_model(model, set, graph, groups,
                                                       AttentionPatterns::recomputed, cancel),
                          held = sae::effects_in_model(model, set, graph, groups,
                                                       AttentionPatterns::held, cancel);
  for (std::size_t g = 0; g < groups.size(); ++g) {
    const auto row = static_cast<std::int64_t>(g);
    measured.effects.push_back({.by_graph = sae::effects_by_graph(graph, groups[g]),
                                .recomputed = row_of(free.effects, row),
                                .held = row_of(held.effects, row),
                                .says = most_probable(free.after, row),
                                .says_held = most_probable(held.after, row)});
  }
  return measured;
}

std::string supernodes_text(const nn::Model& model, const sae::AttributionGraph& graph,
                            const std::vector<sae::Supernode>& supernodes,
                            const SupernodesMeasured& measured, const Style& style) {
  using Align = Table::Align;
  if (supernodes.empty()) return "";
  Table table({{"supernode", Align::left},
               {"nodes", Align::right},
               {"by the graph", Align::right},
               {"exact", Align::right},
               {"attention held", Align::right},
               {"the model then says", Align::left}});
  for (std::size_t i = 0; i < supernodes.size(); ++i) {
    const SupernodeEffects& e = measured.effects[i];
    table.row({visible(supernodes[i].name), fmt::format("{}", supernodes[i].nodes.size()),
               fmt::format("{:+.3f}", e.by_graph[0]), fmt::format("{:+.3f}", e.recomputed[0]),
               fmt::format("{:+.3f}", e.held[0]), said(model, e.says, 3)});
  }
  return fmt::format(
      "\n{}: how much lower the logit {} is with what their nodes give times {:g}: by the graph; "
      "in "
      "the model, all else\ncomputed again; and there with attention patterns held\n{}",
      style.bold("supernodes"), token_label(tokenizer_of(model), graph.logit_tokens[0]),
      measured.factor, table.text(style));
}

Json supernode_effects_json(const nn::Model& model, const sae::AttributionGraph& graph,
                            const std::vector<sae::Supernode>& supernodes,
                            const SupernodesMeasured& measured) {
  Json list = Json::list();
  for (std::size_t i = 0; i < supernodes.size(); ++i) {
    const SupernodeEffects& e = measured.effects[i];
    Json logits = Json::list();
    for (std::size_t k = 0; k < graph.logit_tokens.size(); ++k) {
      Json one = token_json(model, graph.logit_tokens[k]);
      one["by_graph"] = e.by_graph[k];
      one["exact"] = e.recomputed[k];
      one["exact_held"] = e.held[k];
      logits.push_back(std::move(one));
    }
    list.push_back({{"name", supernodes[i].name},
                    {"nodes", supernodes[i].nodes},
                    {"factor", measured.factor},
                    {"effects", logits},
                    {"after", candidates_json(model, e.says)},
                    {"after_held", candidates_json(model, e.says_held)}});
  }
  return list;
}

std::string node_text(const sae::ViewerGraph& graph, const std::string& id) {
  const auto at = graph.find(id);
  if (!at) return visible(id);
  const sae::ViewerNode& n = graph.nodes[static_cast<std::size_t>(*at)];
  const std::string where = fmt::format(
      "{} \"{}\"", n.position, visible(graph.prompt_tokens[static_cast<std::size_t>(n.position)]));
  switch (n.kind) {
    case sae::ViewerNodeKind::feature:
      return fmt::format("feature {}.{} at {}", n.layer, n.number, where);
    case sae::ViewerNodeKind::error:
      return fmt::format("error of layer {} at {}", n.layer, where);
    case sae::ViewerNodeKind::token:
      return "token " + where;
    case sae::ViewerNodeKind::logit:
      break;
  }
  return visible(n.label.empty() ? fmt::format("logit {}", n.number) : n.label);
}

std::string merged_text(const sae::ViewerGraph& graph, std::size_t most, const Style& style) {
  using Align = Table::Align;
  if (graph.supernodes.empty()) return "";
  const std::set<std::string> names = names_of(graph);
  Table table({{"from", Align::left},
               {"to", Align::left},
               {"sum of weights", Align::right},
               {"edges", Align::right}});
  std::size_t shown = 0, all = 0;
  for (const sae::MergedLink& l : sae::merged_links(graph)) {
    if (!names.contains(l.source) && !names.contains(l.target)) continue;
    if (++all > most) continue;
    ++shown;
    const auto name = [&](const std::string& id) {
      return names.contains(id) ? style.strong(visible(id)) : node_text(graph, id);
    };
    table.row({name(l.source), name(l.target), fmt::format("{:+.3f}", l.weight),
               fmt::format("{}", l.links)});
  }
  return fmt::format(
      "\nkept edges of supernodes, each as one node: {}\n{}",
      shown < all ? fmt::format("the strongest {} of {}", shown, all) : fmt::format("{}", all),
      table.text(style));
}

Json merged_json(const sae::ViewerGraph& graph) {
  Json list = Json::list();
  if (graph.supernodes.empty()) return list;
  for (const sae::MergedLink& l : sae::merged_links(graph))
    list.push_back(
        {{"source", l.source}, {"target", l.target}, {"weight", l.weight}, {"links", l.links}});
  return list;
}

}  // namespace vitrine::app
