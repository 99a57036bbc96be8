// GPT-2 as a graph (Radford et al. 2019): the whole model is in gpt2.cpp, to be read from top to
// bottom.
#pragma once

#include "autograd/gradient.h"
#include "autograd/graph.h"
#include "nn/config.h"

namespace vitrine::nn {

// How many packed rows a graph is built for. All prompts of a batch lie one after the other,
// without padding.
struct BatchSize {
  std::int64_t rows = 0;       // tokens of all prompts together
  std::int64_t sequences = 1;  // prompts
  std::int64_t positions = 0;  // tokens of the longest prompt
  friend auto operator<=>(const BatchSize&, const BatchSize&) = default;
};

// Inputs, all i32: tokens [rows]; rows.sequence [rows], rows.position [rows], rows.keys [sequences,
// positions] (see autograd/README.md). Parameters: HuggingFace's names and shapes, without
// "transformer.". Output: logits [rows, vocabulary]. Every site of nn/sites.h exists. dtype is f32,
// or f64 for checks.
Graph build_gpt2(const Config& config, const BatchSize& size, DType dtype = DType::f32);

// Mean cross-entropy, in nats, of predicting each token from those before it, over all prompts.
// Inputs, i32: next.row [n], the rows that have a next token, and next.token [n]. Adds the output
// loss_per_token [n].
Metric next_token_loss(std::int64_t n);

// logit[answer] - logit[wrong] after the last token of each prompt, averaged over prompts. Input:
// rows.last [sequences].
Metric logit_diff(int answer, int wrong);

}  // namespace vitrine::nn
