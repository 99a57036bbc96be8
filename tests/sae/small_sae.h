// Small SAEs with weights drawn at random.
#pragma once

#include <cmath>
#include <string>

#include "sae/sae.h"
#include "tensor/random.h"

namespace vitrine::test {

inline Tensor draw(const std::string& name, const Shape& shape, double scale = 1) {
  ThreadPool pool(1);
  Tensor out = Tensor::empty(shape, DType::f32);
  random::fill_normal(pool, random::Key{7}.fold(name), out, 0, scale);
  return out;
}

// 12 inputs and 20 features, unless the configuration says otherwise; a transcoder gives 9.
inline sae::Sae small_sae(sae::SaeConfig config) {
  if (config.d_in == 0) config.d_in = 12;
  if (config.d_sae == 0) config.d_sae = 20;
  if (config.d_out == 0) config.d_out = config.transcoder ? 9 : config.d_in;
  if (config.transcoder) config.apply_b_dec_to_input = false;
  sae::Sae sae{.config = config, .name = "small"};
  for (const auto& [name, shape] : sae::weight_shapes(config))
    sae.weights[name] = draw(name, shape, shape.size() == 2 ? 0.3 : 0.2);
  if (config.architecture == sae::SaeArchitecture::jumprelu) {
    float* threshold = sae.weights["threshold"].data<float>();
    for (std::int64_t j = 0; j < config.d_sae; ++j) threshold[j] = threshold[j] * threshold[j];
  }
  if (config.architecture == sae::SaeArchitecture::matching_pursuit) {  // rows of norm 1
    float* w = sae.weights["W_dec"].data<float>();
    for (std::int64_t j = 0; j < config.d_sae; ++j, w += config.d_out) {
      double squares = 0;
      for (std::int64_t i = 0; i < config.d_out; ++i) squares += w[i] * w[i];
      for (std::int64_t i = 0; i < config.d_out; ++i)
        w[i] = static_cast<float>(w[i] / std::sqrt(squares));
    }
  }
  return sae;
}

}  // namespace vitrine::test
