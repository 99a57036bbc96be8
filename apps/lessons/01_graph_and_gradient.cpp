// Lesson 1. A tensor, a graph, a gradient: everything later is made of these three.
#include "apps/lessons/lesson.h"
#include "autograd/compile/plan.h"
#include "autograd/ops/ops.h"
#include "autograd/transform/gradient.h"

namespace {

using namespace vitrine;
using namespace vitrine::lesson;

void tensors() {
  section("A tensor is a block of numbers with a shape");
  // [snippet tensor]
  const Tensor x = Tensor::of({2, 3}, {1.0, 2.0, 3.0, 4.0, 5.0, 6.0});  // f64[2, 3]
  const Tensor turned = x.permute({1, 0});                              // f64[3, 2], no copy
  // [/snippet tensor]
  say("x       {}", x.to_string());
  say("turned  {}", turned.to_string());
  expect("x[1, 2] is turned[2, 1]", turned.at<double>({2, 1}) - x.at<double>({1, 2}), near(0, 0));
  expect("and both are the same memory", turned.shares_storage_with(x), near(1, 0));
}

// [snippet build]
// loss(w) = mean (tanh(x w) - wanted)^2: how far what comes out is from what is wanted.
Graph build_loss() {
  Builder b;
  const Value x = b.input("x", {DType::f64, {4, 3}});            // 4 examples of 3 numbers
  const Value wanted = b.input("wanted", {DType::f64, {4, 2}});  // 2 numbers for each example
  const Value w = b.parameter("w", {DType::f64, {3, 2}});
  const Value y = b.site("lesson.y", tanh(matmul(x, w)), {Axis::batch, Axis::feature});
  b.output("loss", mean(square(y - wanted)));
  return std::move(b).finish();
}
// [/snippet build]

Feeds examples() {
  return {{"x", Tensor::of({4, 3}, {1.0, 0.0, 0.5, 0.0, 1.0, 0.5, 1.0, 1.0, 0.0, -1.0, 0.5, 1.0})},
          {"wanted", Tensor::of({4, 2}, {0.9, -0.3, -0.5, 0.2, 0.3, -0.1, -0.8, 0.6})}};
}

// [snippet nudge]
// A tensor that differs from `at` in element i alone, by h.
Tensor nudged(const Tensor& at, std::int64_t i, double h) {
  Tensor copy = at.clone();
  copy.data<double>()[i] += h;
  return copy;
}
// [/snippet nudge]

void check_gradient(const Plan& plan, const Tensor& w) {
  section("Is the gradient right? Nudge each weight and look");
  const Tensor grad = plan.run(examples(), {{"w", w}}).grad("w");
  const auto loss = [&](const Tensor& at) {
    return plan.run(examples(), {{"w", at}}).scalar("loss");
  };
  // [snippet differences]
  const double h = 1e-5;
  double largest = 0;
  std::vector<Row> rows;
  for (std::int64_t i = 0; i < w.numel(); ++i) {
    const double measured = (loss(nudged(w, i, h)) - loss(nudged(w, i, -h))) / (2 * h);
    const double computed = grad.at<double>({i / 2, i % 2});
    largest = std::max(largest, std::abs(measured - computed));
    rows.push_back({fmt::format("w[{}, {}]", i / 2, i % 2), fmt::format("{:+.8f}", computed),
                    fmt::format("{:+.8f}", measured)});
  }
  // [/snippet differences]
  table({"weight", "gradient", "finite difference"}, rows);
  expect("largest difference", largest, at_most(1e-9));
}

void go_downhill(const Plan& plan, Tensor w) {
  section("What a gradient is for: walk downhill");
  // [snippet descent]
  std::vector<std::pair<std::string, double>> losses;
  for (int step = 0; step <= 40; ++step) {
    const Results r = plan.run(examples(), {{"w", w}});
    if (step % 5 == 0) losses.emplace_back(fmt::format("step {}", step), r.scalar("loss"));
    for (std::int64_t i = 0; i < w.numel(); ++i)
      w.data<double>()[i] -= 0.5 * r.grad("w").at<double>({i / 2, i % 2});
  }
  // [/snippet descent]
  bars(losses);
  expect("loss before", losses.front().second, between(0.25, 0.5));
  expect("loss after 40 steps", losses.back().second, at_most(0.02));
}

}  // namespace

int main() {
  tensors();

  section("A graph is a program that has not run");
  const Graph graph = build_loss();
  fmt::print("{}", graph.to_text());

  section("A gradient is more of the same program");
  // [snippet gradient]
  const Graph with_gradient = gradient(graph, "loss", sites("lesson.y"), leaves("w"));
  const Plan plan =
      compile(with_gradient, fetch(value("loss"), grad(leaves("w")), grad(sites("lesson.y"))));
  // [/snippet gradient]
  fmt::print("{}", with_gradient.to_text());
  expect("nodes of the loss", static_cast<double>(graph.nodes().size()), near(11, 0));
  expect("with its gradient", static_cast<double>(with_gradient.nodes().size()), at_least(22));
  expect("kernels that the plan runs", plan.stats().steps, at_most(18));

  // [snippet run]
  const Tensor w = Tensor::of({3, 2}, {0.1, 0.2, -0.2, 0.1, 0.3, -0.1});
  const Results r = plan.run(examples(), {{"w", w}});
  // [/snippet run]
  say("\nd loss / d w         {}", r.grad("w").to_string());
  say("d loss / d lesson.y  {}", r.grad(Site{"lesson.y"}).to_string());

  check_gradient(plan, w);
  go_downhill(plan, w.clone());
}
