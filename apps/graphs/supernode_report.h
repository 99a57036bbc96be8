// Reports of supernodes: the edges between them, summed, and what scaling each of them does.
#pragma once

#include <string>
#include <vector>

#include "apps/terminal/output.h"
#include "apps/terminal/text.h"
#include "nn/model/sampling.h"
#include "sae/graphs/group_effects.h"
#include "sae/graphs/viewer_graph.h"

namespace vitrine::app {

// What scaling one supernode does to each logit of the graph, and what the model says then.
struct SupernodeEffects {
  std::vector<double> by_graph, recomputed, held;  // how much lower, [logits]; attention patterns
  std::vector<nn::Candidate> says, says_held;      // the most probable next tokens
};

struct SupernodesMeasured {
  double factor = 0;
  std::vector<SupernodeEffects> effects;  // of each supernode
};
// Throws what node_named and effects_in_model throw.
SupernodesMeasured measure_supernodes(const nn::Model& model, const sae::TranscoderSet& set,
                                      const sae::AttributionGraph& graph,
                                      const std::vector<sae::Supernode>& supernodes, double factor,
                                      const std::atomic<bool>* cancel);

std::string supernodes_text(const nn::Model& model, const sae::AttributionGraph& graph,
                            const std::vector<sae::Supernode>& supernodes,
                            const SupernodesMeasured& measured, const Style& style);
Json supernode_effects_json(const nn::Model& model, const sae::AttributionGraph& graph,
                            const std::vector<sae::Supernode>& supernodes,
                            const SupernodesMeasured& measured);

// The sums of edges that begin or end in a supernode, `most` of them.
std::string merged_text(const sae::ViewerGraph& graph, std::size_t most, const Style& style);
Json merged_json(const sae::ViewerGraph& graph);  // [{source, target, weight, links}], all

// A node as a table shows it: "feature 20 of layer 1 at 3 Texas".
std::string node_text(const sae::ViewerGraph& graph, const std::string& id);

}  // namespace vitrine::app
