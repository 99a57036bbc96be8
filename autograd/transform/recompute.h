// Activation checkpointing, or rematerialisation (Chen et al. 2016, "Training deep nets with
// sublinear memory cost"): saves memory for the cost of about one forward pass.
//
//   Graph g = gradient(model, nn::training_loss(n), leaves("*"));
//   Graph small = recompute(g, sites("blocks.*.hook_resid_pre"));
#pragma once

#include "autograd/graph/graph.h"

namespace vitrine {

// Returns the graph in which gradients read copies of the forward pass's values, recomputed from
// the kept sites (checkpoints) when the backward pass arrives there. Between forward and backward
// pass only the kept sites' values live. Values and gradients have the same bits. The kept sites,
// in the order of the model, cut it into segments; what lies before the first, or after the last,
// where the backward pass begins, is not computed again, so with fewer than two sites the graph
// stays as it is. The forward pass is what the graph's sites are computed from. Make it after
// gradient() and what edits the model, and do not differentiate further: copies read through
// `detach`. Throws SiteError for an unknown site, GraphError for one that lies hidden inside a
// composite.
Graph recompute(const Graph& with_gradients, const SiteSet& kept);

}  // namespace vitrine
