// The logit lens (nostalgebraist 2020): unembeds the residual stream after each layer, as if the
// model stopped there.
//
//   Lens lens = logit_lens(m, m.tokens("The capital of Texas is"), m.token(" Austin"));
//   lens.ln.at<double>({3, 4});                  // after the third layer, at the last token
//
// The residual stream is read after the embedding and after every layer, in two ways:
//
//   raw   x . W_U[:, answer]                      linear: the changes of the layers add up
//   ln    LN_f(x) . W_U[:, answer] + b_U[answer]  each x with its own scale: what the model would
//                                                 say, ending with what it says; the scales
//                                                 differ, so changes do not add up
#pragma once

#include <optional>
#include <span>
#include <vector>

#include "interp/data/asked.h"
#include "interp/readout.h"
#include "nn/model/model.h"

namespace vitrine::interp {

// What each layer says of the answer, in logits.
struct Lens {
  Tensor raw, ln;  // f64 [1 + layers, position], the embedding first: logits, or their differences
};
// With `wrong`, logit[answer] - logit[wrong]. Throws TokenError for an id outside the vocabulary
// and what nn::check_prompts throws.
Lens logit_lens(const nn::Model& model, const nn::Tokens& prompt, int answer,
                std::optional<int> wrong = {});
// Which positions are read: all, or the one that is asked alone, [1 + layers, 1].
enum class LensRows { all, asked };
// The same for many prompts, each with its own answer: one Lens each. Throws what check_asked
// throws.
std::vector<Lens> logit_lens(const nn::Model& model, std::span<const Asked> asked,
                             LensRows rows = LensRows::all);

// A token that a layer would say, by its logit and probability.
struct LensToken {
  int id = 0;
  double logit = 0, probability = 0;
};
// The `count` most probable next tokens through the final LayerNorm, [position][1 + layers], at
// these positions. Throws ContextError for a position that the prompt does not have.
using LensTokens = std::vector<std::vector<LensToken>>;  // [1 + layers][count]
std::vector<LensTokens> lens_tokens(const nn::Model& model, const nn::Tokens& prompt,
                                    const std::vector<std::int64_t>& positions, int count);
// The same for many prompts: [prompt][position]. Throws ShapeError unless there is a list of
// positions for each prompt.
std::vector<std::vector<LensTokens>> lens_tokens(
    const nn::Model& model, std::span<const nn::Tokens> prompts,
    std::span<const std::vector<std::int64_t>> positions, int count);

}  // namespace vitrine::interp
