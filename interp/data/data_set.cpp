#include "interp/data/data_set.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>
#include <numeric>

#include "tensor/error.h"
#include "tensor/files/utf8.h"

namespace vitrine::interp {
namespace {

constexpr double kNone = std::numeric_limits<double>::quiet_NaN();

std::string of_line(const Example& e) {
  return e.line > 0 ? fmt::format("line {}: ", e.line) : std::string();
}

// Sums in the order in which numbers come.
struct Sums {
  double sum = 0, squares = 0;  // squares: of the distances from the mean
  std::int64_t count = 0;
  double mean() const { return count > 0 ? sum / static_cast<double>(count) : kNone; }
  double standard_error() const {
    if (count < 2) return kNone;
    const auto n = static_cast<double>(count);
    return std::sqrt(squares / (n - 1) / n);
  }
};

// `value(i)`: the i-th of n numbers.
template <class F>
Sums sums_of(std::size_t n, const F& value) {
  Sums s;
  for (std::size_t i = 0; i < n; ++i) {
    const double x = value(i);
    if (std::isnan(x)) continue;
    s.sum += x;
    ++s.count;
  }
  const double mean = s.mean();
  for (std::size_t i = 0; i < n; ++i) {
    const double x = value(i);
    if (!std::isnan(x)) s.squares += (x - mean) * (x - mean);
  }
  return s;
}

}  // namespace

// ---- positions ----------------------------------------------------------------------------------
std::string Position::text() const { return role.empty() ? fmt::format("{}", index) : role; }

Position parse_position(std::string_view text) {
  std::int64_t index = 0;
  const auto [stop, error] = std::from_chars(text.data(), text.data() + text.size(), index);
  if (error == std::errc() && stop == text.data() + text.size()) return {index, ""};
  return {-1, std::string(text)};
}

Span Example::span(const Position& position) const {
  const auto length = std::ssize(prompt);
  if (position.role.empty()) {
    const std::int64_t at = position.index < 0 ? position.index + length : position.index;
    if (at >= 0 && at < length) return {at, at + 1};
    throw ContextError(fmt::format("{}there is no position {}: the prompt has {} tokens, 0 to {}",
                                   of_line(*this), position.index, length, length - 1));
  }
  const auto it = roles.find(position.role);
  if (it != roles.end()) return it->second;
  std::vector<std::string> names;
  for (const auto& [name, span] : roles) names.push_back(nn::quote(name));
  throw ContextError(fmt::format(
      "{}there is no role {}; {}", of_line(*this), nn::quote(position.role),
      names.empty() ? std::string("this prompt defines none: a position is a number, or a role of "
                                  "a prompts file (\"roles\": {\"subject\": \" Texas\"})")
                    : fmt::format("this prompt has {}", fmt::join(names, ", "))));
}

std::int64_t Example::at(const Position& position) const { return span(position).end - 1; }

std::vector<std::int64_t> Example::all_at(std::span<const Position> positions) const {
  std::vector<std::int64_t> all;
  for (const Position& p : positions) {
    const Span there = span(p);
    for (std::int64_t at = there.begin; at < there.end; ++at) all.push_back(at);
  }
  std::sort(all.begin(), all.end());
  all.erase(std::unique(all.begin(), all.end()), all.end());
  return all;
}

std::vector<nn::Tokens> prompts_of(std::span<const Example> examples) {
  std::vector<nn::Tokens> prompts;
  for (const Example& e : examples) prompts.push_back(e.prompt);
  return prompts;
}

// ---- groups -------------------------------------------------------------------------------------
std::vector<PromptGroup> grouped(std::span<const Example> examples, std::string_view field) {
  std::vector<PromptGroup> groups;
  for (std::size_t i = 0; i < examples.size(); ++i) {
    std::string name;
    if (!field.empty()) {
      const auto it = examples[i].fields.find(field);
      if (it == examples[i].fields.end()) {
        throw Error(ErrorKind::input, fmt::format("{}there is no field {} to group by",
                                                  of_line(examples[i]), nn::quote(field)));
      }
      name = it->second;
    }
    const auto known = std::find_if(groups.begin(), groups.end(),
                                    [&](const PromptGroup& g) { return g.name == name; });
    if (known != groups.end()) known->members.push_back(i);
    else groups.push_back({name, {i}});
  }
  return groups;
}

PromptGroup all_prompts(std::size_t count) {
  PromptGroup all{"all", std::vector<std::size_t>(count)};
  std::iota(all.members.begin(), all.members.end(), std::size_t{0});
  return all;
}

// ---- statistics ---------------------------------------------------------------------------------
Statistics statistics(std::span<const Tensor> values) {
  if (values.empty()) throw ShapeError("there are no values to take the mean of");
  const Shape shape = values[0].shape();
  std::vector<Tensor> all;
  for (const Tensor& v : values) {
    if (v.shape() != shape) {
      throw ShapeError(fmt::format("a mean of values of shape {} and {}: they must be the same",
                                   to_string(shape), to_string(v.shape())));
    }
    all.push_back(v.to(DType::f64).contiguous());
  }
  Statistics s{Tensor::empty(shape, DType::f64), Tensor::empty(shape, DType::f64),
               Tensor::empty(shape, DType::f64)};
  for (std::int64_t i = 0; i < numel(shape); ++i) {
    const Sums sums = sums_of(all.size(), [&](std::size_t k) { return all[k].data<double>()[i]; });
    s.mean.data<double>()[i] = sums.mean();
    s.standard_error.data<double>()[i] = sums.standard_error();
    s.count.data<double>()[i] = static_cast<double>(sums.count);
  }
  return s;
}

Statistic Statistics::at(std::int64_t i) const {
  return {mean.data<double>()[i], standard_error.data<double>()[i],
          static_cast<std::int64_t>(count.data<double>()[i])};
}

Statistic statistic(std::span<const double> values) {
  const Sums sums = sums_of(values.size(), [&](std::size_t i) { return values[i]; });
  return {sums.mean(), sums.standard_error(), sums.count};
}

}  // namespace vitrine::interp
