// Activation patching (causal tracing): locates the activations that make a model's answer differ
// between two prompts (Vig et al. 2020; Meng et al. 2022; as in TransformerLens).
//
//   nn::Model m = nn::load_gpt2();
//   Pair pair = prompt_pair(m, "The capital of Texas is", "The capital of California is",
//                           " Austin", " Sacramento");
//   PatchSweep s = patch_sweep(m, pair, {.site = "resid_pre", .by = By::pos});
//   s.values;                                    // [layer, pos]: the metric of each patched run
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "interp/data/data_set.h"
#include "interp/data/measure.h"
#include "interp/data/metric_expression.h"
#include "interp/readout.h"
#include "nn/model/model.h"

namespace vitrine::interp {

// Two prompts of the same length, and the two tokens that metrics look at after the last position.
struct Pair {
  nn::Tokens clean, corrupt;
  int answer = 0, wrong = 0;
};
Example example_of(const Pair& pair);
// Throws TokenError for an answer that is not a single token.
Pair prompt_pair(const nn::Model& model, const nn::Prompt& clean, const nn::Prompt& corrupt,
                 std::string_view answer, std::string_view wrong);
// Throws Error (input) when the prompts differ in length, showing both tokenisations, and
// ContextError or TokenError for prompts and answers that the model cannot take.
void check_pair(const nn::Model& model, const Pair& pair);
// Its part: that two prompts fit the model and line up, token by token. (check_answer: measure.h.)
void check_aligned(const nn::Model& model, const nn::Tokens& clean, const nn::Tokens& corrupt);
// The same of each, naming the pair, counted from 0, where there are several.
void check_pairs(const nn::Model& model, std::span<const Pair> pairs);

// The unit of patching: what one run of a sweep changes.
enum class By {
  pos,            // one position, all heads                        -> [layer, pos]
  head,           // one head, all positions                        -> [layer, head]
  head_pos,       // one head at one position                       -> [layer, pos, head]
  head_dest,      // one head's pattern at one destination           -> [layer, head, dest]
  head_dest_src,  // one entry of one head's pattern                 -> [layer, head, dest, src]
  feature,        // one neuron or SAE feature, all positions        -> [layer, feature]
  feature_pos,    // one of them at one position                     -> [layer, pos, feature]
};
std::string_view name_of(By by);     // "head,pos": as on the command line
By parse_by(std::string_view text);  // throws Error (usage) naming the words there are

// The ways in which a site can be swept, the usual one first. Throws Error (usage) for a site that
// cannot be, naming those that can.
std::vector<By> ways_to_sweep(std::string_view site);
// Throws the same, and Error (usage) for a site that does not go with `by`.
void check_sweep(std::string_view site, By by);

// The replacement for the base run's values (patching, zero, mean or resample ablation).
enum class Replacement {
  patch,    // the other prompt's
  zero,     // zero ablation
  mean,     // mean ablation: the mean over all positions of all prompts, clean and corrupt
  resample  // resample ablation: those of another pair's base prompt of the same length
};
std::string_view name_of(Replacement replacement);     // "resample": as on the command line
Replacement parse_replacement(std::string_view text);  // throws Error (usage) naming the words
// denoise: the base run is corrupt, and clean activations are put in: what restores the answer?
// noise: the base run is clean, and corrupt ones are put in: what breaks it?
enum class Direction { denoise, noise };
std::string_view name_of(Direction direction);
const nn::Tokens& base_prompt(const Pair& pair, Direction direction);
const nn::Tokens& other_prompt(const Pair& pair, Direction direction);

// The metric, measured after the last position (nn/model/metrics.h).
enum class Measure {
  logit_diff,  // logit[answer] - logit[wrong]
  prob,        // of the answer
  log_prob,    // of the answer, in nats
  kl           // KL(clean || edited), in nats: 0 for what predicts as the clean run does
};
std::string_view name_of(Measure measure);     // "log_prob": as on the command line
Measure parse_measure(std::string_view text);  // throws Error (usage) naming the words there are

// Makes the metric as a graph, for runs of these pairs' clean or corrupt prompts. KL is measured
// from the clean run, which is made for it.
Metric metric_of(const nn::Model& model, std::span<const Pair> pairs, Measure measure);
// The same of any metric, which stands in the place of `measure` where there is one.
Metric metric_of(const nn::Model& model, std::span<const Pair> pairs, Measure measure,
                 const std::optional<MetricSpec>& metric);
// What it is called: "logit_diff", or the expression.
std::string metric_name(Measure measure, const std::optional<MetricSpec>& metric);

// What a sweep edits, one place a run, and what it measures.
struct SweepSpec {
  // resid_pre, resid_mid, resid_post, attn_out, mlp_out (by pos), z, q, k, v (by head, pos or
  // head,pos), pattern (by head, head,dest or head,dest,src), post, pre and pre_linear (neurons; by
  // feature, pos or feature,pos). Of an SAE that is spliced in at mlp_out
  // mlp_out.hook_sae_acts_post and hook_sae_acts_pre (by feature, pos or feature,pos),
  // mlp_out.hook_sae_error and hook_sae_recons (by pos).
  std::string site = "resid_pre";
  By by = By::pos;
  std::vector<int> layers;  // which are swept, in this order; none: all that have the site
  // What the sweep is narrowed to, in this order; none: all. Along an axis of the result these are
  // its places: a role's tokens are one, and are changed together. Along another one, what a run
  // changes is these alone: head 4 at all positions becomes head 4 at the last position.
  std::vector<int> heads{}, features{};
  std::vector<Position> positions{};  // of a pattern: destinations
  std::vector<Position> sources{};    // of a pattern
  Replacement replacement = Replacement::patch;
  Direction direction = Direction::denoise;
  Measure measure = Measure::logit_diff;
  std::optional<MetricSpec> metric{};  // in the place of `measure`: any metric, any expression
  std::uint64_t seed = 0;              // of resample
  std::int64_t memory = std::int64_t{1} << 30;        // bytes of intermediate values at a time
  const std::atomic<bool>* cancel = nullptr;          // InterruptedError when set
  std::function<void(int done, int total)> progress;  // runs
  // Optimisations that can be switched off, see SweepOptions (autograd/sweep/sweep.h).
  bool by_row = true, by_head = true, by_difference = true, by_demand = true;
};

// The metric of every edited run, along named axes, beside the unedited runs.
struct PatchSweep {
  std::vector<std::string> axes;  // of values: "layer", "pos", ...
  std::vector<int> layers;        // along the first axis
  // For each axis what stands at its places: "0", "2", "-1", "subject"; nothing along one that is
  // not narrowed, where they are 0, 1, 2, ...
  std::vector<std::vector<std::string>> labels;
  Tensor values;                  // f64: the metric of each edited run
  double clean = 0, corrupt = 0;  // the metric of the unedited runs
  // Edited runs asked for; forward passes that gave them. Of pairs that are swept together, the
  // first has all passes and the explanation, so that they can be summed.
  int runs = 0, passes = 0;
  // Where an edit cannot reach the metric, or replaces nothing but equal values, the effect is
  // exactly 0 and nothing is run.
  int without_effect = 0;
  std::string explanation;  // what the sweep was compiled into (autograd/sweep/sweep.h)

  Direction direction = Direction::denoise;
  double base(Direction d) const { return d == Direction::denoise ? corrupt : clean; }
};

// Runs a patching sweep: one edited run for each layer and each place of `by`. Throws what
// check_pair and check_sweep throw; Error (usage) for a layer, head or feature that is not there;
// SiteError, with the nearest names, for a site that is in no layer; and ContextError, naming the
// line, for a position that a prompt does not have.
PatchSweep patch_sweep(const nn::Model& model, const Pair& pair, const SweepSpec& spec = {});
// The same for many pairs, which may differ in length: they lie in one batch, without padding.
// Throws the same, naming the pair, counted from 0; and Error (input) for a pair to resample that
// is the only one of its length.
std::vector<PatchSweep> patch_sweeps(const nn::Model& model, std::span<const Pair> pairs,
                                     const SweepSpec& spec = {});

// The same for examples of pairs, which may have no answers, or several, or of several tokens, as
// the metric reads them (interp/data/measure.h). Throws the same, naming the example's line, and what
// metric_of throws.
std::vector<PatchSweep> patch_examples(const nn::Model& model, std::span<const Example> examples,
                                       const SweepSpec& spec = {});

// What the runs of a sweep say: the most probable next tokens after the last position, with their
// probabilities.
struct PatchTokens {
  std::vector<TokenValue> clean, corrupt;  // of the unedited runs
  // Of each place that was asked for; none where the edit has no effect, and the base run's hold.
  std::vector<std::optional<std::vector<TokenValue>>> edited;
};
// The `count` most probable ones in the edited runs of one pair at `places`, indices into the
// values of its sweep in row-major order. Prompts are run without their answers. Throws what
// patch_examples throws, and std::out_of_range for a place that there is not.
PatchTokens patched_tokens(const nn::Model& model, const Example& pair, const SweepSpec& spec,
                           int count, std::span<const std::size_t> places);

// Metrics as fractions of the way from the corrupt runs (0) to the clean ones (1): (metric -
// corrupt) / (clean - corrupt), with the mean corrupt and clean metric of all sweeps. Throws
// NumericError when these are equal: nothing lies between them.
std::vector<PatchSweep> normalised(std::vector<PatchSweep> sweeps);

// Statistics over many pairs: how much an edit changes the metric from the base run's. Places are
// counted from the first position; those that only some pairs have are the mean over these. Sweeps
// that are narrowed to positions from the end, or to roles, line up by these.
struct SweepSummary {
  std::vector<std::string> axes;
  std::vector<int> layers;                       // along the first axis
  std::vector<std::vector<std::string>> labels;  // as of PatchSweep
  Tensor mean, standard_error, count;  // f64, of the largest shape; NaN where there is too little
  Tensor metric;                       // f64: the mean metric of the edited runs themselves
  double clean = 0, corrupt = 0;       // the mean metric of the unedited runs, over all pairs
  int runs = 0, passes = 0, without_effect = 0;  // of all pairs together
  std::string explanation;
};
SweepSummary summarise(std::span<const PatchSweep> sweeps);

}  // namespace vitrine::interp
