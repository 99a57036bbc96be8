#include "interp/integrated_gradients.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "autograd/ops/ops.h"
#include "autograd/transform/gradient.h"
#include "interp/data/asked.h"
#include "tensor/error.h"

namespace vitrine::interp {
namespace {

// A pair's two runs, and what is known of its line so far.
struct Line {
  Pair pair;
  std::vector<double> x0, x1;  // the site's value in the base run and in the other one
  std::vector<double> mean;    // of the gradients
  Integrated result;
};

// A point of a pair's line: t of the way.
struct Point {
  Line* line;
  double t;
};

// Runs some points together: the metric of each, and the gradient of each one's own metric at the
// site, packed.
struct OnLines {
  std::vector<double> metric, gradient;
};
class Runner {
 public:
  Runner(const nn::Model& model, const IntegratedSpec& spec) : model_(model), spec_(spec) {}

  OnLines run(std::span<const Point> points, bool gradients) const {
    std::vector<nn::Tokens> prompts;
    std::vector<Pair> pairs;
    std::vector<double> x;
    for (const Point& p : points) {
      pairs.push_back(p.line->pair);
      prompts.push_back(base_prompt(p.line->pair, spec_.direction));
      for (std::size_t i = 0; i < p.line->x0.size(); ++i) {
        const double way = p.line->x1[i] - p.line->x0[i];  // masked scores stay as they are
        x.push_back(std::isfinite(way) ? p.line->x0[i] + p.t * way : p.line->x0[i]);
      }
    }
    Graph graph = model_.build(nn::batch_size(prompts));
    const Type type = graph.site(spec_.site.name).type;
    const Interventions put_in = {replace(spec_.site, Tensor::of(type.shape, x).to(type.dtype))};
    graph = intervene(graph, put_in);
    const Metric metric = metric_of(model_, pairs, spec_.measure, spec_.metric);
    const std::string each = nn::per_prompt_name(metric);
    graph = with_metric(graph, metric);
    Fetch wanted = fetch(value(each));
    if (gradients) {
      graph = gradient(with_sum(graph, metric), summed_name(metric), sites(spec_.site.name));
      wanted.wants.push_back(grad(spec_.site));
    }
    Feeds feeds = model_.feeds(graph, prompts);
    feeds.insert(metric.feeds.begin(), metric.feeds.end());
    const Results r = model_.plans()
                          .get(graph, wanted)
                          .run(with_interventions(graph, put_in, feeds), model_.parameters(),
                               {.pool = &model_.pool(), .cancel = spec_.cancel});
    OnLines on{r.raw(each).to_vector<double>(), {}};
    if (gradients) on.gradient = r.raw(grad_name(spec_.site.name)).to_vector<double>();
    return on;
  }

  // Calls done(points, what they gave), as many points at a time as the rows allow.
  template <class F>
  void run_all(std::span<const Point> points, bool gradients, const F& done) const {
    for (std::size_t first = 0; first < points.size();) {
      std::size_t end = first;
      for (std::int64_t rows = 0; end < points.size(); ++end) {
        rows += std::ssize(points[end].line->pair.clean);
        if (end > first && rows > spec_.rows) break;
      }
      const auto some = points.subspan(first, end - first);
      done(some, run(some, gradients));
      first = end;
    }
  }

 private:
  const nn::Model& model_;
  const IntegratedSpec& spec_;
};

// The lines of pairs whose runs lie in one batch: both runs of each.
std::vector<Line> lines_of(const nn::Model& model, std::span<const Pair> pairs,
                           const IntegratedSpec& spec) {
  const bool denoise = spec.direction == Direction::denoise;
  std::vector<nn::Tokens> base, other;
  for (const Pair& p : pairs) {
    base.push_back(base_prompt(p, spec.direction));
    other.push_back(other_prompt(p, spec.direction));
  }
  const Metric metric = metric_of(model, pairs, spec.measure, spec.metric);
  const std::string each = nn::per_prompt_name(metric);
  const nn::Run of_base = model.run_edited(base, {}, fetch(spec.site, value(each)), &metric),
                of_other = model.run_edited(other, {}, fetch(spec.site, value(each)), &metric);
  const Tensor x0 = of_base.results.raw(spec.site.name), x1 = of_other.results.raw(spec.site.name);
  const auto same = of_base[each].to_vector<double>(), unlike = of_other[each].to_vector<double>();
  std::vector<Line> lines;
  std::int64_t first = 0;
  for (std::size_t p = 0; p < pairs.size(); ++p) {
    const std::int64_t end = first + std::ssize(base[p]);
    Line& line = lines.emplace_back();
    line.pair = pairs[p];
    line.x0 = x0.slice(0, first, end).to_vector<double>();
    line.x1 = x1.slice(0, first, end).to_vector<double>();
    line.mean.assign(line.x0.size(), 0.0);
    line.result.clean = denoise ? unlike[p] : same[p];
    line.result.corrupt = denoise ? same[p] : unlike[p];
    first = end;
  }
  return lines;
}

// By position, and by head where the site has heads: summed over the rest.
SiteScores scores_on(const Line& line, const Site& site, std::int64_t heads) {
  const std::int64_t rows = std::ssize(line.pair.clean);
  SiteScores scores = {
      site, heads > 0 ? std::vector<std::string>{"pos", "head"} : std::vector<std::string>{"pos"},
      Tensor::zeros(heads > 0 ? Shape{rows, heads} : Shape{rows}, DType::f64)};
  const std::size_t inner =
      line.mean.size() / static_cast<std::size_t>(rows * std::max<std::int64_t>(1, heads));
  for (std::size_t i = 0; i < line.mean.size(); ++i) {
    const double way = line.x1[i] - line.x0[i];
    if (std::isfinite(way)) scores.values.data<double>()[i / inner] += way * line.mean[i];
  }
  return scores;
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

std::vector<Integrated> integrated_gradients(const nn::Model& model, std::span<const Pair> pairs,
                                             const IntegratedSpec& spec) {
  check_pairs(model, pairs);
  if (spec.metric) spec.metric->require_gradient();
  if (spec.steps < 1) {
    throw Error(ErrorKind::usage,
                fmt::format("integrated gradients take at least one step, not {}", spec.steps));
  }
  const Graph graph = model.build(nn::Model::Uniform{1, 1});
  const SiteEntry& entry = graph.site(spec.site.name);
  if (entry.axes.empty() || entry.axes[0] != Axis::row) {
    throw GraphError(fmt::format("integrated gradients go by positions, which {} does not have",
                                 spec.site.name));
  }
  const std::int64_t heads =
      entry.axes.size() > 1 && entry.axes[1] == Axis::head ? entry.type.shape[1] : 0;
  BatchLimits limits = limits_of_logits(model);
  for (const Axis a : entry.axes) {  // keys are counted along the longest prompt of a batch
    if (a == Axis::key) limits.prompts = 1;
  }
  std::vector<nn::Tokens> prompts;
  for (const Pair& p : pairs) prompts.push_back(p.clean);
  const Runner runner(model, spec);
  std::vector<Integrated> results;
  for (const auto& [begin, end] : batches(prompts, limits)) {
    std::vector<Line> lines = lines_of(model, pairs.subspan(begin, end - begin), spec);
    std::vector<Point> ends, steps;
    for (Line& line : lines) {
      ends.insert(ends.end(), {{&line, 0}, {&line, 1}});
      for (int k = 0; k < spec.steps; ++k) steps.push_back({&line, (k + 0.5) / spec.steps});
    }
    runner.run_all(ends, false, [](std::span<const Point> some, const OnLines& on) {
      for (std::size_t i = 0; i < some.size(); ++i) {
        Integrated& of = some[i].line->result;
        (some[i].t == 0 ? of.at_base : of.at_other) = on.metric[i];
      }
    });
    auto done = static_cast<int>(begin) * spec.steps;
    runner.run_all(steps, true, [&](std::span<const Point> some, const OnLines& on) {
      auto g = on.gradient.begin();
      for (const Point& p : some) {
        for (double& x : p.line->mean) x += *g++ / spec.steps;
      }
      done += static_cast<int>(some.size());
      if (spec.progress) spec.progress(done, static_cast<int>(pairs.size()) * spec.steps);
    });
    for (Line& line : lines) {
      line.result.scores = scores_on(line, spec.site, heads);
      results.push_back(std::move(line.result));
    }
  }
  return results;
}

Integrated integrated_gradients(const nn::Model& model, const Pair& pair,
                                const IntegratedSpec& spec) {
  return integrated_gradients(model, {&pair, 1}, spec)[0];
}

}  // namespace vitrine::interp
