// Reads and writes of the residual stream: how much each part of the model writes at a position,
// and which later heads and MLPs read it there (Elhage et al. 2021, "the residual stream as a
// communication channel").
//
// A reader's input is linear in the writes once the scale s of its LayerNorm is frozen at its value
// in this run: read(x) = (((x - mean x) / s) ln.w) W, with W the reader's W_Q, W_K, W_V or W_in. A
// writer's share of the total sum_u read(u) = R is
//
//   share(u) = read(u) . R / |R|^2
//
// so that the shares of all writers add up to 1. A negative one works against the rest. The
// reader's bias reads nothing and has no part in it.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "nn/model/model.h"

namespace vitrine::interp {

struct StreamUse {
  std::vector<std::string> writers;  // embed, pos_embed, L0H0, ..., 0_attn_b_O, 0_mlp_out, ...
  std::vector<std::string> readers;  // L0H0.q, ..., L0H0.k, ..., L0H0.v, ..., 0_mlp, ...
  Tensor written;                    // f64 [writers]: the length of what each adds to the stream
  Tensor stream;  // f64 [1 + layers]: the length of the stream after the embedding and each layer
  Tensor share;   // f64 [writers, readers]; 0 where the writer comes after the reader
  Tensor valid;   // bool [writers, readers]: whether it comes before
};
// Measures writes and reads at one position, by default the last. Throws what nn::check_prompts and
// check_position throw.
StreamUse stream_use(const nn::Model& model, const nn::Tokens& prompt,
                     std::optional<std::int64_t> position = {});

}  // namespace vitrine::interp
