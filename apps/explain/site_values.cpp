#include "apps/explain/site_values.h"

#include <algorithm>
#include <cmath>

namespace vitrine::app {
namespace {

// An axis that was narrowed to one place, which `largest` still names.
struct Narrowed {
  Tensor value;
  std::vector<std::int64_t> first;  // of each axis
};

int axis_called(std::span<const std::string> axes, std::string_view name) {
  const auto at = std::find(axes.begin(), axes.end(), name);
  return at == axes.end() ? -1 : static_cast<int>(at - axes.begin());
}

Narrowed narrowed(const Tensor& value, std::span<const std::string> axes, std::optional<int> head) {
  Narrowed n{value, std::vector<std::int64_t>(axes.size(), 0)};
  if (!head) return n;
  const int axis = axis_called(axes, "head");
  n.value = value.slice(axis, *head, *head + 1);
  n.first[static_cast<std::size_t>(axis)] = *head;
  return n;
}

// What is added up over all numbers; sums in f64.
struct Sums {
  std::int64_t count = 0, zeros = 0, hidden = 0, vectors = 0, at = -1;
  double sum = 0, squares = 0, least = 0, most = 0, lengths = 0, largest = 0;

  void add(double x, std::int64_t index) {
    if (std::isinf(x) && x < 0) {
      ++hidden;
      return;
    }
    least = count == 0 ? x : std::min(least, x);
    most = count == 0 ? x : std::max(most, x);
    if (at < 0 || std::abs(x) > std::abs(largest)) {
      largest = x;
      at = index;
    }
    ++count;
    zeros += x == 0 ? 1 : 0;
    sum += x;
    squares += x * x;
  }
};

Sums sums_of(const std::vector<double>& values, std::int64_t width) {
  Sums s;
  for (std::size_t begin = 0; begin < values.size(); begin += static_cast<std::size_t>(width)) {
    const double before = s.squares;
    for (std::size_t i = begin; i < begin + static_cast<std::size_t>(width); ++i)
      s.add(values[i], static_cast<std::int64_t>(i));
    s.lengths += std::sqrt(s.squares - before);
    ++s.vectors;
  }
  return s;
}

Json spread_json(const Narrowed& n, std::span<const std::string> axes) {
  const Shape& shape = n.value.shape();
  const Sums s = sums_of(n.value.to_vector<double>(), std::max<std::int64_t>(1, shape.back()));
  const auto count = static_cast<double>(s.count);
  const auto number = [&](double x) { return s.count == 0 ? Json() : Json(x); };
  const double mean = s.count == 0 ? 0 : s.sum / count;
  Json json = {{"least", number(s.least)}, {"most", number(s.most)}, {"mean", number(mean)}};
  json["deviation"] =
      number(std::sqrt(std::max(0.0, s.squares / std::max(1.0, count) - mean * mean)));
  json["length"] = number(s.lengths / static_cast<double>(std::max<std::int64_t>(1, s.vectors)));
  json["zeros"] = number(static_cast<double>(s.zeros) / std::max(1.0, count));
  json["hidden"] = s.hidden;
  json["largest"] = {{"value", number(s.largest)}};
  std::int64_t rest = s.at;
  for (int a = static_cast<int>(axes.size()) - 1; s.at >= 0 && a >= 0; --a) {
    const auto i = static_cast<std::size_t>(a);
    if (axes[i] != "batch") json["largest"][axes[i]] = n.first[i] + rest % shape[a];
    rest /= shape[a];
  }
  return json;
}

}  // namespace

Json spread_of(const Tensor& value, std::span<const std::string> axes, std::optional<int> head) {
  return spread_json(narrowed(value, axes, head), axes);
}

Json spread_by_position(const Tensor& value, std::span<const std::string> axes,
                        std::optional<int> head) {
  const Narrowed all = narrowed(value, axes, head);
  const int axis = std::max(axis_called(axes, "position"), axis_called(axes, "query"));
  Json list = Json::list();
  for (std::int64_t p = 0; axis >= 0 && p < value.dim(axis); ++p) {
    Narrowed one{all.value.slice(axis, p, p + 1), all.first};
    one.first[static_cast<std::size_t>(axis)] = p;
    list.push_back(spread_json(one, axes));
  }
  return list;
}

}  // namespace vitrine::app
