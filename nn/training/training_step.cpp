#include "nn/training/training_step.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "autograd/ops/ops.h"
#include "autograd/transform/gradient.h"
#include "autograd/transform/recompute.h"
#include "nn/model/checkpoint.h"
#include "nn/model/metrics.h"
#include "tensor/error.h"

namespace vitrine::nn {
namespace {

using Shapes = std::vector<std::pair<std::string, Shape>>;

std::string state_name(const std::string& parameter) { return "adamw." + parameter; }
std::string average_name(const std::string& parameter) { return "average." + parameter; }
std::string sum_name(const std::string& parameter) { return "sum." + parameter; }
std::string next_name(const std::string& leaf) { return leaf + ".next"; }

// The loss of a batch with its gradient in every parameter.
Graph loss_with_gradients(const Config& config, const BatchSize& size, std::int64_t predicted,
                          const TrainingRules& rules, DType dtype) {
  const Graph model = with_dropout(build_model(config, size, dtype), config, rules.dropout);
  const Graph g = gradient(model, training_loss(predicted), leaves("*"));
  return rules.recompute ? recompute(g, sites("blocks.*.hook_resid_pre")) : g;
}

// The root of the sum of all squares of the gradients, each made by `gradient_of`.
template <class F>
Value global_norm(const Shapes& parameters, const F& gradient_of) {
  Value squares;
  for (const auto& [name, shape] : parameters) {
    const Value s = sum_squares(gradient_of(name, shape));
    squares = squares.defined() ? squares + s : s;
  }
  return sqrt(squares);
}

// What multiplies the gradient. Not a number unless loss and norm are finite: with that, adamw
// leaves the weights as they are.
Value clip_factor(Builder& b, const Value& loss, const Value& norm, const AdamW& rule) {
  const auto number = [&](double x) { return b.scalar(x, norm.dtype()); };
  const Value clip = rule.clip > 0 ? minimum(number(1), rule.clip / (norm + 1e-6)) : number(1);
  const Value limit = number(std::numeric_limits<double>::infinity());
  Value finite = less(norm, limit);
  if (loss.defined()) finite = logical_and(finite, less(abs(loss), limit));
  return select(finite, clip, number(std::numeric_limits<double>::quiet_NaN()));
}

// Emits the next state of every parameter and, if wanted, the next average; returns the updates.
template <class F>
Updates move_weights(Builder& b, const Shapes& parameters, DType dtype, const TrainingRules& rules,
                     const Value& clip, const F& gradient_of) {
  Updates updates;
  const Value settings = b.input("adamw.settings", {DType::f64, {3}});
  const AdamW& rule = rules.adamw;
  // Without a step, the average is 1 average + -0, which has its bits; adding 0 would make 0 of -0.
  const Value finite = equal(clip, clip);  // NaN equals nothing
  const Value kept = select(finite, b.scalar(rules.ema, dtype), b.scalar(1, dtype)),
              nothing = b.scalar(-0.0, dtype);
  for (const auto& [name, shape] : parameters) {
    const Value state = b.parameter(state_name(name), {dtype, {3, numel(shape)}});
    const AdamWRule own{rule.beta1, rule.beta2, rule.eps, shape.size() >= 2 ? rule.decay : 0};
    const Value next = adamw(state, gradient_of(name, shape), clip, settings, own);
    b.output(updates[state_name(name)] = next_name(state_name(name)), next);
    if (rules.ema == 0) continue;
    const Value average = b.parameter(average_name(name), {dtype, {1, numel(shape)}});
    b.output(updates[average_name(name)] = next_name(average_name(name)),
             kept * average + select(finite, (1 - rules.ema) * slice(next, 0, 0, 1), nothing));
  }
  return updates;
}

// A batch whose gradient is added to the sums: sum' = (keep ? sum : 0) + gradient / count. The
// first batch of a step keeps nothing, not even the NaN of a step that failed.
Plan compile_accumulation(const Config& config, const BatchSize& size, std::int64_t predicted,
                          const TrainingRules& rules, DType dtype) {
  const Graph gradients = loss_with_gradients(config, size, predicted, rules, dtype);
  Builder b(gradients);
  Updates updates;
  const Value keep = b.input("sum.keep", {DType::boolean, {}}), zero = b.scalar(0, dtype);
  for (const auto& [name, shape] : parameter_shapes(config)) {
    const Value sum = b.parameter(sum_name(name), {dtype, shape});
    b.output(updates[sum_name(name)] = next_name(sum_name(name)),
             select(keep, sum, zero) + b.output(grad_name(name)) * (1.0 / rules.accumulate));
  }
  return compile(std::move(b).finish(), fetch(value("loss")), updates);
}

// Moves the weights by the sums.
Plan compile_application(const Config& config, const TrainingRules& rules, DType dtype) {
  Builder b;
  const Shapes shapes = parameter_shapes(config);
  const auto sum = [&](const std::string& name, const Shape& shape) {
    return b.parameter(sum_name(name), {dtype, shape});
  };
  const Value norm = global_norm(shapes, sum);
  b.output("grad_norm", norm);
  const Value clip = clip_factor(b, Value(), norm, rules.adamw);
  const Updates updates = move_weights(b, shapes, dtype, rules, clip, sum);
  return compile(std::move(b).finish(), fetch(value("grad_norm")), updates);
}

bool finite(const TrainingStep::Outcome& o) {
  return std::isfinite(o.loss) && std::isfinite(o.grad_norm);
}

void check_rules(const TrainingRules& r) {
  if (r.accumulate < 1) {
    throw Error(ErrorKind::usage,
                fmt::format("a step takes at least 1 batch, not {}", r.accumulate));
  }
  if (!(r.ema >= 0 && r.ema < 1)) {
    throw Error(ErrorKind::usage,
                fmt::format("an average of the weights keeps a share from 0 to less than 1, not {}",
                            r.ema));
  }
}

// The tensor of this name, which must be of this shape and dtype.
Tensor expect_tensor(const Parameters& tensors, const std::string& name, const Shape& shape,
                     DType dtype) {
  const auto it = tensors.find(name);
  const bool there = it != tensors.end();
  if (there && it->second.shape() == shape && it->second.dtype() == dtype) {
    return it->second.contiguous();
  }
  throw CheckpointError(fmt::format(
      "'{}' must be {}{}, but {}; is the checkpoint of another model or other settings?", name,
      name_of(dtype), to_string(shape),
      there ? fmt::format("is {}{}", name_of(it->second.dtype()), to_string(it->second.shape()))
            : "is not there"));
}

// Unlike max_abs, with infinities; NaN is left out.
double largest_size(const Tensor& x) {
  double size = 0;
  for (const double v : x.to_vector<double>()) size = std::max(size, std::abs(v));
  return size;
}

}  // namespace

Plan compile_training_step(const Config& config, const BatchSize& size, std::int64_t predicted,
                           const TrainingRules& rules, DType dtype) {
  const Shapes shapes = parameter_shapes(config);
  const Graph gradients = loss_with_gradients(config, size, predicted, rules, dtype);
  Builder b(gradients);
  const auto gradient_of = [&](const std::string& name, const Shape&) {
    return b.output(grad_name(name));
  };
  const Value norm = global_norm(shapes, gradient_of);
  b.output("grad_norm", norm);
  const Value clip = clip_factor(b, b.output("loss"), norm, rules.adamw);
  const Updates updates = move_weights(b, shapes, dtype, rules, clip, gradient_of);
  return compile(std::move(b).finish(), fetch(value("loss"), value("grad_norm")), updates);
}

TrainingStep::TrainingStep(const Config& config, const Parameters& parameters,
                           const TrainingRules& rules)
    : config_(config), rules_(rules), dtype_(DType::f32) {
  check_rules(rules);
  if (const auto wte = parameters.find("wte.weight"); wte != parameters.end()) {
    dtype_ = wte->second.dtype();
  }
  for (const auto& [name, shape] : parameter_shapes(config)) {
    const std::int64_t n = numel(shape);
    const Tensor state = Tensor::zeros({3, n}, dtype_);
    const Tensor given = expect_tensor(parameters, name, shape, dtype_);
    std::copy_n(given.view().data, given.bytes(), state.view().data);
    bound_[name] = weights_[name] = state.select(0, 0).reshape(shape);
    bound_[state_name(name)] = state;
    if (rules.ema > 0) {
      bound_[average_name(name)] = given.reshape({1, n}).clone();
      averaged_[name] = bound_[average_name(name)].reshape(shape);
    }
    if (rules.accumulate > 1) bound_[sum_name(name)] = Tensor::zeros(shape, dtype_);
  }
  if (rules.accumulate > 1) apply_ = compile_application(config, rules, dtype_);
}

const Plan& TrainingStep::plan(const BatchSize& size, std::int64_t predicted) {
  const auto [it, isnew] = plans_.try_emplace({size, predicted});
  if (isnew) {
    it->second = rules_.accumulate > 1
                     ? compile_accumulation(config_, size, predicted, rules_, dtype_)
                     : compile_training_step(config_, size, predicted, rules_, dtype_);
  }
  return it->second;
}

Feeds TrainingStep::settings(double rate) const {
  const AdamW& rule = rules_.adamw;
  const auto t = static_cast<double>(steps_ + 1);
  return {{"adamw.settings", Tensor::of<double>({3}, {rate, 1 - std::pow(rule.beta1, t),
                                                      1 - std::pow(rule.beta2, t)})}};
}

// Of the i-th batch of the next step.
Feeds TrainingStep::feeds_of(const TrainingBatch& batch, std::size_t i, std::uint64_t seed) const {
  Feeds feeds = batch.feeds;
  if (rules_.dropout.any()) {
    const std::int64_t number = steps_ * rules_.accumulate + static_cast<std::int64_t>(i);
    feeds["dropout.key"] = Tensor::of<std::int64_t>({2}, {static_cast<std::int64_t>(seed), number});
  }
  return feeds;
}

TrainingStep::Outcome TrainingStep::step(const std::vector<TrainingBatch>& batches,
                                         ThreadPool& pool, double rate, std::uint64_t seed) {
  if (std::ssize(batches) != rules_.accumulate) {
    throw Error(ErrorKind::usage,
                fmt::format("a step takes {} batches, not {}", rules_.accumulate, batches.size()));
  }
  const RunOptions run{.pool = &pool, .find_nan = false};
  Outcome outcome{0, 0};
  for (std::size_t i = 0; i < batches.size(); ++i) {
    const TrainingBatch& batch = batches[i];
    Feeds feeds = feeds_of(batch, i, seed);
    if (rules_.accumulate > 1) {
      feeds["sum.keep"] = Tensor::full({}, DType::boolean, i > 0 ? 1 : 0);
    } else {
      feeds.merge(settings(rate));
    }
    const Results r = plan(batch.size, batch.predicted).run(feeds, bound_, run);
    const Outcome one{r.scalar("loss"), rules_.accumulate > 1 ? 0 : r.scalar("grad_norm")};
    if (!finite(one)) explain(batches, seed, one, pool);
    outcome.loss += one.loss / static_cast<double>(batches.size());
    outcome.grad_norm = one.grad_norm;
  }
  if (rules_.accumulate > 1) {
    outcome.grad_norm = apply_.run(settings(rate), bound_, run).scalar("grad_norm");
    if (!finite(outcome)) explain(batches, seed, outcome, pool);
  }
  ++steps_;
  return outcome;
}

// The weights are those before the step, so running its batches again, without updates, goes wrong
// in the same way.
void TrainingStep::explain(const std::vector<TrainingBatch>& batches, std::uint64_t seed,
                           const Outcome& outcome, ThreadPool& pool) const {
  const std::string what = fmt::format(
      "step {}: the loss is {}, the norm of the gradient {}; no weight has been changed",
      steps_ + 1, outcome.loss, outcome.grad_norm);
  std::string largest;
  double size = -1;
  try {
    for (std::size_t i = 0; i < batches.size(); ++i) {
      const TrainingBatch& b = batches[i];
      const Graph graph = loss_with_gradients(config_, b.size, b.predicted, rules_, dtype_);
      const Plan checks = compile(graph, fetch(value("loss"), grad(leaves("*"))));
      const Results r = checks.run(feeds_of(b, i, seed), bound_, {.pool = &pool});
      for (const auto& [name, shape] : parameter_shapes(config_)) {
        const double top = largest_size(r.grad(name));
        if (top > size) std::tie(largest, size) = std::pair(name, top);
      }
    }
  } catch (const NumericError& error) {
    throw NumericError(fmt::format("{}: {}", what, error.what()));
  }
  throw NumericError(fmt::format(
      "{}: the largest gradient is one of '{}', {:.3g}; a lower learning rate or clipping may help",
      what, largest, size));
}

Parameters TrainingStep::state() const {
  Parameters state;
  for (const auto& [name, tensor] : bound_) {
    if (name.starts_with("adamw.") || name.starts_with("average.")) state[name] = tensor;
  }
  return state;
}

void TrainingStep::restore(const Parameters& state, std::int64_t steps) {
  const Parameters own = this->state();
  Parameters given;
  for (const auto& [name, tensor] : own)
    given[name] = expect_tensor(state, name, tensor.shape(), tensor.dtype());
  for (const auto& [name, tensor] : own)
    std::copy_n(given[name].view().data, tensor.bytes(), tensor.view().data);
  steps_ = steps;
}

}  // namespace vitrine::nn
