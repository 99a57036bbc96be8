#include "interp/integrated_gradients.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "autograd/ops/ops.h"
#include "autograd/transform/gradient.h"
#include "tensor/error.h"

namespace vitrine::interp {
namespace {

// The site's value at some points of the line, of as many copies of the prompt: [points, ...] as
// packed rows. Masked scores stay as they are.
Tensor on_the_line(const Tensor& x0, const Tensor& x1, const std::vector<double>& points) {
  Shape shape = x0.shape();
  shape[0] *= std::ssize(points);
  const auto a = x0.to_vector<double>(), b = x1.to_vector<double>();
  std::vector<double> x;
  x.reserve(a.size() * points.size());
  for (const double t : points) {
    for (std::size_t i = 0; i < a.size(); ++i) {
      const double way = b[i] - a[i];
      x.push_back(std::isfinite(way) ? a[i] + t * way : a[i]);
    }
  }
  return Tensor::of(shape, x).to(x0.dtype());
}

// The metric, and its gradient where it is asked for, with these values at the site.
struct OnLine {
  std::vector<double> metric;  // [points]
  Tensor gradient;             // [points * rows, ...]
};
OnLine run_points(const nn::Model& model, const nn::Tokens& base, const Site& site, const Tensor& x,
                  std::int64_t points, const Metric& metric, bool gradients,
                  const std::atomic<bool>* cancel) {
  const std::vector<nn::Tokens> prompts(static_cast<std::size_t>(points), base);
  const Interventions put_in = {replace(site, x)};
  Graph graph = intervene(model.build(nn::batch_size(prompts)), put_in);
  Feeds feeds = model.feeds(graph, prompts);
  feeds.insert(metric.feeds.begin(), metric.feeds.end());
  const std::string each = nn::per_prompt_name(metric);
  Fetch wanted = fetch(value(each));
  graph = with_metric(graph, metric);
  if (gradients) {
    graph = gradient(graph, metric.name, sites(site.name));
    wanted.wants.push_back(grad(site));
  }
  const Results r = model.plans()
                        .get(graph, wanted)
                        .run(with_interventions(graph, put_in, feeds), model.parameters(),
                             {.pool = &model.pool(), .cancel = cancel});
  OnLine line{r.raw(each).to_vector<double>(), {}};
  if (gradients) line.gradient = r.raw(grad_name(site.name));
  return line;
}

}  // namespace

double Integrated::sum() const {
  double total = 0;
  for (const double x : scores.values.to_vector<double>()) total += x;
  return total;
}
double Integrated::completeness_error() const {
  const double way = at_other - at_base;
  return std::abs(sum() - way) / std::max(1.0, std::abs(way));
}

Integrated integrated_gradients(const nn::Model& model, const Pair& pair,
                                const IntegratedSpec& spec) {
  check_pair(model, pair);
  if (spec.steps < 1) {
    throw Error(ErrorKind::usage,
                fmt::format("integrated gradients take at least one step, not {}", spec.steps));
  }
  const bool denoise = spec.direction == Direction::denoise;
  const nn::Tokens &base = base_prompt(pair, spec.direction),
                   &other = other_prompt(pair, spec.direction);
  const Metric metric = metric_of(model, {&pair, 1}, spec.measure);
  const Graph graph = model.build(nn::Model::Uniform{1, std::ssize(base)});
  const SiteEntry& entry = graph.site(spec.site.name);
  if (entry.axes.empty() || entry.axes[0] != Axis::row) {
    throw GraphError(fmt::format("integrated gradients go by positions, which {} does not have",
                                 spec.site.name));
  }
  const std::string each = nn::per_prompt_name(metric);
  const nn::Run of_base = model.run_edited({base}, {}, fetch(spec.site, value(each)), &metric),
                of_other = model.run_edited({other}, {}, fetch(spec.site, value(each)), &metric);
  const Tensor x0 = of_base.results.raw(spec.site.name), x1 = of_other.results.raw(spec.site.name);

  Integrated result;
  const double unlike = of_other[each].to_vector<double>()[0],
               same = of_base[each].to_vector<double>()[0];
  result.clean = denoise ? unlike : same;
  result.corrupt = denoise ? same : unlike;
  const OnLine ends = run_points(model, base, spec.site, on_the_line(x0, x1, {0, 1}), 2, metric,
                                 false, spec.cancel);
  result.at_base = ends.metric[0];
  result.at_other = ends.metric[1];

  // The mean gradient, in f64. A metric is the mean over its prompts: d mean / d x_k is 1/n of
  // d m_k / d x_k.
  std::vector<double> mean(static_cast<std::size_t>(x0.numel()), 0.0);
  const auto together = std::max<std::int64_t>(1, spec.rows / std::ssize(base));
  for (int done = 0; done < spec.steps;) {
    const auto n = std::min<std::int64_t>(together, spec.steps - done);
    std::vector<double> points;
    for (std::int64_t k = 0; k < n; ++k)
      points.push_back((static_cast<double>(done + k) + 0.5) / spec.steps);
    const auto g = run_points(model, base, spec.site, on_the_line(x0, x1, points), n, metric, true,
                              spec.cancel)
                       .gradient.to_vector<double>();
    for (std::size_t i = 0; i < g.size(); ++i)
      mean[i % mean.size()] += g[i] * static_cast<double>(n) / spec.steps;
    done += static_cast<int>(n);
    if (spec.progress) spec.progress(done, spec.steps);
  }

  // By position, and by head where the site has heads: summed over the rest.
  const bool heads = entry.axes.size() > 1 && entry.axes[1] == Axis::head;
  const std::int64_t rows = x0.dim(0), across = heads ? x0.dim(1) : 1;
  result.scores = {
      spec.site, heads ? std::vector<std::string>{"pos", "head"} : std::vector<std::string>{"pos"},
      Tensor::zeros(heads ? Shape{rows, across} : Shape{rows}, DType::f64)};
  const auto a = x0.to_vector<double>(), b = x1.to_vector<double>();
  const std::size_t inner = mean.size() / static_cast<std::size_t>(rows * across);
  for (std::size_t i = 0; i < mean.size(); ++i) {
    const double way = b[i] - a[i];
    if (std::isfinite(way)) result.scores.values.data<double>()[i / inner] += way * mean[i];
  }
  return result;
}

}  // namespace vitrine::interp
