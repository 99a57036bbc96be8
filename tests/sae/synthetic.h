// Activations made of known features: what an SAE should find.
#pragma once

#include <cmath>
#include <string>
#include <vector>

#include "sae/activations.h"
#include "tensor/random.h"

namespace vitrine::test {

// Each row is a sum of about `active` of `features` unit vectors, with sizes in [0.5, 1.5), plus an
// offset and a little noise.
class SyntheticSource : public sae::ActivationSource {
 public:
  SyntheticSource(std::int64_t width, std::int64_t features, double active,
                  std::int64_t rows = 1 << 20)
      : width_(width), active_(active), rows_(rows) {
    columns_ = {{"x", width}};
    for (std::int64_t g = 0; g < features; ++g) {
      std::vector<double> v;
      double squares = 0;
      for (std::int64_t i = 0; i < width; ++i) {
        v.push_back(random::normal(random::Key{11}.fold("features"),
                                   static_cast<std::uint64_t>(g * width + i)));
        squares += v.back() * v.back();
      }
      for (double& x : v) x /= std::sqrt(squares);
      truth_.push_back(std::move(v));
    }
  }
  const std::vector<Column>& columns() const override { return columns_; }
  std::int64_t rows() const override { return rows_; }
  std::int64_t items() const override { return rows_; }
  std::string fingerprint() const override { return "synthetic"; }
  const std::vector<std::vector<double>>& truth() const { return truth_; }

  std::vector<Tensor> read(sae::SourcePlace& place) override {
    constexpr std::int64_t kTogether = 1000;
    const std::int64_t n = std::min(kTogether, rows_ - place.item);
    Tensor x = Tensor::empty({n, width_}, DType::f32);
    const double probability = active_ / static_cast<double>(truth_.size());
    for (std::int64_t r = 0; r < n; ++r) {
      const random::Key key = random::Key{5}.fold(static_cast<std::uint64_t>(place.item + r));
      std::vector<double> sum(static_cast<std::size_t>(width_), 0.1);
      for (std::size_t g = 0; g < truth_.size(); ++g) {
        if (random::uniform(key, 2 * g) >= probability) continue;
        const double size = 0.5 + random::uniform(key, 2 * g + 1);
        for (std::size_t i = 0; i < sum.size(); ++i) sum[i] += size * truth_[g][i];
      }
      for (std::size_t i = 0; i < sum.size(); ++i)
        x.data<float>()[r * width_ + static_cast<std::int64_t>(i)] = static_cast<float>(
            sum[i] + 0.01 * random::normal(key.fold("noise"), static_cast<std::uint64_t>(i)));
    }
    place.item += n;
    if (place.item == rows_) place = {place.epoch + 1, 0};
    return {x};
  }

 private:
  std::int64_t width_;
  double active_;
  std::int64_t rows_;
  std::vector<Column> columns_;
  std::vector<std::vector<double>> truth_;
};

// For each true feature the largest cosine with a decoder row: their mean.
inline double mean_max_cosine(const Tensor& w_dec, const std::vector<std::vector<double>>& truth) {
  double mean = 0;
  const std::int64_t n = w_dec.dim(0), d = w_dec.dim(1);
  for (const auto& g : truth) {
    double best = -1;
    for (std::int64_t j = 0; j < n; ++j) {
      double dot = 0, squares = 0;
      for (std::int64_t i = 0; i < d; ++i) {
        const double w = w_dec.data<float>()[j * d + i];
        dot += w * g[static_cast<std::size_t>(i)];
        squares += w * w;
      }
      if (squares > 0) best = std::max(best, dot / std::sqrt(squares));
    }
    mean += best / static_cast<double>(truth.size());
  }
  return mean;
}

}  // namespace vitrine::test
