// Ragged batches: packs prompts into rows without padding, as the feeds of a model's graph.
#pragma once

#include <vector>

#include "autograd/compile/plan.h"
#include "nn/families/architecture.h"

namespace vitrine::nn {

using Tokens = std::vector<int>;

// The sizes of a batch, and every table that the graph of a model and its metrics read. Throws ContextError
// for an empty batch, an empty prompt, or one longer than the context, and TokenError for an id
// outside the vocabulary; both name the prompt.
BatchSize batch_size(const std::vector<Tokens>& prompts);
Feeds batch_feeds(const std::vector<Tokens>& prompts);
void check_prompts(const std::vector<Tokens>& prompts, const Config& config);

// Counts the tokens of the batch that have a next token: the n of next_token_loss.
std::int64_t next_tokens(const std::vector<Tokens>& prompts);

}  // namespace vitrine::nn
