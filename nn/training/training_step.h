// One step of training as one plan: forward, loss, backward, clipping and AdamW, the weights
// updated in place.
//
//   TrainingStep train(model.config(), model.parameters(), {.adamw = {.rate = 1e-3}});
//   TrainingStep::Outcome o = train.step({batch}, pool, 1e-3);
//   o.loss;                                                    // before the step
#pragma once

#include <map>

#include "nn/text/batch_stream.h"
#include "nn/training/dropout.h"

namespace vitrine::nn {

// AdamW (Loshchilov & Hutter 2019). Parameters with two or more axes decay, vectors do not.
struct AdamW {
  double rate = 1e-3;
  double beta1 = 0.9, beta2 = 0.95, eps = 1e-8;
  double decay = 0.1;
  double clip = 1.0;  // largest global norm of the gradient; 0: no clipping
  friend bool operator==(const AdamW&, const AdamW&) = default;
};

struct TrainingRules {
  AdamW adamw;
  // Batches whose gradients are averaged before the weights move.
  int accumulate = 1;
  // Keep an average of the weights, avg = ema avg + (1 - ema) weights after each step, from the
  // first weights on (Polyak & Juditsky 1992); 0: none.
  double ema = 0;
  Dropout dropout;
  // Keep only the residual stream between blocks for the backward pass and compute the rest again
  // (autograd/transform/recompute.h): less memory, about one more forward pass, the same bits.
  bool recompute = false;
  friend bool operator==(const TrainingRules&, const TrainingRules&) = default;
};

// The plan of one step, for batches of this size with this many predictions. TrainingStep binds it
// to weights; alone it says what a step will need. Fetches "loss" and "grad_norm".
Plan compile_training_step(const Config& config, const BatchSize& size, std::int64_t predicted,
                           const TrainingRules& rules = {}, DType dtype = DType::f32);

class TrainingStep {
 public:
  // Copies the parameters. Throws CheckpointError when one is missing or of another shape or dtype,
  // Error (usage) unless accumulate >= 1 and 0 <= ema < 1.
  TrainingStep(const Config& config, const Parameters& parameters, const TrainingRules& rules = {});

  struct Outcome {
    double loss;       // mean next-token cross-entropy before the step, nats
    double grad_norm;  // global L2 norm before clipping
  };
  // `batches`: as many as rules.accumulate says; `rate`: the learning rate of this step. Throws
  // NumericError when the loss or the norm is not finite: the message names the op that made the
  // first NaN, or the parameter with the largest gradient, and state() is as it was, to the bit.
  // Throws Error (usage) for another number of batches.
  // Dropout is drawn from `seed` and the number of the batch.
  Outcome step(const std::vector<TrainingBatch>& batches, ThreadPool& pool, double rate,
               std::uint64_t seed = 0);
  // One batch of these prompts, at the rate of the rules.
  Outcome step(const std::vector<Tokens>& prompts, ThreadPool& pool) {
    return step({training_batch(prompts)}, pool, rules_.adamw.rate);
  }

  // The current weights: views that further steps change.
  const Parameters& parameters() const { return weights_; }
  const Parameters& averaged() const { return averaged_; }  // with rules.ema, else empty
  std::int64_t steps() const { return steps_; }

  // All that a step reads and changes but steps(), by name: adamw.NAME [3, n] (weights, first and
  // second moments) and average.NAME [1, n]. Views, too.
  Parameters state() const;
  // Copies a state() back. Throws CheckpointError for a tensor that is missing or of another shape
  // or dtype; nothing has been copied then.
  void restore(const Parameters& state, std::int64_t steps);

  // The plan of a step with batches of this size; compiled when it is first needed.
  const Plan& plan(const BatchSize& size, std::int64_t predicted);

 private:
  using Key = std::pair<BatchSize, std::int64_t>;
  Feeds settings(double rate) const;
  Feeds feeds_of(const TrainingBatch& batch, std::size_t i, std::uint64_t seed) const;
  [[noreturn]] void explain(const std::vector<TrainingBatch>& batches, std::uint64_t seed,
                            const Outcome& outcome, ThreadPool& pool) const;

  Config config_;
  TrainingRules rules_;
  DType dtype_;
  Parameters weights_, averaged_;  // by name
  Parameters bound_;               // weights and states, as the plans read them
  std::map<Key, Plan> plans_;
  Plan apply_;  // with accumulation: moves the weights by the sums
  std::int64_t steps_ = 0;
};

}  // namespace vitrine::nn
