// Attention-pattern scores of every head on repeated random tokens, the simplest head detectors:
// previous-token, duplicate-token and induction (Elhage et al. 2021; Olsson et al. 2022).
//
//   HeadScores s = head_scores(m, repeated_tokens(m.config(), random::Key{0}));
//   s.induction;                                   // f64 [layer, head]
//
// With T tokens in a half, 2T in all, and pattern[q, k] how much query q attends to position k:
//
//   previous    mean of pattern[q, q - 1] over q >= 1
//   duplicate   mean over the second half of the sum of pattern[q, k] over k < q with q's token
//   induction   mean of pattern[q, q - T + 1] over the second half: the token after q's first time
//
// These measure attention alone. Whether a head copies what it attends to, and whether anything
// depends on that, is asked in induction_heads.h.
#pragma once

#include <span>
#include <vector>

#include "interp/data/data_set.h"
#include "nn/model/model.h"
#include "tensor/random.h"

namespace vitrine::interp {

// One head of a model, both from 0.
struct Head {
  int layer = 0, head = 0;
  friend bool operator==(const Head&, const Head&) = default;
  friend auto operator<=>(const Head&, const Head&) = default;
};
std::string to_string(const Head& head);  // "5.1"
std::vector<Head> all_heads(const nn::Config& config);
// Of f64 [layer, head].
inline double of_head(const Tensor& t, const Head& h) { return t.at<double>({h.layer, h.head}); }
// Of "5.1". Throws Error (usage) for what is not two numbers or not a head of the model.
Head parse_head(std::string_view text, const nn::Config& config);

// Three scores of every head, each from 0 to 1.
struct HeadScores {
  Tensor previous, duplicate, induction;  // f64 [layer, head]
};

// `sequences` times `half` random tokens and the same again. They are drawn from the whole
// vocabulary but for the tokens that begin and end texts. Halves that do not fit into the context
// twice are cut. Throws Error (usage) unless sequences >= 1 and half >= 2, and Error (input) for a
// context or a vocabulary that is too small for it.
std::vector<nn::Tokens> repeated_tokens(const nn::Config& config, random::Key key,
                                        int sequences = 8, int half = 32);

// Each prompt is a half said twice, all of one length; Error (input) otherwise, naming the prompt.
void check_repeated(const std::vector<nn::Tokens>& prompts);

// The means over the prompts and the queries of their second halves. Throws what check_repeated and
// nn::check_prompts throw.
HeadScores head_scores(const nn::Model& model, const std::vector<nn::Tokens>& prompts);

// The same three on prompts of any kind and length. Of one prompt, with q a query and k a key before
// it that holds q's token:
//
//   previous    mean of pattern[q, q - 1] over q >= 1
//   duplicate   mean of the sum of pattern[q, k] over k, over the queries that have such a k
//   induction   mean of the sum of pattern[q, k + 1] over the k with k + 1 < q, over the queries
//               that have such a k
//
// A prompt without such queries has no score, NaN, and does not count in the means.
struct HeadScoresOver {
  std::vector<HeadScores> each;               // of every prompt
  Statistics previous, duplicate, induction;  // over the prompts
};
// Throws what nn::check_prompts throws.
HeadScoresOver head_scores_on(const nn::Model& model, std::span<const nn::Tokens> prompts);

// The scores as nodes: adds the output "head_scores" [layer, 3, head], of which the second axis is
// previous, duplicate, induction, and gives the mean induction score of all heads. It can be swept:
// every edited run then has its own scores.
Metric head_score_metric(const nn::Config& config, const std::vector<nn::Tokens>& prompts);
inline constexpr const char* kHeadScores = "head_scores";

}  // namespace vitrine::interp
