// One step of SAE training: losses, gradients, clipping, Adam, in one plan or a few.
//
//   SaeTrainingStep step(rules, initial_weights(rules, key));
//   StepOutcome o = step.step({.x = batch}, pool);
//   Sae sae = step.finished();
//
// How the plan looks at features, densely or by a table of the active ones (loss.h), is chosen for
// each step from what the last one measured: densely while more than about one in twelve is active,
// else by a table with room for half again as many as the fullest sample had. A sample that does
// not fit undoes the step, which is done again with more room, so the outcome does not depend on
// the choice beyond rounding; the choice itself depends on the data alone, so a run gives the same
// bits on any machine of a kind with any number of threads.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "autograd/compile/plan.h"
#include "sae/initial_weights.h"
#include "sae/loss.h"
#include "sae/transcoder_set.h"

namespace vitrine::nn {
class Model;
}

namespace vitrine::sae {

struct ModelBatch;  // end_to_end.h

struct Batch {
  Tensor x;       // f32 [rules.batch, all_inputs]
  Tensor y = {};  // f32 [rules.batch, all_outputs], for a transcoder
  // For end-to-end training: the texts, the site, and what its values were multiplied by to give x.
  const ModelBatch* model = nullptr;
  std::string site = {};
  double scale = 1;
};

struct StepOutcome {
  double loss = 0, grad_norm = 0;
  std::map<std::string, double> parts;  // the losses that add up to it, by SAELens's names
  double l0 = 0;                        // mean number of active features of a sample, of all layers
  double explained_variance = 0;        // 1 - sum |e|^2 / sum |target - mean|^2, of this batch
  std::vector<double> explained_layers;  // the same of each output of a cross-layer transcoder
  std::int64_t most_active = 0;          // features of a sample in one dictionary, at most
  std::int64_t dead = 0;                 // features, after this step
  std::int64_t capacity = 0;             // of the plan that was used; 0: dense
};

class SaeTrainingStep {
 public:
  // Throws Error (usage) for rules that cannot be, CheckpointError for weights of other shapes.
  SaeTrainingStep(const SaeTrainingRules& rules, const Parameters& weights);
  SaeTrainingStep(SaeTrainingStep&&) = default;

  // Throws ShapeError for a batch of another size, and NumericError when the loss or the gradient
  // is not finite, naming a row of x that is not, if there is one. Nothing has changed then.
  StepOutcome step(const Batch& batch, ThreadPool& pool);
  // The same with this learning rate, and with these features dead instead of those that are.
  StepOutcome step(const Batch& batch, ThreadPool& pool, double rate, const Tensor* dead = nullptr);

  const SaeTrainingRules& rules() const { return rules_; }
  std::int64_t steps() const { return steps_; }
  double rate() const { return rules_.schedule.rate(steps_); }  // of the next step
  double sparsity_coefficient() const;                          // of the next step
  // batchtopk, so far: of each dictionary, as the two above are of all.
  const std::vector<double>& thresholds() const { return thresholds_; }
  // Weights as training keeps them: views that further steps change.
  const Parameters& weights() const { return weights_; }
  std::int64_t dead_features() const;
  // The fraction of all samples so far in which each feature fired, as log10(fraction + 1e-10).
  Tensor sparsity() const;

  // The SAE as it is now, a copy. batchtopk and matryoshka become jumprelu with the threshold so
  // far and decoder norms folded. The scales are what activations (and a transcoder's targets) were
  // multiplied by; they are folded, too.
  Sae finished(double in_scale, double out_scale) const;
  Sae finished() const { return finished(1, 1); }
  // The same of a cross-layer transcoder: scales of each layer.
  TranscoderSet finished_layers(const std::vector<double>& in_scales,
                                const std::vector<double>& out_scales) const;

  // All that a step reads and changes, as tensors. Views.
  Parameters state() const;
  // From a state(), which is copied. Throws CheckpointError for what is missing, of another shape
  // or out of range, before there is room for any of it; `where` names the state.
  static SaeTrainingStep restored(const SaeTrainingRules& rules, const Parameters& state,
                                  const std::string& where);

  // The gradients of a batch, and its outcome, without a step: for checks.
  struct Gradients {
    StepOutcome outcome;
    Parameters gradients;
    Tensor features, reconstruction;  // [batch, all_features] and [batch, all_outputs]
  };
  Gradients gradients(const Batch& batch, ThreadPool& pool, const Tensor* dead = nullptr) const;

  // The explanation of a step's plan.
  std::string explain() const;
  // Steps always look at features this way; 0 is densely. For tests and benchmarks.
  void fix_view(std::int64_t capacity) { fixed_ = capacity; }

 private:
  FeatureView view_for_next() const;
  // Of a dense step's first part, which begins the sums of gradients, or of a further one.
  const Plan& plan(const FeatureView& view, bool first);
  const Plan& apply_plan();
  struct Ran {
    StepOutcome outcome;
    Tensor fires, errors;          // [all_features] and [batch, dictionaries]
    double overflow = 0;           // of a table: samples that did not fit
    std::vector<double> smallest;  // of a table: the smallest feature, of each dictionary
  };
  Ran run(const Batch& batch, ThreadPool& pool, const FeatureView& view, Feeds feeds);
  // All of a step by one plan.
  Ran run_whole(const Plan& step, const Feeds& feeds, const Parameters& parameters,
                const FeatureView& view, ThreadPool& pool) const;
  Parameters with_model(const nn::Model& model) const;
  Ran run_end_to_end(const Batch& batch, ThreadPool& pool, const FeatureView& view, Feeds feeds);
  void check_batch(const Batch& batch) const;
  void set_counts(const Parameters& state, const std::string& where);
  void count_fires(const Tensor& fires);
  void resample(const Batch& batch, const Tensor& errors);
  [[noreturn]] void explain_failure(const Batch& batch, const StepOutcome& outcome) const;
  Feeds step_feeds(double rate, const Tensor* dead) const;

  SaeTrainingRules rules_;
  Parameters weights_, bound_;
  std::map<std::pair<FeatureView, bool>, Plan> plans_;
  std::optional<Plan> apply_;               // of dense steps, which take several parts
  std::map<std::string, Plan> end_to_end_;  // by site, view and size
  std::int64_t steps_ = 0, samples_ = 0;
  std::vector<double> thresholds_;
  // Of the last step, from which the next view follows. Before the first, nothing is known.
  double last_l0_ = -1;
  std::int64_t last_most_ = -1;
  std::vector<std::int64_t> silent_, fired_;  // samples since a feature fired, and in which it did
  std::int64_t fixed_ = -1;
};

}  // namespace vitrine::sae
