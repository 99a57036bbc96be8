// A solution of exercise 5, of many.
#include <cmath>
#include <vector>

#include "apps/lessons/exercises/05_rotary_pairs.h"
#include "autograd/ops/ops.h"

namespace vitrine::exercise {

Value rotate_pairs(Builder& b, const Value& x, double base) {
  const std::int64_t rows = x.dim(0), e = x.dim(1);
  std::vector<double> angles;
  for (std::int64_t position = 0; position < rows; ++position)
    for (std::int64_t i = 0; i < e; i += 2)
      angles.push_back(static_cast<double>(position) *
                       std::pow(base, -static_cast<double>(i) / static_cast<double>(e)));
  const Value angle = b.constant(Tensor::of({rows, e / 2, 1}, angles));
  const auto every_second = [&](std::int64_t first) {
    return reshape(slice(x, 1, first, e, 2), {rows, e / 2, 1});
  };
  const Value u = every_second(0), v = every_second(1);
  const Value pairs = concat({u * cos(angle) - v * sin(angle), v * cos(angle) + u * sin(angle)}, 2);
  return reshape(pairs, {rows, e});
}

}  // namespace vitrine::exercise
