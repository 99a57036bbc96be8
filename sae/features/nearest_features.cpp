#include <algorithm>
#include <cmath>
#include <numeric>

#include "sae/features/feature_contexts.h"
#include "tensor/gemm/gemm.h"

namespace vitrine::sae {
namespace {

// Rows as they are, but of length 1.
Tensor unit_rows(const Tensor& rows) {
  Tensor unit = rows.contiguous().clone();
  const std::int64_t d = unit.dim(1);
  for (std::int64_t i = 0; i < unit.dim(0); ++i) {
    float* row = unit.data<float>() + i * d;
    double squares = 0;
    for (std::int64_t k = 0; k < d; ++k) squares += static_cast<double>(row[k]) * row[k];
    const double scale = squares > 0 ? 1 / std::sqrt(squares) : 0;
    for (std::int64_t k = 0; k < d; ++k) row[k] = static_cast<float>(row[k] * scale);
  }
  return unit;
}

std::vector<Neighbour> highest(const float* cosines, std::int64_t n, std::size_t count,
                               std::int64_t without) {
  std::vector<Neighbour> best;  // few, in order: hardly any row is better than the last of them
  for (std::int64_t j = 0; j < n; ++j) {
    const double cosine = cosines[j];
    if (j == without || (best.size() == count && cosine <= best.back().cosine)) continue;
    if (best.size() == count) best.pop_back();
    const auto at = std::upper_bound(best.begin(), best.end(), cosine,
                                     [](double c, const Neighbour& b) { return c > b.cosine; });
    best.insert(at, {j, cosine});
  }
  return best;
}

}  // namespace

std::vector<std::vector<Neighbour>> nearest_rows(const Tensor& rows, const Tensor& among, int count,
                                                 ThreadPool& pool,
                                                 std::span<const std::int64_t> without) {
  std::vector<std::vector<Neighbour>> all(static_cast<std::size_t>(rows.dim(0)));
  if (count < 1) return all;
  const Tensor from = unit_rows(rows), to = unit_rows(among);
  constexpr std::int64_t kTogether = 256;
  for (std::int64_t begin = 0; begin < from.dim(0); begin += kTogether) {
    const std::int64_t end = std::min(from.dim(0), begin + kTogether);
    Tensor cosines = Tensor::empty({end - begin, to.dim(0)}, DType::f32);
    matmul(pool, from.slice(0, begin, end).view(), to.transpose(0, 1).view(), cosines.view());
    pool.parallel_for(end - begin, 8, [&](std::int64_t first, std::int64_t last) {
      for (std::int64_t i = first; i < last; ++i) {
        const auto row = static_cast<std::size_t>(begin + i);
        all[row] = highest(cosines.data<float>() + i * to.dim(0), to.dim(0),
                           static_cast<std::size_t>(count), without.empty() ? -1 : without[row]);
      }
    });
  }
  return all;
}

std::vector<std::vector<Neighbour>> neighbours(const Sae& sae,
                                               std::span<const std::int64_t> features, int count,
                                               ThreadPool& pool) {
  const Tensor w = sae.weights.at("W_dec").contiguous();
  const std::int64_t d = w.dim(1);
  Tensor rows = Tensor::empty({std::ssize(features), d}, DType::f32);
  for (std::size_t i = 0; i < features.size(); ++i)
    std::copy_n(w.data<float>() + features[i] * d, d,
                rows.data<float>() + static_cast<std::int64_t>(i) * d);
  return nearest_rows(rows, w, count, pool, features);
}

std::vector<Neighbour> neighbours(const Sae& sae, std::int64_t feature, int count) {
  const Tensor w = sae.weights.at("W_dec").contiguous();
  const std::int64_t n = w.dim(0), d = w.dim(1);
  const float* data = w.data<float>();
  const auto dot = [&](std::int64_t a, std::int64_t b) {
    double sum = 0;
    for (std::int64_t i = 0; i < d; ++i)
      sum += static_cast<double>(data[a * d + i]) * data[b * d + i];
    return sum;
  };
  const double own = std::sqrt(dot(feature, feature));
  std::vector<Neighbour> all;
  for (std::int64_t j = 0; j < n; ++j) {
    if (j == feature) continue;
    const double size = own * std::sqrt(dot(j, j));
    all.push_back({j, size > 0 ? dot(feature, j) / size : 0});
  }
  const auto kept = std::min<std::size_t>(all.size(), static_cast<std::size_t>(count));
  std::partial_sort(all.begin(), all.begin() + static_cast<std::ptrdiff_t>(kept), all.end(),
                    [](const Neighbour& a, const Neighbour& b) {
                      return a.cosine != b.cosine ? a.cosine > b.cosine : a.feature < b.feature;
                    });
  all.resize(kept);
  return all;
}

}  // namespace vitrine::sae
