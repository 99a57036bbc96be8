// Logit readout: projects a vector of the residual stream through the unembedding, to list the
// tokens that it raises or lowers.
//
//   Tensor logits = to_logits(model, w_out);             // [neurons, d] -> [neurons, vocabulary]
//   highest(logits.select(0, 611), 5);                   // the five tokens that neuron 611 raises
#pragma once

#include <optional>
#include <vector>

#include "nn/model/model.h"

namespace vitrine::interp {

// Projects vectors [n, d] onto the vocabulary, f32 [n, vocabulary]: ((x - mean x) ln_final.w) W_U,
// less the mean over the vocabulary, which no prediction depends on. The final LayerNorm also
// divides by a scale that depends on the whole stream: to have logits of one position, divide by
// its ln_final.hook_scale. Throws ShapeError for vectors of another width than the stream's.
Tensor to_logits(const nn::Model& model, const Tensor& vectors);

struct TokenValue {
  int id = 0;
  double value = 0;
};
// The `count` largest or smallest of values [vocabulary], by value, then id.
std::vector<TokenValue> highest(const Tensor& values, int count);
std::vector<TokenValue> lowest(const Tensor& values, int count);

}  // namespace vitrine::interp
