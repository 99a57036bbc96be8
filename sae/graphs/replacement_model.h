// What is recorded of a run for its local replacement model (attribution_graph.h), and the parts of that model that are
// the model's own: norms, attention, embeddings.
#pragma once

#include <vector>

#include "nn/model/model.h"
#include "sae/graphs/backward.h"
#include "sae/transcoder_set.h"

namespace vitrine::sae {

struct Recorded {
  nn::Run run;
  std::int64_t positions = 0;
  // f32 [T, ...] of one prompt.
  Tensor at(const Site& site) const {
    const Tensor value = run[site];
    return value.select(0, 0).to(DType::f32).contiguous();
  }
};
// Throws what Model::run throws.
Recorded record(const nn::Model& model, const nn::Tokens& prompt);

// Without what transcoders give: features, errors and constants of MLPs are not filled in.
LinearModel linear_model(const nn::Model& model, const Recorded& recorded);
// Takes gain and bias from the norms before MLPs whose transcoders read what these give without them.
void read_as_trained(const TranscoderSet& set, LinearModel& linear);

// W_U of each of these tokens less its mean over the vocabulary: f32 [tokens, d].
Tensor logit_directions(const nn::Model& model, const std::vector<int>& tokens);

// What a norm gives, of the normalised stream [T, d].
Tensor normed(const LinearBlock::Norm& norm, const Tensor& normalised);

}  // namespace vitrine::sae
