// SAE features as nodes of circuits: --features, with --sae.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "apps/experiment/edit_options.h"
#include "autograd/edges/edge_set.h"
#include "interp/patching.h"
#include "nn/model/model.h"

namespace vitrine::app {

// The edges of a model in which each MLP with a spliced SAE is replaced, as a sender, by features
// and the rest (sae/features/feature_edges.h). Of each SAE the `most` features that differ most between the
// two runs of any pair, and those that the circuits of these files have as senders; where that is
// none, the MLP stays. Throws Error (usage) for
// an SAE of another site than hook_mlp_out, FileError for a file that is no circuit's.
std::shared_ptr<const EdgeSet> edges_with_features(const nn::Model& model,
                                                   const std::vector<SplicedSae>& saes,
                                                   const std::vector<interp::Pair>& pairs,
                                                   std::int64_t most,
                                                   const std::vector<std::string>& files);

}  // namespace vitrine::app
