// Our solution.
#include "apps/lessons/exercises/10_encode.h"

namespace vitrine::lesson {

std::vector<double> encode(const std::vector<double>& x, const SaeWeights& sae) {
  std::vector<double> features;
  for (std::int64_t j = 0; j < sae.b_enc.dim(0); ++j) {
    double h = sae.b_enc.at<float>({j});
    for (std::int64_t i = 0; i < sae.b_dec.dim(0); ++i)
      h +=
          (x[static_cast<std::size_t>(i)] - sae.b_dec.at<float>({i})) * sae.w_enc.at<float>({i, j});
    features.push_back(h > sae.threshold.at<float>({j}) ? h : 0);
  }
  return features;
}

}  // namespace vitrine::lesson
