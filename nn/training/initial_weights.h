// Weight initialisation: GPT-2's (Radford et al. 2019), or a mimetic one, whose attention can look
// at neighbours and copy from the first step.
#pragma once

#include "autograd/compile/plan.h"
#include "nn/families/config.h"
#include "tensor/random.h"

namespace vitrine::nn {

inline constexpr double kInitializerRange = 0.02;  // GPT-2's

// gpt2: matrices and embeddings from a normal distribution with standard deviation `range`; those
// that write to the residual stream (c_proj) range / sqrt(2 layers), so that the stream does not
// grow with depth.
//
// mimetic: the same, but for what trained attention has in common and random weights lack, after
// Trockman & Kolter 2023 (Mimetic Initialization of Self-Attention Layers):
// - position embeddings are sinusoids (Vaswani et al. 2017), 1.5 times as long as those of tokens,
//   which have a deviation of 1.5 range: near positions are alike;
// - in the first layer W_K = W_Q, with deviation 1 / sqrt(d_model), so a row attends to rows that
//   are near or hold the same token;
// - in later layers a head's W_O is 2 / sqrt(2 layers) times its W_V transposed: W_V W_O is then
//   about a multiple of the identity (as far as d_head allows), and what a head attends to becomes
//   likelier as the next token.
// No head looks at the token before, and none completes a repetition: both are left to training.
enum class Initializer { gpt2, mimetic };

// Gains 1, biases 0; `range` above 0 (HuggingFace's initializer_range). Each parameter has a stream
// of its own under `key`, named like it.
//
// GPT-2's 0.02 is for widths of 768 and more; a narrow model can begin sooner to copy words of its
// context with more, such as 1 / sqrt(width).
Parameters initial_weights(const Config& config, random::Key key, ThreadPool& pool,
                           double range = kInitializerRange,
                           Initializer initializer = Initializer::gpt2);

}  // namespace vitrine::nn
