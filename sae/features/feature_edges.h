// SAE features as nodes of a circuit: what an MLP adds to the residual stream is what its features
// add, and the rest.
//
//   EdgeSet edges = nn::stream_edges(m.config());
//   edges = with_parts(edges, "m4", feature_senders(sae, "sae", "m4", {12, 345}));
//
// For a model in which the SAE is spliced in at blocks.4.hook_mlp_out with its error kept
// (autograd/transform/splice.h). Feature j adds f_j W_dec[j]; the last sender, `m4.error`, is all
// else: features that are not named, b_dec, and the reconstruction error. They add up to what the
// MLP adds, so that a run is the same run. (Marks et al. 2024.)
#pragma once

#include <string>
#include <vector>

#include "autograd/edges/edge_set.h"
#include "sae/sae.h"

namespace vitrine::sae {

// `name` is the SAE's in the graph's parameters, `node` what its site is called among the senders.
// Senders: node.f12, node.f345, ..., node.error. Throws ConfigError for an SAE that normalises its
// input by more than a constant, or reads one head or all, and for a feature that it does not have.
EdgeSenders feature_senders(const Sae& sae, const std::string& name, const std::string& node,
                            const std::vector<std::int64_t>& features);

}  // namespace vitrine::sae
