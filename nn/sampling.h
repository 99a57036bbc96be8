// Choosing the next token, and generating text.
#pragma once

#include <functional>
#include <span>

#include "nn/model.h"
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

// The id chosen from logits [vocabulary]. `draw` in [0, 1) decides when temperature > 0. Ties go to
// the lower id.
int choose(std::span<const float> logits, const Sampling& sampling, double draw);

// The k largest entries, best first, ties by id.
struct Candidate {
  int id;
  double logit, probability;  // softmax over the whole vocabulary
};
std::vector<Candidate> top_tokens(std::span<const float> logits, int k);

// `count` tokens after the prompt, fewer when the end-of-text token comes. Token i is drawn with
// draw i of `key`'s stream. Each is passed to `on_token` as it comes, if given; false from it
// stops. Throws ContextError when prompt and text together would exceed the context.
Tokens generate(const Model& model, const Tokens& prompt, int count, const Sampling& sampling,
                random::Key key, const std::function<bool(int id)>& on_token = {});

}  // namespace vitrine::nn
