// The learning rate over a training run: a linear warm-up, then a fall by a cosine (Loshchilov &
// Hutter 2017) or a line to a last share of the peak, or none.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <numbers>

namespace vitrine::nn {

struct Schedule {
  enum class Shape { cosine, linear, constant } shape = Shape::cosine;
  double peak = 1e-3;
  std::int64_t warmup = 0, steps = 1;  // of all `steps`
  double last = 0.1;                   // share of the peak that the last step has

  friend bool operator==(const Schedule&, const Schedule&) = default;

  // The rate of step 0, ..., steps - 1. Step warmup - 1 is the first with the peak (without a
  // warm-up, step 0), step steps - 1 has the last rate.
  double rate(std::int64_t step) const {
    if (step < warmup) return peak * static_cast<double>(step + 1) / static_cast<double>(warmup);
    const std::int64_t top = std::max<std::int64_t>(warmup - 1, 0), bottom = steps - 1;
    // How much of the fall is done, from 0 at the top to 1 at the bottom and after it.
    const double gone =
        step < bottom ? static_cast<double>(step - top) / static_cast<double>(bottom - top) : 1;
    switch (shape) {
      case Shape::cosine:
        return peak * (last + (1 - last) * (1 + std::cos(std::numbers::pi * gone)) / 2);
      case Shape::linear:
        return peak * (1 - (1 - last) * gone);
      case Shape::constant:
        return peak;
    }
    return peak;
  }
};

}  // namespace vitrine::nn
