// Patching sweeps over many pairs: means and standard errors; metrics as fractions.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "interp/patching.h"
#include "tensor/error.h"

namespace vitrine::interp {

SweepSummary summarise(std::span<const PatchSweep> sweeps) {
  SweepSummary sum;
  if (sweeps.empty()) return sum;
  sum.axes = sweeps[0].axes;
  sum.layers = sweeps[0].layers;
  sum.labels = sweeps[0].labels;
  Shape shape = sweeps[0].values.shape();
  for (const PatchSweep& s : sweeps) {
    for (int a = 0; a < shape.size(); ++a) shape[a] = std::max(shape[a], s.values.dim(a));
  }
  for (Tensor* t : {&sum.mean, &sum.standard_error, &sum.count, &sum.metric})
    *t = Tensor::zeros(shape, DType::f64);
  double *mean = sum.mean.data<double>(), *error = sum.standard_error.data<double>(),
         *count = sum.count.data<double>(), *metric = sum.metric.data<double>();
  const auto pairs = static_cast<double>(sweeps.size());
  for (const PatchSweep& s : sweeps) {
    sum.clean += s.clean / pairs;
    sum.corrupt += s.corrupt / pairs;
    sum.runs += s.runs;
    sum.without_effect += s.without_effect;
    sum.passes += s.passes;
    sum.explanation += s.explanation;
    const auto values = s.values.to_vector<double>();
    const double base = s.base(s.direction);
    for (std::size_t i = 0; i < values.size(); ++i) {
      std::int64_t to = 0, rest = static_cast<std::int64_t>(i), scale = 1;
      for (int a = shape.size() - 1; a >= 0; --a) {
        to += rest % s.values.dim(a) * scale;
        rest /= s.values.dim(a);
        scale *= shape[a];
      }
      // Welford 1962: mean and squared deviations in one pass.
      const double change = values[i] - base, before = change - mean[to];
      count[to] += 1;
      mean[to] += before / count[to];
      error[to] += before * (change - mean[to]);
      metric[to] += (values[i] - metric[to]) / count[to];
    }
  }
  constexpr double kNone = std::numeric_limits<double>::quiet_NaN();
  for (std::int64_t i = 0; i < sum.mean.numel(); ++i) {
    error[i] = count[i] > 1 ? std::sqrt(error[i] / (count[i] - 1) / count[i]) : kNone;
    if (count[i] == 0) mean[i] = metric[i] = kNone;
  }
  return sum;
}

std::vector<PatchSweep> normalised(std::vector<PatchSweep> sweeps) {
  double clean = 0, corrupt = 0;
  for (const PatchSweep& s : sweeps) {
    clean += s.clean / static_cast<double>(sweeps.size());
    corrupt += s.corrupt / static_cast<double>(sweeps.size());
  }
  if (!sweeps.empty() && clean == corrupt) {
    throw NumericError(
        fmt::format("the metric is {} of the clean runs and of the corrupt ones: "
                    "there is nothing between them to be a fraction of",
                    clean));
  }
  const auto fraction = [&](double x) { return (x - corrupt) / (clean - corrupt); };
  for (PatchSweep& s : sweeps) {
    auto values = s.values.to_vector<double>();
    std::transform(values.begin(), values.end(), values.begin(), fraction);
    s.values = Tensor::of(s.values.shape(), values);
    s.clean = fraction(s.clean);
    s.corrupt = fraction(s.corrupt);
  }
  return sweeps;
}

}  // namespace vitrine::interp
