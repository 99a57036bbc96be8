#include "apps/live/numbers_of_run.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "autograd/ops/ops.h"
#include "nn/families/sites.h"
#include "nn/model/weights.h"
#include "tensor/error.h"

namespace vitrine::app {

Metric live_outputs(const nn::Config& config, std::int64_t position, bool lens) {
  const auto emit = [config, lens](Builder& b) {
    const Value row = b.input("live.row", {DType::i32, {1}});
    const Value logits = gather_rows(b.output("logits"), row);
    if (!lens) return logits;
    std::vector<Value> stream = {gather_rows(b.at(site::resid_pre(0)), row)};
    for (int l = 0; l < config.layers; ++l)
      stream.push_back(gather_rows(b.at(site::resid_post(l)), row));
    const nn::WeightValues w = nn::weights_of(b, config);
    b.output(kLiveLens,
             nn::capped(nn::unembedded(w, nn::normed(concat(stream, 0), w.ln_final)), config));
    return logits;
  };
  return {kLiveLogits,
          emit,
          {{"live.row", Tensor::of({1}, std::vector{static_cast<std::int32_t>(position)})}}};
}

Distribution::Distribution(const Tensor& logits)
    : logits_(logits.contiguous().to_vector<double>()) {
  if (!std::all_of(logits_.begin(), logits_.end(), [](double x) { return std::isfinite(x); }))
    throw NumericError("a logit is not finite under these edits; make them smaller");
  const double most = *std::max_element(logits_.begin(), logits_.end());
  double sum = 0;
  for (const double x : logits_) sum += std::exp(x - most);
  log_sum_ = most + std::log(sum);
}

double Distribution::probability(int id) const { return std::exp(logit(id) - log_sum_); }

std::vector<int> Distribution::highest(int count) const {
  std::vector<int> ids(logits_.size());
  std::iota(ids.begin(), ids.end(), 0);
  const auto end = ids.begin() + std::min<std::ptrdiff_t>(count, std::ssize(ids));
  std::partial_sort(ids.begin(), end, ids.end(), [&](int a, int b) {
    return logit(a) != logit(b) ? logit(a) > logit(b) : a < b;
  });
  ids.erase(end, ids.end());
  return ids;
}

double Distribution::divergence_to(const Distribution& other) const {
  double sum = 0;
  for (std::size_t i = 0; i < logits_.size(); ++i) {
    const double here = logits_[i] - log_sum_, there = other.logits_[i] - other.log_sum_;
    sum += std::exp(here) * (here - there);
  }
  return std::max(0.0, sum);
}

JsonValue rounded_for_page(double x) {
  constexpr double kParts = 1e6;
  return std::abs(x) < 1e9 ? std::round(x * kParts) / kParts : x;
}

}  // namespace vitrine::app
