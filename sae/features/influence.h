// Attribution patching between the features of SAEs and transcoders: finds the features of earlier ones that
// cause a feature of a later one, through the model itself, attention included.
//
//   Influence i = influence(m, early, late, prompt, {.target_positions = {4}});
//   const Influence::Target& t = i.targets[0];   // a feature of `late` at position 4
//   t.causes[0].source, t.causes[0].first_order; // the feature of `early` that moves it most
//
//   influence(m, {sae0, transcoder1, sae2}, {transcoder4}, prompt);   // causes in several layers at once
//
// The early SAE is spliced in with its error kept, so nothing changes until a feature is edited. A transcoder is spliced in
// at the MLP's output: its features are those of what it reads, and the error is what the MLP gives besides.
// What feature j at position p does to the pre-activation h of target t at position q (of matching
// pursuit, which has no h, to the feature itself) is, to first
// order, f_jp dh_tq/df_jp (attribution patching, Nanda 2023; Marks et al. 2024), and exactly h_tq -
// h_tq(f_jp = 0). The strongest causes get both, on the same pre-activation, under the same
// policies.
#pragma once

#include <optional>
#include <span>
#include <vector>

#include "autograd/transform/linearise.h"
#include "nn/model/model.h"
#include "sae/sae.h"

namespace vitrine::sae {

// Which features of the two SAEs are looked at, where, and what derivatives look through.
struct InfluenceSpec {
  std::vector<std::int64_t> source_positions, target_positions;  // none: all
  std::vector<std::int64_t> source_features;                     // none: all that are active
  std::vector<std::int64_t> target_features;  // none: the strongest active ones at these positions
  int targets = 5;                            // of those, how many (feature, position) of each SAE
  int causes = 10;                            // of each target, kept: the strongest
  int verify = 10;                            // of each target's causes, computed exactly
  Policies policies = {};                     // what derivatives and ablations look through
};

// A feature at a position: its activation, and what its activation function was given.
struct FeatureAt {
  std::int64_t position = 0, feature = 0;
  double activation = 0, pre = 0;  // f and h
  std::size_t sae = 0;             // of the sources, or of the targets
};
// A source feature, and what it does to a target's pre-activation h: to first order, and by ablation.
struct Cause {
  FeatureAt source;
  double first_order = 0;
  std::optional<double> exact;
};
// What source features do to target features on one prompt, in units of the target's pre-activation.
struct Influence {
  struct Target {
    FeatureAt at;
    std::vector<Cause> causes;        // the strongest first, by first order, whatever the sign
    std::vector<double> by_position;  // [positions]: first order, summed over all features there
    std::vector<double> of_error;     // [positions]: of the error term, e dh/de
  };
  std::vector<Target> targets;
  std::int64_t positions = 0;
};

// Throws ConfigError for SAEs that do not say their sites, SiteError for sites that are not there,
// Error (usage) when the target does not come after the source and for positions and features that
// are not there, and what Model::run throws.
Influence influence(const nn::Model& model, const Sae& source, const Sae& target,
                    const nn::Tokens& prompt, const InfluenceSpec& spec = {});
// The same of several sources and targets, all spliced into one model: what a feature does goes through the model, and through what is
// between it and the target as that is, features or not. Nothing at or behind a target causes it. Throws Error (usage), too, for no
// source or target, two sources of one site, and a target that comes after none of the sources.
Influence influence(const nn::Model& model, const std::vector<Sae>& sources,
                    const std::vector<Sae>& targets, const nn::Tokens& prompt,
                    const InfluenceSpec& spec = {});

// ---- over many prompts --------------------------------------------------------------------------
// The same over many prompts: which features, at which positions.
struct InfluenceOverSpec {
  std::vector<std::int64_t> target_positions;  // one of each prompt, from 0; none: its last
  std::vector<std::int64_t> source_features;   // none: all
  std::vector<std::int64_t> target_features;   // none: those most active there, on average
  int targets = 5;                             // of those, how many
  int causes = 10;                             // of each target, kept: by |mean|
  Policies policies = {};
  std::int64_t rows = 2048;  // at most so many tokens in one batch
  // Prompts, by number, of which there are means besides; a prompt may be in several groups.
  std::vector<std::vector<std::size_t>> groups;
};
// What source features do to a target feature where that is active: means over these prompts.
struct MeanCause {
  std::int64_t feature = 0;
  double first_order = 0;     // summed over the source positions; 0 where the source is not active
  double standard_error = 0;  // NaN for a single prompt
  std::int64_t active = 0;    // the prompts in which the source is active, too
};
struct InfluenceOver {
  struct Target {
    std::int64_t feature = 0;
    std::int64_t active = 0;  // the prompts in which it is active at its position: those that count
    double activation = 0;    // its mean over them
    std::vector<MeanCause> causes;  // the strongest first; none where no prompt counts
  };
  // One target in one prompt.
  struct OfPrompt {
    double activation = 0;  // 0: it is not active, and has no causes
    std::vector<MeanCause> causes;
  };
  std::vector<Target> targets;
  std::vector<std::vector<Target>> groups;  // the same targets over each group
  std::vector<std::vector<OfPrompt>> each;  // the same targets in each prompt
};
// A batch of prompts takes one forward and one backward pass for each target feature. Throws what
// influence throws, naming the prompt; Error (usage) for a position that a prompt does not have, and
// unless there is a position for each prompt, or none, and for a group's prompt that is not there.
InfluenceOver influence_over(const nn::Model& model, const Sae& source, const Sae& target,
                             std::span<const nn::Tokens> prompts,
                             const InfluenceOverSpec& spec = {});

// The pre-activations of these target features with all these source features ablated at once, one
// for each: [targets]. With none, as they are.
std::vector<double> ablated(const nn::Model& model, const std::vector<Sae>& sources,
                            const std::vector<Sae>& targets, const nn::Tokens& prompt,
                            const std::vector<FeatureAt>& of, const std::vector<FeatureAt>& without,
                            const Policies& policies = {});
std::vector<double> ablated(const nn::Model& model, const Sae& source, const Sae& target,
                            const nn::Tokens& prompt, const std::vector<FeatureAt>& targets,
                            const std::vector<FeatureAt>& sources, const Policies& policies = {});

}  // namespace vitrine::sae
