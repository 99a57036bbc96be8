// The gradient check: (f(w + h d) - f(w - h d)) / 2h beside the gradient, for some entries of some
// parameters. Where the model is small enough it is done in f64, in which a difference of entries
// is exact to many digits; else in f32, where each parameter is moved along its whole gradient.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "autograd/diagnose/checks.h"
#include "autograd/graph/parts.h"
#include "autograd/ops/op_table.h"
#include "autograd/ops/ops.h"
#include "autograd/transform/gradient.h"
#include "tensor/error.h"
#include "tensor/random.h"

namespace vitrine {

Graph in_double(const Graph& graph) {
  Builder b;
  std::map<NodeId, Value> to;
  const auto wide = [](DType d) { return d == DType::f32 ? DType::f64 : d; };
  for (const Node& n : graph.nodes()) {
    const Builder::Origin origin(b, n.scope, n.line);
    std::vector<Value> in;
    for (const NodeId i : n.inputs) in.push_back(to.at(i));
    if (const auto* leaf = std::get_if<LeafName>(&n.attributes)) {
      const Type type{wide(n.type.dtype), n.type.shape};
      to[n.id] = n.op == &kInput ? b.input(leaf->name, type) : b.parameter(leaf->name, type);
    } else if (const auto* constant = std::get_if<ConstantValue>(&n.attributes)) {
      const Tensor& t = constant->value;
      to[n.id] = b.constant(t.dtype() == DType::f32 ? t.to(DType::f64) : t);
    } else if (const auto* cast_to = std::get_if<TargetType>(&n.attributes)) {
      to[n.id] = b.emit(*n.op, in, TargetType{wide(cast_to->dtype)}, n.line);
    } else if (n.op == &kSite) {
      to[n.id] = b.emit(kIdentity, in, NoAttributes{}, n.line);
    } else {
      to[n.id] = b.emit(*n.op, in, without_sites(n.attributes), n.line);
    }
  }
  for (const auto& [name, id] : graph.outputs()) b.output(name, to.at(id));
  return std::move(b).finish();
}

namespace {

constexpr std::int64_t kLargestInDouble = 16'000'000;  // parameters of a model: 128 MB of f64
constexpr std::int64_t kLargestMoved = 4'000'000;      // elements of a parameter, in larger models

struct CheckedPlan {
  Graph graph;
  Plan value, gradients;
  Feeds feeds;
  Parameters parameters;
  std::string scalar;
  bool wide = false;

  double at(const Parameters& given, const RunOptions& options) const {
    return value.run(value.taken(feeds), given, options).scalar(scalar);
  }
};

struct Disagreement {
  double worst = 0;  // |difference - gradient| / allowed
  std::string what;
};

Tensor as(const Tensor& t, bool wide) {
  return wide && t.dtype() == DType::f32 ? t.to(DType::f64) : t;
}

CheckedPlan checked_plan(const Examined& e, std::vector<std::string>& names) {
  CheckedPlan c;
  Graph g = with_scalar(e, c.scalar);
  std::int64_t size = 0;
  const std::vector<bool> used = ancestors_of(g, g.output(c.scalar));
  for (const Node& n : g.nodes()) {
    if (n.op != &kParameter || !used[by_id(n.id)]) continue;
    size += numel(n.type.shape);
    if (is_compute_float(n.type.dtype) && numel(n.type.shape) > 0)
      names.push_back(std::get<LeafName>(n.attributes).name);
  }
  c.wide = size <= kLargestInDouble;
  if (!c.wide) {
    std::erase_if(names, [&](const std::string& name) {
      return numel(g.node(g.leaf(name)).type.shape) > kLargestMoved;
    });
  }
  if (c.wide) g = in_double(g);
  for (const auto& [name, t] : e.feeds) c.feeds[name] = as(t, c.wide);
  for (const auto& [name, t] : e.parameters)
    if (g.leaf(name) != kNoNode) c.parameters[name] = as(t, c.wide);
  c.graph = std::move(g);
  return c;
}

// Some of them, spread over the model.
std::vector<std::string> sample_of(const std::vector<std::string>& names, int most) {
  std::vector<std::string> sample;
  const auto n = std::ssize(names);
  for (std::int64_t i = 0; i < std::min<std::int64_t>(n, most); ++i)
    sample.push_back(names[static_cast<std::size_t>(i * n / std::min<std::int64_t>(n, most))]);
  return sample;
}

// Directions in a parameter's elements: single entries, or all along the gradient.
std::vector<std::vector<double>> directions_of(const std::vector<double>& g, const CheckedPlan& c,
                                               const DiagnoseSpec& spec, std::uint64_t number) {
  std::vector<std::vector<double>> directions;
  if (!c.wide) {
    double norm = 0;
    for (const double x : g) norm += x * x;
    std::vector<double> along = g;
    for (double& x : along) x /= norm > 0 ? std::sqrt(norm) : 1;
    directions.push_back(std::move(along));
    return directions;
  }
  for (int i = 0; i < spec.checked_entries; ++i) {
    const auto largest = std::max_element(
        g.begin(), g.end(), [](double x, double y) { return std::abs(x) < std::abs(y); });
    const std::int64_t at = i == 0 ? largest - g.begin()
                                   : random::below(random::Key{spec.seed}.fold(number),
                                                   static_cast<std::uint64_t>(i), std::ssize(g));
    directions.emplace_back(g.size(), 0.0);
    directions.back()[static_cast<std::size_t>(at)] = 1;
  }
  return directions;
}

Tensor moved(const Tensor& w, const std::vector<double>& direction, double by) {
  std::vector<double> x = w.to_vector<double>();
  for (std::size_t i = 0; i < x.size(); ++i) x[i] += by * direction[i];
  return Tensor::of<double>(w.shape(), x).to(w.dtype());
}

// One direction: the least disagreement over several steps, since a kink (a ReLU at 0) or rounding
// spoils one of them alone.
Disagreement compare(const CheckedPlan& c, const std::string& name,
                     const std::vector<double>& direction, double slope,
                     const RunOptions& options) {
  const Tensor& w = c.parameters.at(name);
  const double scale = std::max(1e-3, max_abs(w));
  Disagreement best{.worst = 1e300};
  for (const double step :
       c.wide ? std::vector<double>{1e-4, 1e-6} : std::vector<double>{1e-1, 1e-2}) {
    const double h = step * scale;
    Parameters p = c.parameters;
    p[name] = moved(w, direction, h);
    const double up = c.at(p, options);
    p[name] = moved(w, direction, -h);
    const double down = c.at(p, options), difference = (up - down) / (2 * h);
    const double epsilon = c.wide ? 2.3e-16 : 1.2e-7;  // of the scalar's type
    const double noise = 64 * epsilon * std::max({1.0, std::abs(up), std::abs(down)}) / h;
    const double allowed =
        noise + (c.wide ? 1e-4 : 0.05) * std::max(std::abs(slope), std::abs(difference)) + 1e-12;
    const double worst = std::abs(difference - slope) / allowed;
    if (worst < best.worst) {
      best = {worst, fmt::format("of '{}': {:.6g} by differences, {:.6g} by the gradient", name,
                                 difference, slope)};
    }
  }
  return best;
}

double dot(const std::vector<double>& a, const std::vector<double>& b) {
  double sum = 0;
  for (std::size_t i = 0; i < a.size(); ++i) sum += a[i] * b[i];
  return sum;
}

}  // namespace

void check_gradients(const Examined& e, FindingList& findings) {
  if (e.spec.checked_parameters <= 0 || e.spec.checked_entries <= 0) return;
  std::vector<std::string> names;
  CheckedPlan c = checked_plan(e, names);
  const std::vector<std::string> sample = sample_of(names, e.spec.checked_parameters);
  if (sample.empty()) return;
  std::string patterns;
  for (const std::string& name : sample) patterns += (patterns.empty() ? "" : ",") + name;
  c.value = compile(c.graph, fetch(value(c.scalar)));
  c.gradients =
      compile(gradient(c.graph, c.scalar, leaves(patterns)), fetch(grad(leaves(patterns))));
  const Results r = c.gradients.run(c.gradients.taken(c.feeds), c.parameters, e.options());
  Disagreement worst;
  std::int64_t done = 0;
  for (std::size_t i = 0; i < sample.size(); ++i) {
    const std::vector<double> g = r.grad(sample[i]).to_vector<double>();
    for (const std::vector<double>& d : directions_of(g, c, e.spec, i)) {
      const Disagreement one = compare(c, sample[i], d, dot(d, g), e.options());
      ++done;
      if (one.worst > worst.worst) worst = one;
    }
  }
  Finding f{.check = "gradient_check", .how = "run"};
  if (worst.worst > 1) {
    f.severity = Finding::Severity::problem;
    f.what = fmt::format("the gradient is not that of finite differences: {}", worst.what);
    f.remedy = "check the gradients of ops of your own (vjp), one by one";
  } else {
    f.what = fmt::format("{} {} of {} parameters agree with finite differences in {}", done,
                         c.wide ? "entries" : "directions", sample.size(), c.wide ? "f64" : "f32");
  }
  findings.push_back(std::move(f));
}

}  // namespace vitrine
