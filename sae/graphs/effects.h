// What features of an attribution graph do to a logit: by the graph, and exactly, in the model itself.
#pragma once

#include <atomic>
#include <cstdint>
#include <span>
#include <vector>

#include "sae/graphs/attribution_graph.h"

namespace vitrine::sae {

// By the graph: how much smaller a logit (less the mean logit) would be without each feature, by all paths. Where h of a
// feature on the way shrinks, so does its activation, in proportion of what it writes: the slope of an active feature is 1.
// f64 [features]; `logit` counts the graph's logits.
std::vector<double> total_effects(const AttributionGraph& graph, std::size_t logit = 0);

// Whether attention patterns are those of the edited run, or those of the original one.
enum class AttentionPatterns { recomputed, held };

// Exactly: the same with what each of these groups of features writes taken away from the MLP outputs of the real model, in
// which everything else is computed again: nothing is linear, and no transcoder stands in the place of an MLP. One edited run
// for each group. Features are numbers of graph.features.
std::vector<double> exact_effects(const nn::Model& model, const TranscoderSet& set,
                                  const AttributionGraph& graph,
                                  std::span<const std::vector<std::size_t>> groups,
                                  std::size_t logit = 0,
                                  AttentionPatterns patterns = AttentionPatterns::recomputed,
                                  const std::atomic<bool>* cancel = nullptr);

}  // namespace vitrine::sae
