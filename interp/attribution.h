// Attribution patching and gradient x activation: the first-order effect of each activation on a
// metric.
//
//   Attribution a = attribute(m, pair, {.method = Method::attribution_patching});
//   std::vector<Verified> top = verify_top(m, pair, a, 20);    // exact patching beside it
//
//   grad-x-act            sum a . dm/da                   of the base run: the effect of zero
//                                                         ablation (Simonyan et al. 2013)
//   attribution-patching  sum (a_other - a_base) . dm/da  at the base run: the effect of patching
//                                                         the other run's value in (Nanda 2023)
//
// Two forward passes and one backward pass give all sites at once. The scores are nodes of the
// graph, beside the gradients that they read: `gradient` is a transformation, the metric a graph.
// As for patching, denoising has the corrupt run as its base and noising the clean one; the
// gradient is that of the base run. grad-x-act needs no other run.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "interp/data/data_set.h"
#include "interp/patching.h"

namespace vitrine::interp {

enum class Method { grad_x_act, attribution_patching };
std::string_view name_of(Method method);  // "grad-x-act": as on the command line

// A slice of an activation: everything along an axis that is not named.
struct SitePlace {
  std::int64_t pos = -1, head = -1, feature = -1;  // -1: all of them
  friend bool operator==(const SitePlace&, const SitePlace&) = default;
};
// "pos 3, head 2"; "" for all.
std::string to_text(const SitePlace& place);

// Scores of one site, summed over the axes that `axes` does not name.
struct SiteScores {
  Site site;
  std::vector<std::string> axes;  // of values: "pos", "head", "feature", in this order
  Tensor values;                  // f64
  // The site is an alias of an earlier one, as blocks.1.hook_resid_pre is of
  // blocks.0.hook_resid_post: its places are not ranked again.
  bool again = false;
};

// Which sites are scored, by which method, on which metric.
struct AttributionSpec {
  Method method = Method::attribution_patching;
  // The sites to score; those without a [row, ...] axis are left out. A pattern that matches
  // nothing is a SiteError.
  SiteSet sites = {
      "*.hook_resid_pre,*.hook_attn_out,*.hook_mlp_out,*.hook_resid_post,*.hook_z,"
      "*.mlp.hook_post"};
  // Sites with interpretable features: their scores keep that axis.
  SiteSet per_feature = {"*.mlp.hook_post,*.mlp.hook_pre,*.hook_sae_acts_post,*.hook_sae_acts_pre"};
  // Heads and features at each position, instead of over all positions.
  bool by_position = false;
  Direction direction = Direction::denoise;
  Measure measure = Measure::logit_diff;
  // In the place of `measure`: any metric that has a gradient, and that reads no field of an
  // example. Throws Error (usage) for one without.
  std::optional<MetricSpec> metric{};
};

// The scores of every site: to first order, how much the metric of the base run changes when a place
// takes the other run's value (or, of grad-x-act, its share against 0), in units of the metric.
struct Attribution {
  AttributionSpec spec;
  std::vector<SiteScores> sites;  // in the order of the model
  double clean = 0, corrupt = 0;  // the metric of the unedited runs; corrupt only where it was run
  // The positions that each place along "pos" stands for; empty: 0, 1, 2, ... themselves.
  std::vector<std::vector<std::int64_t>> positions{};
  double base() const { return spec.direction == Direction::denoise ? corrupt : clean; }
};
// Scores every site of one prompt pair. Throws what check_pair throws, SiteError, and NumericError
// where a gradient is NaN.
Attribution attribute(const nn::Model& model, const Pair& pair, const AttributionSpec& spec = {});
// The same for many pairs, which may differ in length: one Attribution each. A batch of them takes
// the same two forward passes and one backward pass. Throws the same, naming the pair.
std::vector<Attribution> attribute(const nn::Model& model, std::span<const Pair> pairs,
                                   const AttributionSpec& spec = {});

// The attributions of examples with these positions alone, in this order, along "pos": of a role the
// sum over its tokens, which is what putting all of them in at once would do, to first order. So
// prompts of different shapes line up. Throws ContextError, naming the line, for a position that an
// example does not have, and ShapeError unless there is an attribution for each.
std::vector<Attribution> lined_up(std::vector<Attribution> attributions,
                                  std::span<const Example> examples,
                                  std::span<const Position> positions);

// ---- verification by activation patching --------------------------------------------------------
struct Scored {
  Site site;
  SitePlace place;
  double score = 0;
};
// Ranks the nodes and returns the `count` with the largest |score|, without those that are 0.
std::vector<Scored> strongest(const Attribution& attribution, int count);

struct Verified {
  Scored node;
  // The exact change of the metric from the base run, for attribution patching: with the other
  // run's value put in; for grad-x-act: of the base run from the one with zeros put in. None where
  // the metric is no finite number then: zeros in the place of a LayerNorm's scale, say.
  std::optional<double> exact;
};
// Measures the strongest again by activation patching in the same direction, in one sweep.
std::vector<Verified> verify_top(const nn::Model& model, const Pair& pair,
                                 const Attribution& attribution, int count);

// ---- over many pairs ----------------------------------------------------------------------------
// A place and its scores over the pairs that have it: positions are counted from the first token,
// unless they were lined up.
struct ScoredOver {
  Site site;
  SitePlace place;
  Statistic score;  // in units of the metric
  Statistic size;   // of |score|: what places are ranked by
};
// The `count` places with the largest mean |score|, without those that are 0 for all. Throws
// ShapeError for attributions of different sites.
std::vector<ScoredOver> strongest(std::span<const Attribution> attributions, int count);

struct VerifiedOver {
  ScoredOver node;
  Statistic exact;  // of the same change as Verified's, over the pairs where it is a number
  std::vector<std::optional<double>> each;  // of every pair; none where the pair lacks the place
};
// Measures the strongest again on all pairs. Each place is one edited run of a batch of pairs: all
// pairs that have the place are patched in it at once. Throws ShapeError unless there is an
// attribution for each pair.
std::vector<VerifiedOver> verify_top(const nn::Model& model, std::span<const Pair> pairs,
                                     std::span<const Attribution> attributions, int count);

}  // namespace vitrine::interp
