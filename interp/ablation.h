// Ablation: which parts of a model its answers need, alone and together.
//
//   // data: a std::vector<Example>
//   const std::vector<AblationUnit> heads = head_units(model);
//   Ablated alone = ablate_each(model, data, heads, {.action = Replacement::mean});
//   alone.change(2);                                  // of each prompt, without the third head
//   GrownSets sets = grow_sets(model, data, heads, {}, {.steps = 5});
//   sets.units;                                       // the head that matters most, the next, ...
//
// The runs of a question are the worlds of a sweep (autograd/sweep/sweep.h): each edits all prompts
// of a batch. Edits that stand on the model hold in all of them, in those that nothing is ablated
// in, too.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "interp/data/data_set.h"
#include "interp/data/metric_expression.h"
#include "interp/patching.h"
#include "nn/model/model.h"

namespace vitrine::interp {

// A part of the model that is ablated as one.
struct AblationUnit {
  struct Place {
    Site site;
    Where where{};  // heads or features; none: all of the site
  };
  std::string name;         // "1.0", "mlp 1", "layer 1", "feature 12"
  int layer = -1;           // -1: of no layer
  std::int64_t index = -1;  // the head, the feature; -1: neither
  std::vector<Place> places;
};
std::vector<AblationUnit> head_units(const nn::Model& model);  // z of each head
std::vector<AblationUnit> mlp_units(const nn::Model& model);   // mlp_out of each layer
std::vector<AblationUnit> layer_units(
    const nn::Model& model);  // attn_out and mlp_out of each layer
// The features of a spliced codec that are active on the prompts, the `most` with the largest mean
// activation over all their tokens, the largest first. `acts` is their site, [position, feature].
// Throws SiteError for one that is not there, and Error (input) where no feature is active.
std::vector<AblationUnit> feature_units(const nn::Model& model, std::span<const Example> examples,
                                        const Site& acts, std::int64_t most);

// What ablated units are replaced by, where, and what is measured.
struct AblationSpec {
  // zero; mean, over all positions of all prompts; or resample, the values of another prompt of as
  // many tokens. Not patch: there is no other run.
  Replacement action = Replacement::zero;
  MetricSpec metric = parse_metric("logit_diff");
  std::vector<Position> positions{};            // which are ablated; none: all
  std::uint64_t seed = 0;                       // of resample, and of random sets
  std::int64_t tokens = 4096;                   // of the prompts that are swept together, about
  std::int64_t memory = std::int64_t{1} << 30;  // bytes of intermediate values at a time
  const std::atomic<bool>* cancel = nullptr;    // InterruptedError when set
  std::function<void(int done, int total)> progress = {};  // runs of a batch of prompts
};

using UnitSet = std::vector<std::size_t>;  // numbers of units, in any order; none: nothing

// The metric of each prompt while the units of a set are ablated together.
struct Ablated {
  std::vector<double> clean;  // [prompt]: with nothing ablated
  Tensor metric;              // f64 [set, prompt]
  int runs = 0, passes = 0;   // edited runs of a batch of prompts; forward passes that gave them
  std::vector<double> of(std::size_t set) const;      // [prompt]
  std::vector<double> change(std::size_t set) const;  // less the clean one
};

// Ablates sets of units. Throws Error (usage) for `patch`, and for a unit that is not there; Error
// (input), naming the line, for a prompt to resample that is the only one of its length;
// ContextError, naming it, for a position that a prompt does not have; what metric_of throws; and NumericError for a metric that is not a number.
Ablated ablate_sets(const nn::Model& model, std::span<const Example> examples,
                    std::span<const AblationUnit> units, std::span<const UnitSet> sets,
                    const AblationSpec& spec = {});
// Each unit alone, in their order.
Ablated ablate_each(const nn::Model& model, std::span<const Example> examples,
                    std::span<const AblationUnit> units, const AblationSpec& spec = {});

// All pairs of units. The interaction of a and b is what their ablation does together beyond what
// it does alone: change(a, b) - change(a) - change(b); 0 where they do not need each other.
struct AblatedPairs {
  std::vector<std::pair<std::size_t, std::size_t>> pairs;   // a < b
  Ablated alone, together;                                  // of the units; of the pairs
  std::vector<double> interaction(std::size_t pair) const;  // [prompt]
  // Means over the prompts, f64 [unit, unit], symmetric. On the diagonal the change is that of the
  // unit alone, and the interaction is NaN.
  Tensor effects() const, interactions() const;
};
AblatedPairs ablate_pairs(const nn::Model& model, std::span<const Example> examples,
                          std::span<const AblationUnit> units, const AblationSpec& spec = {});

// What a set of units grows by. Of equal units the first is taken.
enum class Growth {
  broken,  // ablates the unit that takes the mean metric furthest from the clean one
  kept     // everything is ablated: restores the unit that takes it nearest to the clean one
};
struct GrowthSpec {
  Growth growth = Growth::broken;
  std::int64_t steps = 5;    // at most, as many as there are units
  std::int64_t random = 20;  // random sets of each size, to compare with
};
// A set that grows by one unit at a time. Each step sweeps all units that are not in it yet.
struct GrownSets {
  std::vector<std::size_t> units;    // in the order in which they were taken
  std::vector<double> clean, begin;  // [prompt]: with nothing ablated; before the first step
  Tensor metric;                     // f64 [step, prompt]
  // The mean metric over the prompts of random sets of as many units, which are ablated (or kept)
  // too: f64 [step, random]. Set i of a step is in set i of the next.
  Tensor random;
  Tensor random_each;  // the metric of each prompt then: f64 [step, random, prompt]
  int runs = 0, passes = 0;
};
GrownSets grow_sets(const nn::Model& model, std::span<const Example> examples,
                    std::span<const AblationUnit> units, const AblationSpec& spec = {},
                    const GrowthSpec& growth = {});

}  // namespace vitrine::interp
