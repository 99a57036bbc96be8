// Our solution.
#include "apps/lessons/exercises/09_mean_slope.h"

namespace vitrine::lesson {

// The midpoint rule: 24 equal stretches, each read in its middle.
double effect(const std::function<double(double t)>& slope) {
  constexpr int kSteps = 24;
  double sum = 0;
  for (int k = 0; k < kSteps; ++k) sum += slope((k + 0.5) / kSteps);
  return sum / kSteps;
}

}  // namespace vitrine::lesson
