// Copying scores: does a head copy what it attends to? Three answers, from the most direct to the
// causal.
//
//   weights   Does a token's embedding, through the head's OV circuit and the unembedding, raise
//             the token? (the copying circuit W_E W_OV W_U of Elhage et al. 2021, with LayerNorms
//             and without a prompt)
//   context   The same for the stream as it is before the head's layer in a run: LN(x) W_V W_O.
//   causal    Give the head the value of another token of the prompt in place of that of the token
//             it attends to: does the prediction follow? (an interchange intervention, as in Geiger
//             et al. 2021)
//
// The first two ask whether the head's own output is already in the terms of the unembedding. A
// head of an early or middle layer may copy into a code that later layers turn into a logit, which
// only the third sees: it is measured at the logits, through everything that comes after. It also
// sees less than the first two where other heads copy the same token.
#pragma once

#include <vector>

#include "interp/head_scores.h"

namespace vitrine::interp {

// The rank of a source token in the whole vocabulary by the logits that a head writes for it.
struct CopyRanks {
  Tensor top;   // f64 [layer, head]: share of source tokens among the `count` that are most raised
  Tensor rank;  // f64 [layer, head]: mean rank, from 0, the most raised, to 1, the least
  int count = 0, sources = 0;
  double chance = 0;  // of `top`: count / vocabulary; that of `rank` is 0.5
};

// Computes copy ranks from activations, for `sources` positions drawn from the first halves. The
// mean value over all positions is subtracted: what a head writes for every source alike is no
// copying. Throws what check_repeated throws.
CopyRanks copying_in_context(const nn::Model& model, const std::vector<nn::Tokens>& prompts,
                             random::Key key, int count = 10, int sources = 64);
// Computes copy ranks from weights, for `sources` tokens drawn from the vocabulary, each without a
// position embedding.
CopyRanks copying_of_weights(const nn::Model& model, random::Key key, int count = 10,
                             int sources = 64);

// The mean and standard error, over the prompts, of a number for each prompt and head.
struct HeadEffects {
  Tensor mean, standard_error;  // f64 [layer, head]; the error is NaN for a single prompt
};
HeadEffects over_prompts(const Tensor& values);  // [layer, head, prompt]

// Swaps values within each prompt, in one edited run for each head: in the first half, the head's
// value at each position becomes that of another position of the same prompt (a random cycle of all
// but the first). Measures over the second half, where an induction head at a token attends to the
// first half's token after it, with `put in` the token whose value stands there now and `own` the
// original one:
//
//   the change of logit[put in] - logit[own], in nats
//
// More than 0: the prediction follows the value, the head copies. Less: it suppresses what it
// attends to. 0: the value does not matter, or the head attends elsewhere. Throws what
// check_repeated throws, Error (input) for halves of fewer than 3 tokens, and InterruptedError.
HeadEffects value_swaps(const nn::Model& model, const std::vector<nn::Tokens>& prompts,
                        random::Key key, const SweepOptions& options = {});

}  // namespace vitrine::interp
