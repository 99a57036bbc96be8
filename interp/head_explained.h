// QK and OV circuits of one attention head (Elhage et al. 2021): what it attends to, and what it
// writes when it attends, on a prompt and from the weights alone.
//
// The gain of the LayerNorm before the head is folded into its weights in both, so that they read
// (x - mean x) / scale. Tokens are read in through their embeddings alone, without position: what a
// head of a later layer sees also holds what the layers before it wrote, and the picture is the
// rougher the later the layer.
#pragma once

#include <optional>
#include <vector>

#include "interp/head_scores.h"
#include "interp/readout.h"

namespace vitrine::interp {

// ---- on a prompt --------------------------------------------------------------------------------
struct HeadSource {
  std::int64_t position = 0;
  double weight = 0;  // of the pattern
  double length = 0;  // of what comes from there, weight v W_O, in the stream
  // Tokens whose logits that raises most, in logits: through the final LayerNorm, with its scale at
  // the destination held as it is in this run.
  std::vector<TokenValue> raised;
};
struct HeadOnPrompt {
  Head head;
  std::int64_t position = 0;        // the destination
  std::vector<HeadSource> sources;  // by weight
  // All that the head writes there, without the bias of attention.
  std::vector<TokenValue> raised, lowered;
  double length = 0;
  // The query, asked of tokens: the attention score q . k(embedding) scale of each, less the mean
  // over the vocabulary.
  std::vector<TokenValue> looks_for, avoids;
};
// At one position, by default the last; `count` tokens in each list, `sources` sources.
HeadOnPrompt explain_on_prompt(const nn::Model& model, const nn::Tokens& prompt, const Head& head,
                               std::optional<std::int64_t> position = {}, int count = 5,
                               int sources = 5);

// ---- from the weights alone ---------------------------------------------------------------------
// One singular direction of W_QK = W_Q W_K^T scale or W_OV = W_V W_O: value, and what stands at
// both ends of its two sides. `in` is the query's side, or the value's input; `out` the key's side,
// or what is written. A token at the high end of `in` looks for those at the high end of `out`
// (writes them), one at the low end for those at the low end.
struct HeadDirection {
  double value = 0;
  double share = 0;  // value^2 of the sum of all squares
  std::vector<TokenValue> in_high, in_low, out_high, out_low;
};
// What a head's QK and OV circuits look for and write, by their largest singular directions.
struct HeadFromWeights {
  Head head;
  std::vector<HeadDirection> qk, ov;  // the largest first
};
HeadFromWeights explain_weights(const nn::Model& model, const Head& head, int directions = 3,
                                int count = 5);

}  // namespace vitrine::interp
