#include "apps/reports/attribution_report.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <map>

#include "apps/experiment/answer_options.h"
#include "apps/reports/patch_report.h"

namespace vitrine::app {
namespace {

using interp::Direction;
using interp::Method;

// Why a place that was measured has no exact value.
constexpr const char* kNotFinite = "the metric is not a finite number with zeros put in there";

const char* base_of(Direction d) { return d == Direction::denoise ? "corrupt" : "clean"; }
const char* other_of(Direction d) { return d == Direction::denoise ? "clean" : "corrupt"; }

// " Texas" / " California" of a position, or nothing.
std::string token_at(const nn::Model& model, const interp::Example& pair, std::int64_t position) {
  return position < 0 ? "" : tokens_at(model, pair, {position, position + 1});
}

std::vector<Heatmap::Titles> titles(const nn::Model& model, const interp::Example& pair,
                                    const std::string& axis, std::int64_t size) {
  Heatmap::Titles numbers{axis, {}}, tokens{"token", {}};
  for (std::int64_t i = 0; i < size; ++i) {
    numbers.columns.push_back(fmt::format("{}", i));
    if (axis == "pos") tokens.columns.push_back(token_at(model, pair, i));
  }
  if (axis != "pos") return {numbers};
  return {numbers, tokens};
}

}  // namespace

// ---- sites in layers ----------------------------------------------------------------------------
InLayer in_layer(std::string_view site) {
  constexpr std::string_view kBlocks = "blocks.";
  if (!site.starts_with(kBlocks)) return {-1, std::string(site)};
  int layer = -1;
  const char* end = site.data() + site.size();
  const auto [stop, error] = std::from_chars(site.data() + kBlocks.size(), end, layer);
  if (error != std::errc() || stop == end || *stop != '.') return {-1, std::string(site)};
  return {layer, std::string(stop + 1, end)};
}

std::vector<StackedScores> stacked(const interp::Attribution& a) {
  std::vector<std::string> order;
  std::map<std::string, std::vector<const interp::SiteScores*>> groups;
  for (const interp::SiteScores& s : a.sites) {
    const std::string name = in_layer(s.site.name).name;
    if (!groups.contains(name)) order.push_back(name);
    groups[name].push_back(&s);
  }
  std::vector<StackedScores> all;
  for (const std::string& name : order) {
    const auto& group = groups[name];
    StackedScores s{name, group[0]->axes, {}, group[0]->values};
    if (in_layer(group[0]->site.name).layer >= 0) {
      s.axes.insert(s.axes.begin(), "layer");
      Shape shape{std::ssize(group)};
      for (int i = 0; i < group[0]->values.rank(); ++i) shape.push_back(group[0]->values.dim(i));
      std::vector<double> values;
      for (const interp::SiteScores* layer : group) {
        const auto x = layer->values.to_vector<double>();
        values.insert(values.end(), x.begin(), x.end());
        s.layers.push_back(in_layer(layer->site.name).layer);
      }
      s.values = Tensor::of(shape, values);
    }
    all.push_back(std::move(s));
  }
  return all;
}

// ---- gradient x activation, attribution patching ------------------------------------------------
std::string AttributionReport::text(const Style& style, int columns) const {
  const interp::AttributionSpec& spec = attribution.spec;
  const bool patching = spec.method == Method::attribution_patching;
  std::string text =
      patching
          ? fmt::format(
                "{}, {}: the base run is {}; scores are what putting {} activations in "
                "would change,\nto first order: sum (a_{} - a_{}) . dm/da.\n",
                style.bold(name_of(spec.method)), name_of(spec.direction), base_of(spec.direction),
                other_of(spec.direction), other_of(spec.direction), base_of(spec.direction))
          : fmt::format(
                "{} of the {} run: scores are what the metric would lose to zeros in "
                "its place,\nto first order: sum a . dm/da.\n",
                style.bold(name_of(spec.method)), base_of(spec.direction));
  text += fmt::format("metric: {}",
                      metric_text(model, pair, interp::metric_name(spec.measure, spec.metric)));
  if (patching || spec.direction == Direction::noise)
    text += ", clean " + metric_number(attribution.clean);
  if (patching || spec.direction == Direction::denoise)
    text += ", corrupt " + metric_number(attribution.corrupt);
  text += "\n" + gauge_text(model, true) + "\n";

  for (const StackedScores& s : stacked(attribution)) {
    if (s.axes.size() != 2 || s.axes[0] != "layer" || s.axes[1] == "feature") continue;
    text += heatmap_text(s.axes, s.values.shape(), s.layers, s.values.to_vector<double>(),
                         titles(model, pair, s.axes[1], s.values.dim(1)), style.bold(s.name), style,
                         columns);
  }

  const auto nodes = interp::strongest(attribution, top);
  if (nodes.empty()) return text + "Every score is 0: the two runs are the same here.\n";
  using Align = Table::Align;
  Table table({{"site", Align::left},
               {"place", Align::left},
               {"token", Align::left},
               {"score", Align::right},
               {"exact", Align::right}});
  for (std::size_t i = 0; i < nodes.size(); ++i) {
    std::string exact = "-";
    if (i < verified.size())
      exact = verified[i].exact ? fmt::format("{:+.3f}", *verified[i].exact) : "none";
    table.row({nodes[i].site.name, interp::to_text(nodes[i].place),
               token_at(model, pair, nodes[i].place.pos), fmt::format("{:+.3f}", nodes[i].score),
               exact});
  }
  text += fmt::format("the {} strongest\n", nodes.size()) + table.text(style);
  if (verified.empty()) return text;
  text += patching ? fmt::format(
                         "exact: the change of the metric when the {} activation is "
                         "really put in ({}, one sweep)\n",
                         other_of(spec.direction), name_of(spec.direction))
                   : std::string("exact: what the metric really loses to zeros (one sweep)\n");
  if (std::any_of(verified.begin(), verified.end(), [](const auto& v) { return !v.exact; }))
    text += fmt::format("none: {}\n", kNotFinite);
  return text;
}

Json AttributionReport::json() const {
  const interp::AttributionSpec& spec = attribution.spec;
  Json json = {{"method", name_of(spec.method)},
               {"direction", name_of(spec.direction)},
               {"metric",
                {{"name", interp::metric_name(spec.measure, spec.metric)},
                 {"clean", attribution.clean},
                 {"corrupt", attribution.corrupt}}},
               {"tokens", tokens_json(pair)},
               {"str_tokens", str_tokens_json(model, pair)}};
  if (spec.method == Method::grad_x_act)  // there is one run
    json["metric"][other_of(spec.direction)] = nullptr;
  json["nodes"] = Json::list();
  const auto nodes = interp::strongest(attribution, top);
  const auto index = [](std::int64_t i) { return i < 0 ? Json() : Json(i); };
  for (std::size_t i = 0; i < nodes.size(); ++i) {
    const interp::Scored& n = nodes[i];
    json["nodes"].push_back({{"site", n.site.name},
                             {"layer", index(in_layer(n.site.name).layer)},
                             {"pos", index(n.place.pos)},
                             {"head", index(n.place.head)},
                             {"feature", index(n.place.feature)},
                             {"score", n.score}});
    Json& node = json["nodes"].back();
    const bool measured = i < verified.size();
    node["exact"] = measured && verified[i].exact ? Json(*verified[i].exact) : Json();
    node["why_not"] = !measured           ? Json("not measured")
                      : verified[i].exact ? Json()
                                          : Json(kNotFinite);
  }
  json["sites"] = Json::list();
  for (const StackedScores& s : stacked(attribution)) {
    json["sites"].push_back({{"name", s.name},
                             {"axes", s.axes},
                             {"layers", s.layers.empty() ? Json() : Json(s.layers)},
                             {"shape", as_list(s.values.shape())}});
  }
  return json;
}

NamedTensors AttributionReport::tensors() const {
  NamedTensors tensors;
  for (const StackedScores& s : stacked(attribution))
    tensors.emplace_back("node/" + s.name, s.values.to(DType::f32));
  const interp::AttributionSpec& spec = attribution.spec;
  const bool both = spec.method == Method::attribution_patching;
  if (both || spec.direction == Direction::noise)
    tensors.emplace_back("metric/clean", Tensor::full({}, DType::f32, attribution.clean));
  if (both || spec.direction == Direction::denoise)
    tensors.emplace_back("metric/corrupt", Tensor::full({}, DType::f32, attribution.corrupt));
  return tensors;
}

AxisNames AttributionReport::axis_names() const {
  AxisNames names;
  for (const StackedScores& s : stacked(attribution)) {
    names.of["node/" + s.name] = s.axes;
    for (const int layer : s.layers)
      names.places["node/" + s.name + ":layer"].push_back(fmt::format("{}", layer));
  }
  if (const nn::Tokenizer* t = tokenizer_of(model))
    names.labels["pos"] = {"token", t->shown_tokens(pair.prompt)};
  return names;
}

// ---- integrated gradients -----------------------------------------------------------------------
std::string IntegratedReport::text(const Style& style, int columns) const {
  const interp::Integrated& ig = integrated;
  std::string text =
      fmt::format("{} of {} in {} steps, {}: from the {} run's value to the {} run's.\n",
                  style.bold("integrated gradients"), style.bold(spec.site.name), spec.steps,
                  name_of(spec.direction), base_of(spec.direction), other_of(spec.direction));
  text += fmt::format("metric: {}, clean {}, corrupt {}\n",
                      metric_text(model, pair, interp::metric_name(spec.measure, spec.metric)),
                      metric_number(ig.clean), metric_number(ig.corrupt));
  text += gauge_text(model, true);
  text += fmt::format(
      "complete: the scores add up to {:.4f}; the metric goes from {:.4f} to {:.4f}, by {:.4f} "
      "(off by {:.2g}%)\n\n",
      ig.sum(), ig.at_base, ig.at_other, ig.at_other - ig.at_base, 100 * ig.completeness_error());
  using Align = Table::Align;
  if (ig.scores.values.rank() == 2) {
    Heatmap map{titles(model, pair, "head", ig.scores.values.dim(1)),
                {},
                ig.scores.values.to_vector<double>()};
    for (std::int64_t p = 0; p < ig.scores.values.dim(0); ++p)
      map.rows.push_back(fmt::format("{} {}", p, token_at(model, pair, p)));
    return text + map.text(style, columns);
  }
  Table table({{"pos", Align::right}, {"token", Align::left}, {"score", Align::right}});
  for (std::int64_t p = 0; p < ig.scores.values.dim(0); ++p) {
    table.row({fmt::format("{}", p), token_at(model, pair, p),
               fmt::format("{:+.3f}", ig.scores.values.at<double>({p}))});
  }
  return text + table.text(style);
}

Json IntegratedReport::json() const {
  const interp::Integrated& ig = integrated;
  return {{"method", "ig"},
          {"direction", name_of(spec.direction)},
          {"metric",
           {{"name", interp::metric_name(spec.measure, spec.metric)},
            {"clean", ig.clean},
            {"corrupt", ig.corrupt}}},
          {"tokens", tokens_json(pair)},
          {"str_tokens", str_tokens_json(model, pair)},
          {"site", spec.site.name},
          {"steps", spec.steps},
          {"axes", ig.scores.axes},
          {"shape", as_list(ig.scores.values.shape())},
          {"values", nested(ig.scores.values)},
          {"at_base", ig.at_base},
          {"at_other", ig.at_other},
          {"sum", ig.sum()},
          {"completeness_error", ig.completeness_error()}};
}

AxisNames IntegratedReport::axis_names() const {
  AxisNames names{.of = {{"ig/" + spec.site.name, integrated.scores.axes}, {"ig/target", {"at"}}}};
  names.places["at"] = {"base", "other"};
  if (const nn::Tokenizer* t = tokenizer_of(model))
    names.labels["pos"] = {"token", t->shown_tokens(pair.prompt)};
  return names;
}

NamedTensors IntegratedReport::tensors() const {
  const interp::Integrated& ig = integrated;
  return {
      {"ig/" + spec.site.name, ig.scores.values.to(DType::f32)},
      {"ig/target", Tensor::of({2}, std::vector<double>{ig.at_base, ig.at_other}).to(DType::f32)},
      {"metric/clean", Tensor::full({}, DType::f32, ig.clean)},
      {"metric/corrupt", Tensor::full({}, DType::f32, ig.corrupt)}};
}

}  // namespace vitrine::app
