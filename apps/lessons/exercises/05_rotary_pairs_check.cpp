// The check of exercise 5: what turning must do, and what it is good for.
#include "apps/lessons/exercises/05_rotary_pairs.h"
#include "apps/lessons/lesson.h"
#include "autograd/compile/plan.h"
#include "autograd/ops/ops.h"

namespace {

using namespace vitrine;
using namespace vitrine::lesson;

constexpr std::int64_t kRows = 12, kWidth = 6;

// `row` at every position, turned: f64 [12, 6].
Tensor turned(const std::vector<double>& row) {
  std::vector<double> rows;
  for (std::int64_t i = 0; i < kRows; ++i) rows.insert(rows.end(), row.begin(), row.end());
  Builder b;
  b.output("y", exercise::rotate_pairs(b, b.input("x", {DType::f64, {kRows, kWidth}}), 100));
  return compile(std::move(b).finish(), fetch(value("y")))
      .run({{"x", Tensor::of({kRows, kWidth}, rows)}}, {})["y"];
}

}  // namespace

int main() {
  const std::vector<double> query = {1, 0, 0.5, -1, 2, 0.3}, key = {0.2, 1, -1, 0.4, 1, 1};
  const Tensor q = turned(query), k = turned(key);
  const auto score = [&](int at, int from) {
    double dot = 0;
    for (int i = 0; i < kWidth; ++i) dot += q.at<double>({at, i}) * k.at<double>({from, i});
    return dot;
  };

  section("At position 0 nothing turns; one step later the first pair turns by one radian");
  double still = 0;
  for (int i = 0; i < kWidth; ++i)
    still = std::max(still, std::abs(q.at<double>({0, i}) - query[static_cast<std::size_t>(i)]));
  expect("change at position 0", still, near(0, 0));
  expect("first entry at position 1", q.at<double>({1, 0}), near(std::cos(1.0), 1e-12));
  expect("second entry at position 1", q.at<double>({1, 1}), near(std::sin(1.0), 1e-12));
  const double slow = std::pow(100.0, -2.0 / 6);
  expect("third entry at position 2", q.at<double>({2, 2}),
         near(0.5 * std::cos(2 * slow) + std::sin(2 * slow), 1e-12));

  section("Scores depend on the distance alone");
  std::vector<Row> rows;
  double largest = 0;
  for (int distance = 0; distance < 4; ++distance) {
    Row row = {fmt::format("{} back", distance)};
    for (const int at : {4, 7, 11}) {
      row.push_back(fmt::format("{:.4f}", score(at, at - distance)));
      largest = std::max(largest, std::abs(score(at, at - distance) - score(4, 4 - distance)));
    }
    rows.push_back(row);
  }
  table({"", "query at 4", "at 7", "at 11"}, rows);
  expect("largest difference within a line", largest, at_most(1e-12));
  expect("but distances differ: 0 back against 3 back", std::abs(score(7, 7) - score(7, 4)),
         at_least(0.1));
}
