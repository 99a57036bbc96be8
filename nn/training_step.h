// One step of training as one plan: forward, loss, backward, clipping and AdamW, the weights
// updated in place.
//
//   TrainingStep train(model.config(), model.parameters(), batch_size(prompts), {.rate = 1e-3});
//   TrainingStep::Outcome o = train.step(prompts, pool);      // o.loss before the step,
//   o.grad_norm before clipping
#pragma once

#include "nn/batch.h"

namespace vitrine::nn {

// AdamW (Loshchilov & Hutter 2019). Parameters with two or more axes decay, vectors do not.
struct AdamW {
  double rate = 1e-3;
  double beta1 = 0.9, beta2 = 0.95, eps = 1e-8;
  double decay = 0.1;
  double clip = 1.0;  // largest global norm of the gradient; 0: no clipping
};

// The plan of one step, for prompts of this size. TrainingStep binds it to weights; alone it says
// what a step will need. Fetches "loss" and "grad_norm".
Plan compile_training_step(const Config& config, const BatchSize& size, DType dtype = DType::f32,
                           const AdamW& rule = {});

class TrainingStep {
 public:
  // Copies the parameters. Every batch must have this size.
  TrainingStep(const Config& config, const Parameters& parameters, const BatchSize& size,
               const AdamW& rule = {});

  struct Outcome {
    double loss;       // mean next-token cross-entropy before the step, nats
    double grad_norm;  // global L2 norm before clipping
  };
  // Throws ContextError when the prompts are not of the size the step was built for, NumericError
  // when the loss or the norm is not a number.
  Outcome step(const std::vector<Tokens>& prompts, ThreadPool& pool, double rate);
  Outcome step(const std::vector<Tokens>& prompts, ThreadPool& pool) {
    return step(prompts, pool, rule_.rate);
  }

  const Parameters& parameters() const {
    return weights_;
  }  // the current weights: views of the state
  std::int64_t steps() const { return steps_; }
  const Plan& plan() const { return plan_; }

 private:
  BatchSize size_;
  AdamW rule_;
  Parameters weights_;  // by name: row 0 of the state
  Parameters bound_;    // weights and states, as the plan reads them
  Plan plan_;
  std::int64_t steps_ = 0;
};

}  // namespace vitrine::nn
