#include "nn/initial_weights.h"

#include <cmath>

#include "nn/checkpoint.h"

namespace vitrine::nn {

Parameters initial_weights(const Config& config, random::Key key, ThreadPool& pool, double range) {
  Parameters weights;
  for (const auto& [name, shape] : parameter_shapes(config)) {
    Tensor w = Tensor::zeros(shape, DType::f32);
    if (shape.size() >= 2) {
      const bool writes = name.ends_with("c_proj.weight");
      random::fill_normal(pool, key.fold(name), w, 0,
                          writes ? range / std::sqrt(2.0 * config.layers) : range);
    } else if (name.ends_with(".weight")) {
      w = Tensor::full(shape, DType::f32, 1);
    }
    weights[name] = w;
  }
  return weights;
}

}  // namespace vitrine::nn
