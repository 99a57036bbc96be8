// Compiled plans of an SAE training step, which training_step.h runs.
//
// A step by a table of active features is one plan. A dense step takes a part of the batch at a
// time and adds up gradients, then moves the weights by the sums.
#pragma once

#include <string>

#include "autograd/compile/plan.h"
#include "sae/loss.h"

namespace vitrine::sae {

// Leaves: the weights under their names, and for each its state [3, n] (weight, first and second
// moment), of which the weight is a view; sums of gradients, in dense steps.
inline std::string state_name(const std::string& weight) { return "adam." + weight; }
inline std::string sum_name(const std::string& weight) { return "sum." + weight; }

// Samples that a plan takes: the batch, or in dense steps a part of it.
std::int64_t rows_of(const SaeTrainingRules& rules, const FeatureView& view);

LeafSet all_weights(const SaeTrainingRules& rules);

// Outputs: loss, part.NAME for each of its parts; active, the number of active features;
// most_active, of a sample in one dictionary; fires [all_features], the samples in which each is; errors [rows, layers],
// |e|^2 of each output; overflow, the samples whose row of a table is full; smallest [dictionaries], the smallest feature
// above 0; reconstruction; features and index (of a table) of each dictionary, under names as weights have; and the
// gradient in every weight.
Graph losses_with_gradients(const SaeTrainingRules& rules, const FeatureView& view);
// All outputs of these but the loss and the gradients, of emitted losses with this target [n,
// d_out].
void emit_reports(Builder& b, const SaeTrainingRules& rules, const FeatureView& view,
                  const SaeLoss& loss, const Value& target);
// The metrics that a step reports.
Fetch reported(const Graph& graph);

// All of a step by a table. Where a sample did not fit, or a number is not finite, nothing moves.
Plan compile_step(const SaeTrainingRules& rules, const FeatureView& view);
// The same of a graph with the outputs of losses_with_gradients.
Plan compile_step(const SaeTrainingRules& rules, const Graph& losses_with_gradients);
// A part of a batch, whose gradient is added to the sums; the first part of a step begins them.
Plan compile_part(const SaeTrainingRules& rules, const FeatureView& view, bool first);
// Moves the weights by the sums; gives grad_norm.
Plan compile_application(const SaeTrainingRules& rules);

}  // namespace vitrine::sae
