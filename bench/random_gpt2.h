// GPT-2 of any shape with random weights: how long the arithmetic takes does not depend on them.
#pragma once

#include "nn/model/checkpoint.h"
#include "nn/model/model.h"
#include "tensor/random.h"

namespace vitrine::bench {

// As GPT-2 is initialised: LayerNorms 1 and 0, biases 0, everything else normal.
inline Parameters random_parameters(const nn::Config& config, ThreadPool& pool) {
  Parameters parameters;
  for (const auto& [name, shape] : nn::parameter_shapes(config)) {
    if (name.ends_with("bias")) {
      parameters[name] = Tensor::zeros(shape, DType::f32);
    } else if (shape.size() == 1) {
      parameters[name] = Tensor::full(shape, DType::f32, 1);
    } else {
      parameters[name] = Tensor::empty(shape, DType::f32);
      random::fill_normal(pool, random::Key{1}.fold(name), parameters[name], 0, 0.02);
    }
  }
  return parameters;
}

inline nn::Model random_gpt2(const nn::Config& config, int threads) {
  ThreadPool pool(threads);
  return nn::Model(config, random_parameters(config, pool), std::nullopt, {.threads = threads});
}

}  // namespace vitrine::bench
