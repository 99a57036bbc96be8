// Gradients against central differences, in f64: first and second derivatives of every op.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "autograd/ops/op_table.h"
#include "autograd/transform/gradient.h"
#include "tests/autograd/ops/samples.h"

namespace vitrine::test {
namespace {

bool stops_gradient(const Sample& s) { return s.stops_gradient || find_op(s.op)->integer_only; }

// (metric(x + h) - metric(x - h)) / 2h for element i of a leaf.
double central_difference(const Plan& plan, Case& c, const Leaf& leaf, std::int64_t i,
                          std::string_view metric, double step) {
  Tensor& slot = (leaf.parameter ? c.parameters : c.feeds)[leaf.name];
  const Tensor original = slot;
  slot = original.clone();
  double* x = slot.data<double>() + i;
  const double at = *x, h = step * std::max(1.0, std::abs(at));
  *x = at + h;
  const double above = plan.run(c.feeds, c.parameters).scalar(metric), top = *x;
  *x = at - h;
  const double below = plan.run(c.feeds, c.parameters).scalar(metric), bottom = *x;
  slot = original;
  return (above - below) / (top - bottom);
}

// The gradients of `metric`, an output of g, against central differences. Those run g itself:
// gradient() may have put expansions in place of kernels, and must not be compared with its own.
void check_gradients(const Sample& sample, const Graph& g, std::string_view metric,
                     bool expect_zero) {
  Case c = make_case(sample);
  const Graph with_gradients = gradient(g, metric, leaves("*"));
  verify(with_gradients);
  const Results analytic =
      compile(with_gradients, fetch(grad(leaves("*")))).run(c.feeds, c.parameters);
  const Plan plan = compile(g, fetch(value(metric)));
  for (const Leaf& leaf : sample.leaves) {
    if (leaf.value.dtype() != DType::f64) continue;
    const Tensor grad = analytic.grad(leaf.name);
    ASSERT_EQ(grad.shape(), leaf.value.shape());
    ASSERT_EQ(grad.dtype(), DType::f64);
    const std::vector<double> found = grad.to_vector<double>();
    const double scale = std::max(1.0, max_abs(grad));
    for (std::size_t i = 0; i < found.size(); ++i) {
      if (expect_zero) {
        EXPECT_EQ(found[i], 0) << "d metric / d " << leaf.name << "[" << i << "]";
        continue;
      }
      const double expected =
          central_difference(plan, c, leaf, static_cast<std::int64_t>(i), metric, sample.step);
      EXPECT_LE(std::abs(found[i] - expected), sample.tolerance * scale)
          << "d metric / d " << leaf.name << "[" << i << "]: the op says " << found[i]
          << ", differences say " << expected;
    }
  }
}

void check_first(const Sample& sample) {
  if (!has_float_leaf(sample)) return;
  const Graph g = with_metric_of(make_case(sample).graph, "y", DType::f64);
  check_gradients(sample, g, "metric", stops_gradient(sample));
}

// The gradient is a graph like any other: the weighted sum of its parts is differentiated once
// more.
void check_second(const Sample& sample) {
  if (!has_float_leaf(sample)) return;
  if (sample.op == "cast" && !stops_gradient(sample))
    return;  // rounded to f32: nothing smaller can be seen
  Builder b(
      gradient(with_metric_of(make_case(sample).graph, "y", DType::f64), "metric", leaves("*")));
  Value total = b.scalar(0, DType::f64);
  for (const Leaf& leaf : sample.leaves) {
    if (leaf.value.dtype() == DType::f64)
      total = total + weighted_sum(b.output(grad_name(leaf.name)), DType::f64);
  }
  b.output("second", total);
  check_gradients(sample, std::move(b).finish(), "second", stops_gradient(sample));
}

class GradientCheck : public ::testing::TestWithParam<std::string> {};

TEST_P(GradientCheck, First) { for_each_sample(GetParam(), check_first); }
TEST_P(GradientCheck, Second) { for_each_sample(GetParam(), check_second); }

INSTANTIATE_TEST_SUITE_P(Ops, GradientCheck, ::testing::ValuesIn(op_names()),
                         [](const auto& tested) { return tested.param; });

// ---- kinks: where differences say nothing, a choice is documented in ops.h ----------------------
std::vector<double> gradient_at(const std::vector<double>& x, Value (*f)(const Value&)) {
  Builder b;
  const Tensor t = Tensor::of<double>({static_cast<std::int64_t>(x.size())}, x);
  b.output("metric", sum(f(b.input("x", {DType::f64, t.shape()}))));
  const Graph g = gradient(std::move(b).finish(), "metric", leaves("x"));
  return compile(g, fetch(grad(leaves("x")))).run({{"x", t}}, {}).grad("x").to_vector<double>();
}

TEST(Kinks, ReluHasNoSlopeAtZero) {
  EXPECT_EQ(gradient_at({-1, 0, 2}, [](const Value& x) { return relu(x); }),
            (std::vector<double>{0, 0, 1}));
}
TEST(Kinks, AbsHasNoSlopeAtZero) {
  EXPECT_EQ(gradient_at({-1, 0, 2}, [](const Value& x) { return abs(x); }),
            (std::vector<double>{-1, 0, 1}));
}
TEST(Kinks, MaxSharesATieEqually) {
  EXPECT_EQ(gradient_at({3, 1, 3, 2}, [](const Value& x) { return max(x, {0}); }),
            (std::vector<double>{0.5, 0, 0.5, 0}));
}
TEST(Kinks, MaximumAndMinimumGiveATieToTheLeft) {
  for (auto* f : {maximum, minimum}) {
    Builder b;
    const Value x = b.input("a", {DType::f64, {}}), y = b.input("b", {DType::f64, {}});
    b.output("metric", f(x, y, SourceLine::here()));
    const Plan plan =
        compile(gradient(std::move(b).finish(), "metric", leaves("*")), fetch(grad(leaves("*"))));
    const Results r = plan.run({{"a", Tensor::scalar(2.0)}, {"b", Tensor::scalar(2.0)}}, {});
    EXPECT_EQ(r.grad("a").item<double>(), 1);
    EXPECT_EQ(r.grad("b").item<double>(), 0);
  }
}

// ---- the check itself must fail where a gradient is wrong ---------------------------------------
TEST(GradientCheckItself, SeesAWrongGradient) {
  Sample lie{"mul", "lie", {normal("x", {3})}, [](Builder&, const std::vector<Value>& in) {
               return in[0] * detach(in[0]);  // d(x^2) with half of it missing
             }};
  const Graph g =
      gradient(with_metric_of(make_case(lie).graph, "y", DType::f64), "metric", leaves("*"));
  Case c = make_case(lie);
  const double found =
      compile(g, fetch(grad(leaves("*")))).run(c.feeds, {}).grad("x").to_vector<double>()[0];
  const double expected = central_difference(compile(g, fetch(value("metric"))), c, lie.leaves[0],
                                             0, "metric", lie.step);
  EXPECT_NEAR(2 * found, expected, 1e-6);
  EXPECT_GT(std::abs(found - expected), 1000 * lie.tolerance);
}

}  // namespace
}  // namespace vitrine::test
