#include "autograd/sweep/grid.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "tensor/error.h"

namespace vitrine {

MakeEdit from(const Results& run, std::string_view name) {
  return [run, name = std::string(name)](const Site& site, const Where& where) {
    return replace(site, run.raw(site.name), where, name);
  };
}
MakeEdit zeros() {
  return [](const Site& site, const Where& where) { return zero(site, where); };
}

namespace {

struct Kind {
  Axis axis;
  const char* word;
  std::vector<std::int64_t> Where::*indices;
};
constexpr Kind kKinds[] = {{Axis::batch, "prompt", &Where::prompt},
                           {Axis::pos, "pos", &Where::pos},
                           {Axis::head, "head", &Where::head},
                           {Axis::key, "key", &Where::key},
                           {Axis::feature, "feature", &Where::feature}};

const Kind& kind_of(Axis axis) {
  for (const Kind& k : kKinds) {
    if (k.axis == axis) return k;
  }
  throw GraphError(fmt::format(
      "a grid goes along batch, pos, head, key or feature axes, not along '{}'", name_of(axis)));
}

// How many places a site has along an axis of this kind; 0 when it has no such axis.
std::int64_t places_along(const Graph& graph, const SiteEntry& site, Axis axis) {
  for (std::size_t a = 0; a < site.axes.size(); ++a) {
    const Axis own = site.axes[a];
    const bool row = own == Axis::row && (axis == Axis::batch || axis == Axis::pos);
    if (row && graph.rows()) {
      const Shape& keys = graph.node(graph.rows()->keys).type.shape;  // [prompts, positions]
      return axis == Axis::batch ? keys[0] : keys[1];
    }
    if (own == axis || (own == Axis::query && axis == Axis::pos))
      return site.type.shape[static_cast<int>(a)];
  }
  return 0;
}

}  // namespace

std::vector<Where> places(const std::vector<Axis>& by, const Shape& sizes) {
  std::vector<Where> all;
  for (std::int64_t i = 0; i < numel(sizes); ++i) {
    Where& where = all.emplace_back();
    std::int64_t rest = i;
    for (int a = sizes.size() - 1; a >= 0; --a) {
      where.*kind_of(by[static_cast<std::size_t>(a)]).indices = {rest % sizes[a]};
      rest /= sizes[a];
    }
  }
  return all;
}

Grid grid(const Graph& graph, const SiteSet& sites, const std::vector<Axis>& by,
          const MakeEdit& edit) {
  Grid g;
  g.sites = select_sites(sites, graph.site_names());
  g.axes = {"site"};
  g.shape = {std::ssize(g.sites)};
  for (const Axis axis : by) {
    g.axes.emplace_back(kind_of(axis).word);
    std::int64_t size = 0;
    for (const std::string& name : g.sites) {
      const std::int64_t own = places_along(graph, graph.site(name), axis);
      if (own == 0) throw GraphError(fmt::format("{} has no {} axis", name, kind_of(axis).word));
      if (size == 0) size = own;
      if (own == size) continue;
      throw GraphError(fmt::format(
          "{} has {} places along its {} axis, {} has {}: a grid needs sites that are alike", name,
          own, kind_of(axis).word, g.sites[0], size));
    }
    g.shape.push_back(size);
  }
  const std::vector<Where> of_a_site = places(by, Shape(std::span(g.shape).subspan(1)));
  for (const std::string& name : g.sites) {
    for (const Where& place : of_a_site) g.worlds.push_back({edit(Site{name}, place)});
  }
  return g;
}

GridValues label(const Grid& grid, const Tensor& values) {
  if (values.numel() != numel(grid.shape)) {
    throw ShapeError(fmt::format("the grid has {} worlds ({}), not {} values", numel(grid.shape),
                                 to_string(grid.shape), values.numel()));
  }
  return {grid.axes, grid.sites, values.to(DType::f64).contiguous().reshape(grid.shape)};
}

double GridValues::at(const std::map<std::string, std::int64_t>& place) const {
  for (const auto& [axis, index] : place) {
    if (std::find(axes.begin(), axes.end(), axis) == axes.end())
      throw GraphError(
          fmt::format("there is no axis '{}'; there are {}", axis, fmt::join(axes, ", ")));
  }
  Dims index;
  for (std::size_t a = 0; a < axes.size(); ++a) {
    const auto given = place.find(axes[a]);
    if (given == place.end())
      throw GraphError(fmt::format("the place along '{}' is missing", axes[a]));
    const std::int64_t size = values.dim(static_cast<int>(a));
    if (given->second < 0 || given->second >= size) {
      throw GraphError(fmt::format("{} {} is outside 0 to {}", axes[a], given->second, size - 1));
    }
    index.push_back(given->second);
  }
  std::int64_t flat = 0;
  for (int a = 0; a < index.size(); ++a) flat = flat * values.dim(a) + index[a];
  return values.data<double>()[flat];
}

std::string GridValues::table() const {
  const int last = values.rank() - 1;
  const std::int64_t columns = last == 0 ? 1 : values.dim(last);
  std::size_t width = 4;
  for (const std::string& s : sites) width = std::max(width, s.size());
  const std::int64_t per_site = sites.empty() ? 1 : values.numel() / columns / std::ssize(sites);
  const std::size_t label = width + (per_site > 1 ? 8 : 0);
  std::string text = fmt::format("{:<{}}", last == 0 ? "site" : axes.back(), label);
  for (std::int64_t c = 0; c < columns && last > 0; ++c) text += fmt::format(" {:>9}", c);
  text += "\n";
  for (std::int64_t r = 0; r * columns < values.numel(); ++r) {
    std::string name = sites[static_cast<std::size_t>(r / per_site)];
    if (per_site > 1) name += fmt::format(" [{}]", r % per_site);
    text += fmt::format("{:<{}}", name, label);
    for (std::int64_t c = 0; c < columns; ++c)
      text += fmt::format(" {:>9.4f}", values.data<double>()[r * columns + c]);
    text += "\n";
  }
  return text;
}

}  // namespace vitrine
