// Sampling the next token (greedy, temperature, top-k, top-p), and text generation with a KV cache.
#pragma once

#include <functional>
#include <span>

#include "nn/model/model.h"
#include "tensor/random.h"

namespace vitrine::nn {

struct Sampling {
  double temperature = 0;  // 0: greedy, the most probable token
  int top_k = 0;           // keep the k most probable tokens; 0: all
  double top_p = 1;        // keep the fewest tokens whose probability reaches this (Holtzman
                           // et al. 2019); applied after top_k
};

// Throws Error (usage) when temperature < 0, top_k < 0 or top_p is outside (0, 1].
void check_sampling(const Sampling& sampling);

// Samples an id from logits [vocabulary]. `draw` in [0, 1) decides when temperature > 0. Ties go to
// the lower id. Throws NumericError for a logit that is not finite.
int choose(std::span<const float> logits, const Sampling& sampling, double draw);

// Finds the k largest entries, best first, ties by id. Throws NumericError for one that is not
// finite.
struct Candidate {
  int id;
  double logit, probability;  // softmax over the whole vocabulary
};
std::vector<Candidate> top_tokens(std::span<const float> logits, int k);

// Returns how many new tokens can follow a prompt of `prompt` tokens: one more than there are free
// positions, since the last new token is not read.
std::int64_t most_new_tokens(const Config& config, std::int64_t prompt);

// Generates `count` tokens after the prompt, fewer when the end-of-text token comes. Token i is
// drawn with draw i of `key`'s stream. Each is passed to `on_token` as it comes, if given; false
// from it stops. Throws ContextError for more than most_new_tokens.
//
// `what` intervenes during generation: an edit without positions at every token, of the prompt and
// generated, one with positions at those alone, counted from the start of the prompt. The KV cache
// changes nothing: the text is the one that recomputing everything for each token gives. Throws
// what intervene and with_interventions throw, GraphError for a position after those of the text,
// and ShapeError for a value that is not the same at every position: all before the first token.
Tokens generate(const Model& model, const Tokens& prompt, int count, const Sampling& sampling,
                random::Key key, const std::function<bool(int id)>& on_token = {},
                const Interventions& what = {});

// Computes the logits after the last token of the prompt, f32 [vocabulary], from which generate
// samples the first token.
Tensor next_logits(const Model& model, const Tokens& prompt, const Interventions& what = {});

}  // namespace vitrine::nn
