// The check of exercise 1.
#include "apps/lessons/exercises/01_softcap.h"
#include "apps/lessons/lesson.h"
#include "autograd/compile/plan.h"
#include "autograd/ops/ops.h"
#include "autograd/transform/gradient.h"
#include "tensor/error.h"

namespace {

using namespace vitrine;
using namespace vitrine::lesson;

constexpr double kCap = 3;
const std::vector<double> kNumbers = {-50, -4, -1, 0, 0.5, 2, 3, 80};

Graph with_op(const OpDef& op) {
  Builder b;
  const Value x = b.input("x", {DType::f64, {8}});
  const Value y =
      b.site("exercise.y", b.emit(op, {x}, SoftcapRule{kCap}, SourceLine::here()), {Axis::feature});
  b.output("y", y);
  b.output("sum", sum(y * y));
  return std::move(b).finish();
}

void check_values(const Graph& graph) {
  section("Its values");
  const Tensor y =
      compile(graph, fetch(value("y"))).run({{"x", Tensor::of({8}, kNumbers)}}, {})["y"];
  double largest = 0;
  std::vector<Row> rows;
  for (int i = 0; i < 8; ++i) {
    const double x = kNumbers[static_cast<std::size_t>(i)], wanted = kCap * std::tanh(x / kCap);
    rows.push_back({fmt::format("{}", x), fmt::format("{:.4f}", y.at<double>({i})),
                    fmt::format("{:.4f}", wanted)});
    largest = std::max(largest, std::abs(y.at<double>({i}) - wanted));
  }
  table({"x", "your y", "3 tanh(x / 3)"}, rows);
  expect("largest difference", largest, at_most(1e-12));
}

void check_gradient(const Graph& graph) {
  section("Its gradient, of the sum of y^2, beside finite differences");
  const Plan plan =
      compile(gradient(graph, "sum", leaves("x")), fetch(value("sum"), grad(leaves("x"))));
  const auto sum_at = [&](const std::vector<double>& x) {
    return plan.run({{"x", Tensor::of({8}, x)}}, {}).scalar("sum");
  };
  const Tensor dx = plan.run({{"x", Tensor::of({8}, kNumbers)}}, {}).grad("x");
  double largest = 0;
  for (std::size_t i = 0; i < 8; ++i) {
    std::vector<double> up = kNumbers, down = kNumbers;
    up[i] += 1e-5, down[i] -= 1e-5;
    largest = std::max(largest, std::abs((sum_at(up) - sum_at(down)) / 2e-5 -
                                         dx.at<double>({static_cast<int>(i)})));
  }
  expect("largest difference", largest, at_most(1e-7));
}

// What passes, which know no op by its name, rely on.
void check_claims(const Graph& graph) {
  section("What the row says of it");
  expect("kind is activation", exercise::kMySoftcap.kind == OpKind::activation, near(1, 0));
  bool refused = false;
  try {
    Builder b;
    b.emit(exercise::kMySoftcap, {b.input("x", {DType::i32, {8}})}, SoftcapRule{kCap},
           SourceLine::here());
  } catch (const ShapeError& error) {
    refused = true;
    say("  of integers: {}", error.what());
  }
  expect("integers are refused", refused, near(1, 0));
  verify(graph);
}

}  // namespace

int main() {
  section("Is the row complete?");
  const std::string missing = what_is_missing(exercise::kMySoftcap);
  if (!missing.empty()) say("  not yet: {}", missing);
  expect("complete", missing.empty(), near(1, 0));
  const Graph graph = with_op(exercise::kMySoftcap);
  check_values(graph);
  check_gradient(graph);
  check_claims(graph);
  say("\nThat is an op. It can be trained through, patched and swept like any other.");
}
