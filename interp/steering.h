// Activation steering: adds steering vectors (directions) to activations during generation, to
// change what the model writes about ("Activation addition", Turner et al. 2023; "Contrastive
// activation addition", Rimsky et al. 2024).
//
//   nn::Model m = nn::load_gpt2();
//   const Site stream = site::resid_post(1);
//   Tensor d = direction(m, stream, "The capital of Texas", "The capital of Ohio");
//   nn::generate(m, m.tokens("The capital of Ohio is"), 20, {}, {}, {}, {add(stream, d, 2)});
//
// A direction at a site has the shape of the site's value for one token: [feature], or [head,
// feature]; of one `head` [feature], to be added there: add(site, d, 2, {.head = {4}}). Any site
// works that has a value for each token. A head that the site does not have is an Error (input).
#pragma once

#include <filesystem>
#include <optional>
#include <span>
#include <string_view>

#include "interp/data/asked.h"
#include "interp/data/data_set.h"
#include "interp/data/metric_expression.h"
#include "interp/patching.h"
#include "nn/model/model.h"

namespace vitrine::interp {

// The activations of a prompt that are compared: that of its last token, or the mean over all.
enum class Positions { last, mean };
std::string_view name_of(Positions positions);

// Computes a steering vector: the site's value after `plus` minus its value after `minus`. Throws
// what Model::run throws and Error (input) for a site of which a token has no part of its own:
// attention patterns.
Tensor direction(const nn::Model& model, const Site& site, const nn::Prompt& plus,
                 const nn::Prompt& minus, Positions positions = Positions::last,
                 std::optional<int> head = {});

// Returns the unembedding vector of a token, [d_model]: the direction of the last layer's stream
// that raises the token's logit (the gain of the final LayerNorm is not part of it). Logits of
// tokens with similar or longer vectors rise too: a little makes the token more probable, much of
// it may not. Throws TokenError for an id outside the vocabulary, and Error (input) for a site that
// is not d_model wide.
Tensor direction_toward(const nn::Model& model, const Site& site, int token,
                        std::optional<int> head = {});

// Reads a direction from a .npy file, or from a tensor of a .safetensors file: `tensor` names it,
// "" is the only one. Axes of size 1 do not count. Throws FileError for a file that cannot be read
// or a tensor that has to be named, and Error (input) for a direction of the wrong width, or with
// NaN or infinity in it.
Tensor direction_from(const nn::Model& model, const Site& site, const std::filesystem::path& file,
                      std::string_view tensor = "", std::optional<int> head = {});

double norm(const Tensor& direction);  // its Euclidean length

// Computes the L2 norms of a site's values at the tokens of a prompt. A direction much shorter than
// these changes little, one much longer drowns what was there. The first token of a trained model
// often has a far larger norm than the others.
struct Norms {
  double mean = 0, least = 0, most = 0, last = 0;  // over all tokens; of the last one
};
Norms norms(const nn::Model& model, const Site& site, const nn::Prompt& prompt,
            std::optional<int> head = {});
// Over all tokens of many prompts; `last` is the mean over their last ones.
Norms norms(const nn::Model& model, const Site& site, std::span<const nn::Tokens> prompts,
            std::optional<int> head = {});

// Measures what steering does to many prompts: the metric after each one's position, f64 [factor,
// prompt], with factor * direction added at every position up to it. A batch of prompts is one
// sweep over the factors. logit_diff of a prompt without a wrong answer is the logit of its answer;
// kl is measured from the run without the direction. Throws what check_asked throws, Error (input)
// for a direction that does not fit the site, and SiteError.
Tensor steered(const nn::Model& model, std::span<const Asked> asked, const Site& site,
               const Tensor& direction, std::span<const double> factors,
               Measure measure = Measure::logit_diff, const std::atomic<bool>* cancel = nullptr,
               std::optional<int> head = {});
// The same of any metric of examples (interp/data/measure.h), after their last tokens: f64 [factor,
// example]. Where the metric reads answers of several tokens, the direction is added at these, too.
// `positions`: where it is added; none: everywhere. Throws what metric_of of examples throws, and
// ContextError, naming the line, for a position that a prompt does not have.
Tensor steered(const nn::Model& model, std::span<const Example> examples, const Site& site,
               const Tensor& direction, std::span<const double> factors, const MetricSpec& metric,
               const std::atomic<bool>* cancel = nullptr, std::optional<int> head = {},
               std::span<const Position> positions = {});
// The logits after a prompt with one vector added at every token of it: f32 [vectors, vocabulary], in
// their order. They are the worlds of a sweep. `vectors` [n, feature] of the site; throws what
// `steered` throws.
Tensor steered_logits(const nn::Model& model, const nn::Tokens& prompt, const Site& site,
                      const Tensor& vectors, const std::atomic<bool>* cancel = nullptr);
// The metric of prompts that end in their positions.
Metric metric_of(const nn::Model& model, std::span<const Asked> asked, Measure measure);

}  // namespace vitrine::interp
