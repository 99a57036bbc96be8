#include "autograd/transform/recorded.h"

#include <fmt/format.h>

#include <algorithm>
#include <numeric>

#include "tensor/error.h"

namespace vitrine {
namespace {

bool is_any(Axis axis, std::initializer_list<Axis> of) {
  return std::find(of.begin(), of.end(), axis) != of.end();
}

// The mean over the axes for which `over` is true; they stay with size 1. Sums in f64.
Tensor mean_over(const Tensor& x, const std::vector<bool>& over) {
  Shape kept = x.shape();
  std::int64_t count = 1;
  for (int a = 0; a < x.rank(); ++a) {
    if (!over[static_cast<std::size_t>(a)]) continue;
    count *= kept[a];
    kept[a] = 1;
  }
  std::vector<double> sums(static_cast<std::size_t>(numel(kept)), 0);
  const std::vector<double> values = x.to_vector<double>();
  for (std::size_t i = 0; i < values.size(); ++i) {
    auto rest = static_cast<std::int64_t>(i);
    std::int64_t at = 0, stride = 1;
    for (int a = x.rank() - 1; a >= 0; --a) {
      if (kept[a] != 1) at += rest % x.dim(a) * stride;
      rest /= x.dim(a);
      stride *= kept[a];
    }
    sums[static_cast<std::size_t>(at)] += values[i];
  }
  for (double& s : sums) s /= static_cast<double>(count);
  return Tensor::of<double>(kept, sums).to(x.dtype());
}

// The axis that counts prompts in the form [batch, ...] in which Results gives a value.
int prompt_axis(const Axes& axes, const Site& site) {
  for (std::size_t a = 0; a < axes.size(); ++a) {
    if (is_any(axes[a], {Axis::row, Axis::batch})) return static_cast<int>(a);
  }
  throw GraphError(
      fmt::format("'{}' has no axis that counts prompts, so there is nothing to take from "
                  "other prompts",
                  site.name));
}

Edit recorded(const Site& site, const Tensor& value, const Where& where, std::string_view from,
              Edit::Origin origin) {
  Edit e = replace(site, value, where, from);
  e.origin = origin;
  return e;
}

}  // namespace

Edit mean(const Site& site, const Results& run, const Where& where, std::string_view from) {
  std::vector<bool> over;
  for (const Axis a : run.axes(site.name))
    over.push_back(is_any(a, {Axis::row, Axis::batch, Axis::pos, Axis::query}));
  return recorded(site, mean_over(run.raw(site.name), over), where, from, Edit::Origin::mean);
}

Edit mean_by_position(const Site& site, const Results& run, const Where& where,
                      std::string_view from) {
  const Tensor x = run.at(site.name);
  std::vector<bool> over(static_cast<std::size_t>(x.rank()), false);
  over[static_cast<std::size_t>(prompt_axis(run.axes(site.name), site))] = true;
  return recorded(site, mean_over(x, over), where, from, Edit::Origin::mean_by_position);
}

Edit resample(const Site& site, const Results& run, random::Key key, const Where& where,
              std::string_view from) {
  const Tensor x = run.at(site.name);
  const int axis = prompt_axis(run.axes(site.name), site);
  const std::int64_t prompts = x.dim(axis);
  std::vector<std::int64_t> permutation(static_cast<std::size_t>(prompts));
  std::iota(permutation.begin(), permutation.end(), 0);
  for (std::int64_t i = prompts - 1; i > 0; --i) {  // j < i, never i: this makes it one cycle
    const std::int64_t j = random::below(key, static_cast<std::uint64_t>(i), i);
    std::swap(permutation[static_cast<std::size_t>(i)], permutation[static_cast<std::size_t>(j)]);
  }
  const std::vector<double> values = x.to_vector<double>();  // exact: every float fits f64
  std::vector<double> taken(values.size());
  std::int64_t inner = 1;  // elements of one index of the prompt axis
  for (int a = axis + 1; a < x.rank(); ++a) inner *= x.dim(a);
  for (std::int64_t i = 0; i < x.numel(); ++i) {
    const std::int64_t to = i / inner % prompts;
    const std::int64_t source = i + (permutation[static_cast<std::size_t>(to)] - to) * inner;
    taken[static_cast<std::size_t>(i)] = values[static_cast<std::size_t>(source)];
  }
  Edit e = recorded(site, Tensor::of<double>(x.shape(), taken).to(x.dtype()), where, from,
                    Edit::Origin::resampled);
  e.permutation = std::move(permutation);
  return e;
}

Edit hold(const Site& site, const Results& run, const Where& where, std::string_view from) {
  return recorded(site, run.raw(site.name), where, from, Edit::Origin::held);
}

Tensor at_position(const Results& run, const Site& site, std::int64_t position) {
  const Tensor rows = run.raw(site.name);
  const Axes& axes = run.axes(site.name);
  if (axes.empty() || axes[0] != Axis::row) {
    throw GraphError(fmt::format(
        "'{}' has no axis of rows; slice its value along its own position axis", site.name));
  }
  Shape shape = rows.shape();
  std::int64_t inner = 1;
  for (int a = 1; a < shape.size(); ++a) inner *= shape[a];
  const std::vector<double> values = rows.to_vector<double>();
  std::vector<double> picked;
  std::int64_t first = 0;
  for (std::size_t i = 0; i < run.lengths().size(); ++i) {
    const std::int64_t length = run.lengths()[i];
    if (position < 0 || position >= length) {
      throw ShapeError(fmt::format("there is no position {} in prompt {}: it has {} tokens",
                                   position, i, length));
    }
    const auto from = values.begin() + (first + position) * inner;
    picked.insert(picked.end(), from, from + inner);
    first += length;
  }
  shape[0] = run.sequences();
  shape.insert(1, 1);  // [batch, 1, ...]
  const Tensor out = Tensor::of<double>(shape, picked).to(rows.dtype());
  const bool pattern = std::find(axes.begin(), axes.end(), Axis::key) != axes.end();
  return pattern && out.rank() == 4 ? out.permute({0, 2, 1, 3}).contiguous() : out;
}

}  // namespace vitrine
