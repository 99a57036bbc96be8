// Weight initialisation of an SAE.
#pragma once

#include "autograd/compile/plan.h"
#include "sae/rules.h"
#include "tensor/random.h"

namespace vitrine::sae {

// Kaiming-uniform decoder rows of norm rules.initial_norm, W_enc their transpose, biases 0,
// thresholds rules.initial_threshold; a transcoder's decoder 0, the rows of a
// matching pursuit's of norm 1. `biases`, where there are any that are
// defined, are what b_dec of each dictionary begins as: a mean or geometric median of activations, or of a
// transcoder's targets. In the shapes of trained_shapes.
Parameters initial_weights(const SaeTrainingRules& rules, random::Key key,
                           const std::vector<Tensor>& biases = {});

// The point with the least mean distance to the rows of x [n, d] (Weiszfeld 1937).
Tensor geometric_median(const Tensor& x, int iterations = 100);

}  // namespace vitrine::sae
