// Reports of attribution graphs: for people, for viewers, as tensors.
#pragma once

#include <string>
#include <vector>

#include "apps/graphs/explained_attention.h"
#include "apps/graphs/supernode_report.h"
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
  sae::ViewerGraph seen;                  // what viewers see of it, with the supernodes
  std::vector<std::size_t> strongest;     // features by their influence
  std::vector<double> effects;            // of all features on the first logit, by the graph
  std::vector<VerifiedFeature> verified;  // the first of the strongest
  std::vector<VerifiedFeature> random;    // other active features, for comparison
  SupernodesMeasured supernodes;          // those of `seen`
  ExplainedAttention attention;           // what was asked for

  std::string text(const Style& style) const;
  // circuit-tracer's {metadata, qParams, nodes, links}, and {counts, scores, closure, logits, strongest, random, supernodes, merged,
  // attention, edges}.
  Json json() const;
  NamedTensors tensors() const;
  // What the page has besides: {raised: {"LAYER_FEATURE": [{id, token, value}]}, effects: {node_id: effect}}, of the kept features,
  // what packed_graph gives, and kept: the names of what a file that it saves has besides nodes and links.
  Json page_data() const;
};

// The graph as viewers see it, before anything is measured. Throws what viewer_graph throws.
sae::ViewerGraph seen_by_viewers(const nn::Model& model, const sae::TranscoderSet& set,
                                 const sae::AttributionGraph& graph, const sae::PrunedGraph& pruned,
                                 double node_threshold, std::vector<sae::Supernode> supernodes);

}  // namespace vitrine::app
