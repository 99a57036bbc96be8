#include "interp/circuits/edge_auroc.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "tensor/error.h"

namespace vitrine::interp {
namespace {

// The end of the interval towards `end`, 0 or 1: the last theta that is not refused.
double interval_end(double auroc, double edges, double others, double end) {
  constexpr double kQuantile = 1.959963984540054;  // of the normal distribution at 97.5%
  const double n = (edges + others) / 2;
  const auto fits = [&](double theta) {
    const double variance = theta * (1 - theta) *
                            (2 * n - 1 - (3 * n - 3) / ((2 - theta) * (1 + theta))) /
                            (edges * others);
    return std::abs(auroc - theta) <= kQuantile * std::sqrt(std::max(0.0, variance));
  };
  double inside = auroc, outside = end;
  for (int i = 0; i < 60; ++i) {
    const double middle = (inside + outside) / 2;
    (fits(middle) ? inside : outside) = middle;
  }
  return inside;
}

}  // namespace

EdgeAuroc edge_auroc(const EdgeGrid& grid, const Tensor& scores, const EdgeMask& circuit,
                     double floor) {
  const Shape expected{std::ssize(grid.senders), std::ssize(grid.receivers)};
  if (!(scores.shape() == expected)) {
    throw ShapeError(fmt::format("scores of edges are {} here, [senders, receivers], not {}",
                                 to_string(expected), to_string(scores.shape())));
  }
  const auto values = scores.to_vector<double>();
  std::vector<double> in, out;
  double largest = 0;
  for (const StreamEdge& e : all_edges(grid).edges()) {
    const double score = std::abs(values[e.sender * grid.receivers.size() + e.receiver]);
    largest = std::max(largest, score);
    (circuit.has(e) ? in : out).push_back(score);
  }
  EdgeAuroc result{0, 0, 0, in.size(), out.size()};
  if (in.empty() || out.empty()) {
    throw Error(
        ErrorKind::usage,
        fmt::format("the circuit has {} of {} edges; whether scores tell its edges from the "
                    "others can only be asked where there are both",
                    in.size(), in.size() + out.size()));
  }
  const auto counted = [&](double score) { return score <= floor * largest ? 0 : score; };
  for (const double a : in) {
    for (const double b : out) {
      const double x = counted(a), y = counted(b);
      result.auroc += x > y ? 1 : x == y ? 0.5 : 0;
    }
  }
  const auto edges = static_cast<double>(in.size()), others = static_cast<double>(out.size());
  result.auroc /= edges * others;
  result.low = interval_end(result.auroc, edges, others, 0);
  result.high = interval_end(result.auroc, edges, others, 1);
  return result;
}

}  // namespace vitrine::interp
