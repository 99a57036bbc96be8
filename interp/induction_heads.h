// Induction head detection (Olsson et al. 2022) by three criteria, and the composition behind it.
//
// Attention alone is not enough: a head may look at the right token and do nothing with it. A head
// is called an induction head when, on repeated random tokens,
//
//   it attends     its induction score (head_scores.h) is at least a threshold
//   it copies      the prediction follows the value it is given (value_swaps in copying.h)
//   it is needed   with its output replaced by its mean, the second half is predicted worse
//
// The last two are effects of edits, over several prompts: they must be larger than `errors`
// standard errors, and than the median of the heads that do not attend that way. Other heads can
// make up for an ablated one (self-repair: McGrath et al. 2023), so "needed" is said of each head
// with all others in place, and a small effect is no proof of the contrary.
//
// A previous-token or duplicate-token head is named for its attention alone; what it is good for is
// asked with paths_to.
#pragma once

#include <span>
#include <vector>

#include "interp/copying.h"

namespace vitrine::interp {

// ---- mean ablation of every head ----------------------------------------------------------------
// What is lost when a head is replaced by its mean.
struct HeadAblations {
  double loss = 0;     // of the second half, from its second token on, in nats a token: unedited
  HeadEffects change;  // of that loss, when a head's hook_z is its mean over positions and prompts
  Tensor induction;    // f64 [ablated layer, ablated head, layer, head]: the scores that are left
};
// One sweep of all heads. Throws what check_repeated throws, and InterruptedError.
HeadAblations ablate_heads(const nn::Model& model, const std::vector<nn::Tokens>& prompts,
                           const SweepOptions& options = {});

// ---- the verdict --------------------------------------------------------------------------------
// What a head must show to be called an induction head.
struct Criteria {
  double attends = 0.4;  // the least induction, previous-token or duplicate-token score
  double errors = 2;     // how many standard errors an effect must be from 0
};
// An effect of one head beside those of heads that do not attend so.
struct Measured {
  double value = 0, standard_error = 0, control = 0;  // control: the median of the other heads
};
// What a head was found to do.
struct Verdict {
  bool attends = false, copies = false, needed = false;
  bool is_induction_head() const { return attends && copies && needed; }
};
// NaN counts as no evidence.
Verdict judge(double induction, const Measured& copying, const Measured& ablation,
              const Criteria& criteria);

// All of it, for every head.
struct InductionStudy {
  HeadScores scores;
  HeadEffects swaps;
  HeadAblations ablations;
  double swap_control = 0, ablation_control = 0;  // medians over the heads that do not attend
  Criteria criteria;
  Verdict verdict(const Head& head) const;
  std::vector<Head> induction_heads() const;  // all that the verdict calls so
};
InductionStudy study_induction(const nn::Model& model, const std::vector<nn::Tokens>& prompts,
                               random::Key key, const Criteria& criteria = {},
                               const SweepOptions& options = {});

// ---- what an induction head's attention depends on ----------------------------------------------
// The head's induction score when earlier heads are mean-ablated together (path patching): for all
// that comes after them; then only for its query, whose keys are those of the unedited run; then
// only for its keys. Attention that depends on the query's side is Q composition at work, on the
// keys' side K composition, whatever lies between the heads.
struct PathEffect {
  std::vector<Head> ablated;
  Head to;
  double unedited = 0, everywhere = 0, by_query = 0, by_keys = 0;
};
// Computes the effects of each group on each of `later` whose layer comes after all of the group,
// in this order.
std::vector<PathEffect> paths_to(const nn::Model& model, const std::vector<nn::Tokens>& prompts,
                                 std::span<const std::vector<Head>> groups,
                                 std::span<const Head> later, const SweepOptions& options = {});

// Shifts the positions that heads of layer 0 report, and measures where later heads then attend:
// the values of `moved` are computed as if each position's embedding were that of the position
// `shift` further (the last stay). For each of `later`, the mean pattern[q, q - T + 1 + o] over the
// second half for o from -reach to reach, [later, 2 reach + 1]: unedited and moved. A head that
// finds its place by position, from what `moved` say of it, attends `shift` further. Throws Error
// (usage) for a head of `moved` that is not in layer 0, where the stream is no longer a sum of
// token and position alone.
struct MovedPositions {
  Tensor unedited, moved;  // f64
};
MovedPositions move_positions(const nn::Model& model, const std::vector<nn::Tokens>& prompts,
                              std::span<const Head> moved, std::span<const Head> later, int shift,
                              int reach = 3);

}  // namespace vitrine::interp
