// Direct logit attribution: how much of a logit each part of the model wrote into the residual
// stream (Elhage et al. 2021; TransformerLens's `logit_attrs`).
//
// The stream after the last layer is a sum: embedding, position, every head, every MLP, and the
// biases of attention. With the scale s of the final LayerNorm frozen at its value in this run, the
// logit is a linear function of it, and so a sum of shares:
//
//   logit[a] = sum over parts of part . u + ln_final.b . W_U[:, a] + b_U[a]
//   u        = (g - mean g) / s,  g = ln_final.w W_U[:, a]
//
//   Decomposition d = decompose(m, m.tokens("The capital of Texas is"), {.answer = austin});
//   d.residual();                                  // what is missing: rounding, no more
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "interp/data/asked.h"
#include "nn/model/model.h"

namespace vitrine::interp {

// A part of the model, and its share of a logit.
struct Part {
  enum class Kind {
    embed,
    pos_embed,
    head,
    mlp,
    attn_bias,
    final_bias,
    unembed_bias,
    edit  // what a standing edit of the stream, or of hook_attn_out, has added there
  };
  Kind kind = Kind::embed;
  int layer = -1, index = -1;  // of heads; MLPs, biases and edits have a layer
  double value = 0;            // share of the logit, in logits
  // "L0H3", "2_mlp_out", "embed", "pos_embed" (TransformerLens's labels), "1_attn_b_O",
  // "ln_final.b", "unembed.b_U".
  std::string name() const;
};

// A logit (or a difference of two) at one position as the sum of what every part wrote, with the final
// norm's scale held (Elhage et al. 2021). Values are in logits.
struct Decomposition {
  std::vector<Part> parts;  // in the order of the model; they add up to the logit
  // Inside MLPs: shares of neurons f64 [layer, m], which with the share of each b_out f64 [layer]
  // add up to the MLPs'.
  Tensor neurons, mlp_biases;
  double logit = 0;          // what the model says: logit[answer], or - logit[wrong] as well
  double scale = 0;          // ln_final.hook_scale, held
  double total() const;      // of the parts, in f64
  double magnitude() const;  // sum of |parts|
  double residual() const { return logit - total(); }
  // Whether it closes: |residual| <= 1e-5 max(1, sum |parts|).
  bool closes() const;
};

// Which logit is decomposed: of what token, against what other one, after which position.
struct DecomposeSpec {
  int answer = 0;
  std::optional<int> wrong;              // then of logit[answer] - logit[wrong]
  std::optional<std::int64_t> position;  // default: the last
};
// Throws what logit_lens and check_position throw.
Decomposition decompose(const nn::Model& model, const nn::Tokens& prompt,
                        const DecomposeSpec& spec);
// The same for many prompts, each at its position and with its own answer: one Decomposition each,
// whose parts are the same in the same order. Throws what check_asked throws.
std::vector<Decomposition> decompose(const nn::Model& model, std::span<const Asked> asked);

// ---- views --------------------------------------------------------------------------------------
// Per layer: what its heads and its bias wrote together, and its MLP; f64 [layer, 2]. Edits are no part of it.
Tensor by_layer(const Decomposition& d, int layers);

struct NeuronShare {
  int layer = 0, neuron = 0;
  double value = 0;
};
// The `count` with the largest |share|, of one layer or of all.
std::vector<NeuronShare> top_neurons(const Decomposition& d, int count,
                                     std::optional<int> layer = {});

}  // namespace vitrine::interp
