#include "nn/training_step.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "autograd/ops.h"
#include "nn/checkpoint.h"
#include "nn/metrics.h"
#include "tensor/error.h"

namespace vitrine::nn {
namespace {

std::string state_name(const std::string& parameter) { return "adamw." + parameter; }
std::string next_state(const std::string& parameter) { return "adamw." + parameter + ".next"; }

// Adds to a graph with gradients: their global norm, and the next state of every parameter.
Graph with_adamw(const Graph& graph, const std::vector<std::pair<std::string, Shape>>& parameters,
                 DType dtype, const AdamW& rule) {
  Builder b(graph);
  Value squares;
  for (const auto& [name, shape] : parameters) {
    const Value s = sum_squares(b.output(grad_name(name)));
    squares = squares.defined() ? squares + s : s;
  }
  const Value norm = sqrt(squares), one = b.scalar(1, dtype);
  b.output("grad_norm", norm);
  const Value clip = rule.clip > 0 ? minimum(one, rule.clip / (norm + 1e-6)) : one;
  const Value settings = b.input("adamw.settings", {DType::f64, {3}});
  for (const auto& [name, shape] : parameters) {
    const Value state = b.parameter(state_name(name), {dtype, {3, numel(shape)}});
    const AdamWRule own{rule.beta1, rule.beta2, rule.eps, shape.size() >= 2 ? rule.decay : 0};
    b.output(next_state(name), adamw(state, b.output(grad_name(name)), clip, settings, own));
  }
  return std::move(b).finish();
}

}  // namespace

Plan compile_training_step(const Config& config, const BatchSize& size, DType dtype,
                           const AdamW& rule) {
  const auto shapes = parameter_shapes(config);
  Updates updates;
  for (const auto& [name, shape] : shapes) updates[state_name(name)] = next_state(name);
  const std::int64_t n = size.rows - size.sequences;
  const Graph model = build_gpt2(config, size, dtype);
  const Graph with_gradients = gradient(model, training_loss(n), leaves("*"));
  return compile(with_adamw(with_gradients, shapes, dtype, rule),
                 fetch(value("loss"), value("grad_norm")), updates);
}

TrainingStep::TrainingStep(const Config& config, const Parameters& parameters,
                           const BatchSize& size, const AdamW& rule)
    : size_(size), rule_(rule) {
  const DType dtype = parameters.at("wte.weight").dtype();
  for (const auto& [name, shape] : parameter_shapes(config)) {
    const Tensor state = Tensor::zeros({3, numel(shape)}, dtype);
    const Tensor given = parameters.at(name).contiguous();
    std::copy_n(given.view().data, given.bytes(), state.view().data);
    weights_[name] = state.select(0, 0).reshape(shape);
    bound_[name] = weights_[name];
    bound_[state_name(name)] = state;
  }
  plan_ = compile_training_step(config, size, dtype, rule);
}

TrainingStep::Outcome TrainingStep::step(const std::vector<Tokens>& prompts, ThreadPool& pool,
                                         double rate) {
  if (batch_size(prompts) != size_) {
    throw ContextError(fmt::format(
        "this step was built for {} prompts of {} tokens together, not {} of {}", size_.sequences,
        size_.rows, batch_size(prompts).sequences, batch_size(prompts).rows));
  }
  ++steps_;
  const auto t = static_cast<double>(steps_);
  Feeds feeds = batch_feeds(prompts);
  feeds["adamw.settings"] =
      Tensor::of<double>({3}, {rate, 1 - std::pow(rule_.beta1, t), 1 - std::pow(rule_.beta2, t)});
  const Results r = plan_.run(feeds, bound_, {.pool = &pool});
  return {r.scalar("loss"), r.scalar("grad_norm")};
}

}  // namespace vitrine::nn
