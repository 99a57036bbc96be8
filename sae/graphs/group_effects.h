// What groups of nodes of an attribution graph ("supernodes") do to the logits: by the graph, and exactly, in the model itself.
//
//   NodeGroup texas{{node_named(g, "1_20_3"), node_named(g, "2_7_3")}, 0};   // switched off
//   effects_by_graph(g, texas)[0];                                          // how much lower the first logit would be
//   effects_in_model(m, set, g, {&texas, 1}, AttentionPatterns::recomputed).effects;   // [groups, logits]
//
// What every member gives is its own on the prompt times the group's factor, whatever comes before it: 0 ablates, 2 doubles.
// Members are features, errors and tokens.
#pragma once

#include <atomic>
#include <cstdint>
#include <span>
#include <vector>

#include "sae/graphs/attribution_graph.h"
#include "sae/graphs/effects.h"

namespace vitrine::sae {

struct NodeGroup {
  std::vector<std::int64_t> nodes;
  double factor = 0;
};

// How much lower each logit of the graph (less the mean logit) would be, by all paths, as total_effects: f64 [logits]. Throws Error
// (usage) for a logit among the nodes, and for nodes that are not there.
std::vector<double> effects_by_graph(const AttributionGraph& graph, const NodeGroup& group);

struct GroupEffects {
  Tensor effects;  // f64 [groups, logits of the graph]: as effects_by_graph
  Tensor before;   // f32 [vocabulary]: the logits after the prompt
  Tensor after;    // f32 [groups, vocabulary]
};
// In the real model each MLP's output has (factor a - a') W_dec added at the place of each feature, a being its activation on the
// prompt and a' the one that it has in the edited run, and errors and tokens as much of their own vectors; nothing is
// linear, no transcoder stands in the place of an MLP. One edited run for each group, all of them together. Throws what
// effects_by_graph and Model::run throw.
GroupEffects effects_in_model(const nn::Model& model, const TranscoderSet& set,
                              const AttributionGraph& graph, std::span<const NodeGroup> groups,
                              AttentionPatterns patterns,
                              const std::atomic<bool>* cancel = nullptr);

}  // namespace vitrine::sae
