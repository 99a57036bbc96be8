// Replacements by recorded activations: mean ablation, resample ablation, and frozen values.
//
//   nn::Run reference = m.run(prompts, sites("blocks.2.hook_mlp_out"));
//   Interventions what = {mean(site::mlp_out(2), reference.results)};
//
// Each is a replace (transform/intervention.h) that remembers where its value comes from, so that
// it prints: "blocks.2.hook_mlp_out = the mean of a recorded run". Like every replaced value, none
// carries a gradient. The functions throw GraphError when the site was not fetched in that run.
#pragma once

#include "autograd/graph/results.h"
#include "autograd/transform/intervention.h"
#include "tensor/random.h"

namespace vitrine {

// Mean ablation: the mean over all prompts and positions of the run, which may differ in length
// (sums in f64). Of a pattern or its scores: over prompts and queries, for each head and key.
Edit mean(const Site& site, const Results& run, const Where& where = {},
          std::string_view from = "a recorded run");

// Mean ablation by position: the mean over prompts, for each position on its own. The prompts of
// the run have one length, and so do those that are edited; ShapeError otherwise.
Edit mean_by_position(const Site& site, const Results& run, const Where& where = {},
                      std::string_view from = "a recorded run");

// Resample ablation: prompt i takes the value of another prompt of the run, permutation[i]: a
// random cycle through all of them (Sattolo 1986), so none keeps its own when there are two or
// more. The prompts have one length; the edited batch has as many.
Edit resample(const Site& site, const Results& run, random::Key key, const Where& where = {},
              std::string_view from = "a recorded run");

// Freezes the site at its value in the run: what is changed before the site does not reach past it.
Edit hold(const Site& site, const Results& run, const Where& where = {},
          std::string_view from = "a recorded run");

// The values of one position (of a pattern: one query) of each prompt, to put in at other
// positions or sites: [batch, 1, ...], patterns [batch, head, 1, key]. The prompts may differ in
// length; throws ShapeError when one is too short. With several prompts, those edited are as many.
//   replace(site::resid_pre(3), at_position(run, site::resid_post(1), 4), {.pos = {7}});
Tensor at_position(const Results& run, const Site& site, std::int64_t position);

}  // namespace vitrine
