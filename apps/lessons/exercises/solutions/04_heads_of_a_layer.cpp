// A solution of exercise 4, of many.
#include <cstddef>
#include <vector>

#include "apps/lessons/exercises/04_heads_of_a_layer.h"

namespace vitrine::exercise {

double push_of_head(const Vector& z, const std::vector<Vector>& w_o, double scale,
                    const Vector& gain, const Vector& austin, const Vector& sacramento) {
  const std::size_t d = gain.size();
  Vector written(d, 0);
  double mean = 0;
  for (std::size_t i = 0; i < d; ++i) {
    for (std::size_t e = 0; e < z.size(); ++e) written[i] += z[e] * w_o[e][i];
    mean += written[i] / static_cast<double>(d);
  }
  double push = 0;
  for (std::size_t i = 0; i < d; ++i)
    push += (written[i] - mean) / scale * gain[i] * (austin[i] - sacramento[i]);
  return push;
}

}  // namespace vitrine::exercise
