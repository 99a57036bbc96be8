// Fill in the function. Then: bash apps/lessons/run.sh exercise 9
//
// The check walks through the default model: for logit differences and for probabilities, whose slopes have a narrow
// peak somewhere on the way.
//
// Hint. The effect is the integral of the slope from 0 to 1. Where in each stretch you read it matters: at its ends, the
// first and the last stretch count what is flat twice.
#include "apps/lessons/exercises/09_mean_slope.h"

namespace vitrine::lesson {

double effect(const std::function<double(double t)>& slope) {
  return slope(0);  // attribution patching: one slope, at the beginning
}

}  // namespace vitrine::lesson
