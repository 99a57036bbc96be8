// Reports of attribution graphs: for people, for viewers, as tensors.
#pragma once

#include <string>
#include <vector>

#include "apps/terminal/output.h"
#include "apps/terminal/text.h"
#include "sae/graphs/effects.h"
#include "sae/graphs/pruned_graph.h"
#include "tensor/files/safetensors.h"

namespace vitrine::app {

// A feature that was ablated in the model, beside what the graph says.
struct VerifiedFeature {
  std::size_t number = 0;  // in graph.features
  double exact = 0;
};

struct GraphReport {
  const nn::Model& model;
  const sae::TranscoderSet& set;
  const sae::AttributionGraph& graph;
  const sae::PrunedGraph& pruned;
  double node_threshold = 0.8;
  std::vector<std::size_t> strongest;     // features by their influence
  std::vector<double> effects;            // of all features on the first logit, by the graph
  std::vector<VerifiedFeature> verified;  // the first of the strongest
  std::vector<VerifiedFeature> random;    // other active features, for comparison

  std::string text(const Style& style) const;
  // circuit-tracer's {metadata, qParams, nodes, links}, and {counts, scores, closure, logits, strongest, random}.
  Json json() const;
  NamedTensors tensors() const;
  // What the page has besides: {raised: {"LAYER_FEATURE": [{id, token, value}]}, effects: {node_id: effect}}, of the kept features.
  Json page_data() const;
};

}  // namespace vitrine::app
