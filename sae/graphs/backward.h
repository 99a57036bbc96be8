// The gradients of an attribution graph: the local replacement model of a prompt, backwards, for many targets at once.
#pragma once

#include <vector>

#include "nn/model/model.h"
#include "sae/transcoder_set.h"

namespace vitrine::sae {

// A block of the model as the replacement model has it, and what was recorded of it on the prompt (T positions).
struct LinearBlock {
  // Before attention and before the MLP: gain, bias [d], whether it centres, and the recorded scales [T, 1].
  struct Norm {
    Tensor gain, bias, scale;
    bool centred = true;
  };
  Norm ln1, ln2;
  Tensor w_v, b_v, w_o, b_o;  // [d, groups e], [groups e], [heads e, d], [d]
  Tensor pattern;             // [heads, T, T]
  Tensor error;               // [T, d]
  Tensor constant;            // [T, d]: what the MLP gives besides features, error and skip
  Tensor w_skip;              // [d, d] or undefined
  // What is read off the gradient of the MLP's output: for each position the same number of vectors, those of the sources there,
  // then zeros: [T, sources, d].
  Tensor sources;
};

struct LinearModel {
  std::vector<LinearBlock> blocks;
  LinearBlock::Norm final;
  Tensor token, position;  // [T, d]: what was embedded; position undefined where there is none
  int heads = 1, groups = 1;
};

// Targets that are read at one place: what the norm before the MLP of a block gives, or, where layer is the number of blocks,
// what the final norm gives.
struct Targets {
  std::size_t layer = 0;
  Tensor directions;  // f32 [targets, d]: each is direction . (what the norm gives at its position)
  std::vector<std::int64_t> positions;  // [targets]
};

struct Gradients {
  // Of each block before the targets, the last one first: [T, sources, targets] and [targets, T].
  std::vector<Tensor> of_sources, of_errors;
  Tensor of_tokens, of_positions;  // [targets, T]
  Tensor constant;                 // [targets]
  std::size_t first_block = 0;     // of_sources[i] is of block first_block - i
};
Gradients gradients_of(const LinearModel& model, const Targets& targets, nn::Model const& runs_on);

}  // namespace vitrine::sae
