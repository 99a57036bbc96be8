// A two-layer transformer of one's own, as a user would write it: embeddings, attention written out
// with matmul and softmax, a ReLU, a residual stream. What is tested is the mask of its layers.
#pragma once

#include <functional>
#include <string>

#include "autograd/compile/plan.h"
#include "autograd/ops/ops.h"

namespace vitrine::test {

inline constexpr std::int64_t kOwnTokens = 6, kOwnWidth = 4, kOwnVocabulary = 11;

// Masks scores [tokens, tokens] of a layer.
using MaskScores = std::function<Value(Builder&, const Value& scores, int layer)>;

struct OwnModel {
  Graph graph;
  Feeds feeds;
  Parameters parameters;
};

// Inputs tokens, targets; outputs logits [tokens, vocabulary], loss.
OwnModel own_model(const MaskScores& mask, bool residual = true);

// [tokens, tokens]: 0 where visible(query, key), `hidden` elsewhere.
Tensor mask_numbers(const std::function<bool(std::int64_t, std::int64_t)>& visible,
                    float hidden = -1e9F);

}  // namespace vitrine::test
