// Integrated gradients (Sundararajan et al. 2017) over any site: the gradient averaged on the
// straight line from the base run's value x0 to the other run's x1,
//
//   IG = (x1 - x0) . mean over steps k of dm/dx at x0 + (k + 1/2)/steps (x1 - x0)
//
// It is complete: over all elements it adds up to m(x1) - m(x0), up to the error of the midpoint
// rule, which is reported. m(x) is the metric of the base run with x in the place of the site's
// value.
#pragma once

#include <vector>

#include "interp/attribution.h"

namespace vitrine::interp {

struct IntegratedSpec {
  Site site = {"blocks.0.hook_resid_pre"};
  int steps = 16;
  Direction direction = Direction::denoise;
  Measure measure = Measure::logit_diff;
  // In the place of `measure`: any metric that has a gradient, and that reads no field of an
  // example. Throws Error (usage) for one without.
  std::optional<MetricSpec> metric{};
  std::int64_t rows = 2048;                   // at most so many tokens in one batch of steps
  const std::atomic<bool>* cancel = nullptr;  // InterruptedError when set
  std::function<void(int done, int total)> progress;  // steps of all pairs
};
struct Integrated {
  SiteScores scores;                 // by position; by position and head for sites of heads
  double at_base = 0, at_other = 0;  // m(x0), m(x1)
  double clean = 0, corrupt = 0;     // the metric of the unedited runs
  double sum() const;                // of the scores
  // |sum - (m(x1) - m(x0))| as a part of |m(x1) - m(x0)|; of 1 where that is smaller.
  double completeness_error() const;
};
// Throws what check_pair throws, SiteError, Error (usage) for less than one step, and GraphError
// for a site without positions.
Integrated integrated_gradients(const nn::Model& model, const Pair& pair,
                                const IntegratedSpec& spec = {});
// The same for many pairs, which may differ in length: one Integrated each. Steps of different pairs
// lie in one batch; a site with an axis of keys goes pair by pair. Throws the same, naming the pair.
std::vector<Integrated> integrated_gradients(const nn::Model& model, std::span<const Pair> pairs,
                                             const IntegratedSpec& spec = {});

}  // namespace vitrine::interp
