// Attribution over many pairs of prompts.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "apps/options/options.h"
#include "apps/reports/attribution_report.h"
#include "apps/reports/data_set_report.h"
#include "apps/reports/patch_report.h"

namespace vitrine::app {
namespace {

using interp::Method;

// Values in a larger shape of as many axes, NaN where there are none.
Tensor in_shape(const Tensor& values, const Shape& shape) {
  if (values.shape() == shape) return values;
  const Tensor out = Tensor::full(shape, DType::f64, std::numeric_limits<double>::quiet_NaN());
  const auto x = values.to_vector<double>();
  std::vector<std::int64_t> at(static_cast<std::size_t>(shape.size()), 0);
  for (const double v : x) {
    std::int64_t flat = 0;
    for (int a = 0; a < shape.size(); ++a) flat = flat * shape[a] + at[static_cast<std::size_t>(a)];
    out.data<double>()[flat] = v;
    for (int a = shape.size() - 1; a >= 0; --a) {
      if (++at[static_cast<std::size_t>(a)] < values.dim(a)) break;
      at[static_cast<std::size_t>(a)] = 0;
    }
  }
  return out;
}

// The same site of every pair, in the largest shape.
struct StackedOver {
  StackedScores first;
  interp::Statistics found;
};
std::vector<StackedOver> stacked_over(const std::vector<interp::Attribution>& each) {
  std::vector<std::vector<StackedScores>> all;
  all.reserve(each.size());
  for (const interp::Attribution& a : each) all.push_back(stacked(a));
  std::vector<StackedOver> sites;
  for (std::size_t s = 0; s < all[0].size(); ++s) {
    Shape largest = all[0][s].values.shape();
    for (const auto& of_pair : all) {
      for (int a = 0; a < largest.size(); ++a)
        largest[a] = std::max(largest[a], of_pair[s].values.dim(a));
    }
    std::vector<Tensor> values;
    values.reserve(all.size());
    for (const auto& of_pair : all) values.push_back(in_shape(of_pair[s].values, largest));
    sites.push_back({all[0][s], interp::statistics(values)});
  }
  return sites;
}

Json place_index(std::int64_t i) { return i < 0 ? Json() : Json(i); }

}  // namespace

interp::Statistic PairsAttributionReport::metric(bool clean) const {
  std::vector<double> values;
  for (const interp::Attribution& a : each) values.push_back(clean ? a.clean : a.corrupt);
  return interp::statistic(values);
}

std::string PairsAttributionReport::text(const Style& style, int columns) const {
  const interp::AttributionSpec& spec = each[0].spec;
  const bool patching = spec.method == Method::attribution_patching;
  std::string text = fmt::format(
      "{}, {}, {}: means over the pairs; {}\n", style.bold(name_of(spec.method)),
      name_of(spec.direction), prompts_text(examples),
      patching
          ? "scores are what putting the other run's activations in would change, to first order"
          : "scores are what the metric would lose to zeros, to first order");
  text += fmt::format("metric: {}, clean {}, corrupt {}\n",
                      interp::metric_name(spec.measure, spec.metric), mean_text(metric(true)),
                      mean_text(metric(false)));
  text += gauge_text(model, true) + "\n";
  for (const StackedOver& s : stacked_over(each)) {
    const auto& axes = s.first.axes;
    if (axes.size() != 2 || axes[0] != "layer" || axes[1] == "feature") continue;
    Heatmap::Titles numbers{axes[1], {}};
    for (std::int64_t i = 0; i < s.found.mean.dim(1); ++i)
      numbers.columns.push_back(fmt::format("{}", i));
    text +=
        heatmap_text(axes, s.found.mean.shape(), s.first.layers, s.found.mean.to_vector<double>(),
                     {numbers}, style.bold(s.first.name), style, columns);
  }
  const auto nodes = interp::strongest(std::span(each), top);
  if (nodes.empty()) return text + "Every score is 0: the two runs are the same here.\n";
  using Align = Table::Align;
  Table table({{"site", Align::left},
               {"place", Align::left},
               {"score", Align::right},
               {"exact", Align::right},
               {"pairs", Align::right}});
  for (std::size_t i = 0; i < nodes.size(); ++i) {
    table.row({nodes[i].site.name, interp::to_text(nodes[i].place), mean_text(nodes[i].score),
               i < verified.size() ? mean_text(verified[i].exact) : "-",
               fmt::format("{}", nodes[i].score.count)});
  }
  text += fmt::format("the {} with the largest mean |score|\n", nodes.size()) + table.text(style);
  if (!verified.empty())
    text += patching
                ? "exact: the mean change of the metric when the other activation is really put "
                  "in\n"
                : "exact: what the metric really loses to zeros\n";
  if (!lines) return text;
  Table of_pairs({{"line", Align::right},
                  {"clean prompt", Align::left},
                  {"clean", Align::right},
                  {"corrupt", Align::right}});
  for (std::size_t i = 0; i < each.size(); ++i)
    of_pairs.row({fmt::format("{}", examples[i].line),
                  one_line(tokenizer_of(model), examples[i].prompt), metric_number(each[i].clean),
                  metric_number(each[i].corrupt)});
  return text + "\n" + of_pairs.text(style);
}

Json PairsAttributionReport::json() const {
  const interp::AttributionSpec& spec = each[0].spec;
  Json json = {{"method", name_of(spec.method)},
               {"direction", name_of(spec.direction)},
               {"metric",
                {{"name", interp::metric_name(spec.measure, spec.metric)},
                 {"clean", statistic_json(metric(true))},
                 {"corrupt", statistic_json(metric(false))}}}};
  json["nodes"] = Json::list();
  const auto nodes = interp::strongest(std::span(each), top);
  for (std::size_t i = 0; i < nodes.size(); ++i) {
    json["nodes"].push_back({{"site", nodes[i].site.name},
                             {"layer", place_index(in_layer(nodes[i].site.name).layer)},
                             {"pos", place_index(nodes[i].place.pos)},
                             {"head", place_index(nodes[i].place.head)},
                             {"feature", place_index(nodes[i].place.feature)},
                             {"score", statistic_json(nodes[i].score)},
                             {"size", statistic_json(nodes[i].size)}});
    json["nodes"].back()["exact"] =
        i < verified.size() ? statistic_json(verified[i].exact) : Json();
  }
  json["sites"] = Json::list();
  for (const StackedOver& s : stacked_over(each))
    json["sites"].push_back({{"name", s.first.name},
                             {"axes", s.first.axes},
                             {"layers", s.first.layers.empty() ? Json() : Json(s.first.layers)},
                             {"shape", as_list(s.found.mean.shape())}});
  json["pairs"] = Json::list();
  for (std::size_t i = 0; i < each.size(); ++i)
    json["pairs"].push_back({{"line", examples[i].line},
                             {"tokens", tokens_json(examples[i])},
                             {"str_tokens", str_tokens_json(model, examples[i])},
                             {"metric", {{"clean", each[i].clean}, {"corrupt", each[i].corrupt}}}});
  return json;
}

NamedTensors PairsAttributionReport::tensors() const {
  NamedTensors tensors;
  for (const StackedOver& s : stacked_over(each)) {
    const std::string name = "node/" + s.first.name;
    tensors.emplace_back(name, s.found.mean.to(DType::f32));
    tensors.emplace_back(name + "/standard_error", s.found.standard_error.to(DType::f32));
    tensors.emplace_back(name + "/count", s.found.count.to(DType::f32));
  }
  tensors.emplace_back("metric/clean", Tensor::full({}, DType::f32, metric(true).mean));
  tensors.emplace_back("metric/corrupt", Tensor::full({}, DType::f32, metric(false).mean));
  return tensors;
}

AxisNames PairsAttributionReport::axis_names() const {
  AxisNames names;
  for (const StackedScores& s : stacked(each[0])) {
    for (const char* part : {"", "/standard_error", "/count"}) {
      const std::string name = "node/" + s.name + part;
      names.of[name] = s.axes;
      for (const int layer : s.layers)
        names.places[name + ":layer"].push_back(fmt::format("{}", layer));
    }
  }
  return names;
}

}  // namespace vitrine::app
