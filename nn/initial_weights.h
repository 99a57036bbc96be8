// Weights to begin training with, as GPT-2 draws them (Radford et al. 2019).
#pragma once

#include "autograd/plan.h"
#include "nn/config.h"
#include "tensor/random.h"

namespace vitrine::nn {

inline constexpr double kInitializerRange = 0.02;  // GPT-2's

// Matrices and embeddings from a normal distribution with standard deviation `range` (above 0;
// HuggingFace's initializer_range); those that write to the residual stream (c_proj)
// range / sqrt(2 layers), so that the stream does not grow with depth. Gains 1, biases 0. Each
// parameter has a stream of its own under `key`, named like it.
//
// GPT-2's 0.02 is for widths of 768 and more; a narrow model can begin sooner to copy words of its
// context with more, such as 1 / sqrt(width).
Parameters initial_weights(const Config& config, random::Key key, ThreadPool& pool,
                           double range = kInitializerRange);

}  // namespace vitrine::nn
