// Weights to begin training with, as GPT-2 draws them (Radford et al. 2019).
#pragma once

#include "autograd/plan.h"
#include "nn/config.h"
#include "tensor/random.h"

namespace vitrine::nn {

// Matrices and embeddings from a normal distribution with standard deviation 0.02; those that write
// to the residual stream (c_proj) 0.02 / sqrt(2 layers), so that the stream does not grow with
// depth. Gains 1, biases 0. Each parameter has a stream of its own under `key`, named like it.
Parameters initial_weights(const Config& config, random::Key key, ThreadPool& pool);

}  // namespace vitrine::nn
