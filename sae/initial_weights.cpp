#include "sae/initial_weights.h"

#include <algorithm>
#include <cmath>

#include "sae/loss.h"

namespace vitrine::sae {

namespace {

// [features, d]: kaiming_uniform, bounds sqrt(6 / d), of which only the direction is kept.
Tensor random_rows(const SaeTrainingRules& r, const random::Key& key) {
  const std::int64_t d = r.d_in, features = r.d_sae;
  Tensor rows = Tensor::empty({features, d}, DType::f32);
  ThreadPool pool(1);
  const double bound = std::sqrt(6.0 / static_cast<double>(d));
  random::fill_uniform(pool, key, rows, -bound, bound);
  for (std::int64_t j = 0; j < features; ++j) {
    float* row = rows.data<float>() + j * d;
    double squares = 0;
    for (std::int64_t i = 0; i < d; ++i) squares += static_cast<double>(row[i]) * row[i];
    const double target = r.unit_norm || r.kind == Kind::matching_pursuit ? 1 : r.initial_norm;
    const double factor = squares > 0 ? target / std::sqrt(squares) : 0;
    for (std::int64_t i = 0; i < d; ++i) row[i] = static_cast<float>(row[i] * factor);
  }
  return rows;
}

}  // namespace

Parameters initial_weights(const SaeTrainingRules& r, random::Key key,
                           const std::vector<Tensor>& biases) {
  Parameters w;
  for (const auto& [name, shape] : trained_shapes(r)) w[name] = Tensor::zeros(shape, DType::f32);
  for (std::int64_t i = 0; i < r.dictionaries(); ++i) {
    const auto name = [&](const char* weight) { return weight_name(r, i, weight); };
    const random::Key own = r.layers == 0 ? key : key.fold(static_cast<std::uint64_t>(i));
    const Tensor rows = random_rows(r, own.fold("W_dec"));
    if (w.contains(name("W_enc"))) w[name("W_enc")] = rows;
    if (!r.transcoder) w[name("W_dec")] = rows.clone();
    if (r.kind == Kind::jumprelu)
      w[name("threshold")] = Tensor::full({r.d_sae}, DType::f32, r.initial_threshold);
    const auto at = static_cast<std::size_t>(i);
    if (at < biases.size() && biases[at].defined())
      w[name("b_dec")] = biases[at].to(DType::f32).clone();
  }
  return w;
}

Tensor geometric_median(const Tensor& given, int iterations) {
  const Tensor x = given.to(DType::f32).contiguous();
  const std::int64_t n = x.dim(0), d = x.dim(1);
  const float* data = x.data<float>();
  std::vector<double> at(static_cast<std::size_t>(d), 0);
  for (std::int64_t i = 0; i < n * d; ++i) at[static_cast<std::size_t>(i % d)] += data[i];
  for (double& v : at) v /= static_cast<double>(std::max<std::int64_t>(1, n));
  for (int round = 0; round < iterations; ++round) {
    std::vector<double> next(at.size(), 0);
    double weights = 0, moved = 0, size = 0;
    for (std::int64_t i = 0; i < n; ++i) {
      double squares = 0;
      for (std::int64_t j = 0; j < d; ++j) {
        const double e = data[i * d + j] - at[static_cast<std::size_t>(j)];
        squares += e * e;
      }
      const double weight = 1 / std::max(std::sqrt(squares), 1e-10);
      weights += weight;
      for (std::int64_t j = 0; j < d; ++j)
        next[static_cast<std::size_t>(j)] += weight * data[i * d + j];
    }
    for (std::size_t j = 0; j < at.size(); ++j) {
      next[j] /= weights;
      moved += (next[j] - at[j]) * (next[j] - at[j]);
      size += next[j] * next[j];
    }
    at = std::move(next);
    if (moved <= 1e-12 * size) break;
  }
  Tensor out = Tensor::empty({d}, DType::f32);
  for (std::int64_t j = 0; j < d; ++j)
    out.data<float>()[j] = static_cast<float>(at[static_cast<std::size_t>(j)]);
  return out;
}

}  // namespace vitrine::sae
