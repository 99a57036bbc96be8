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

std::vector<interp::Attribution> of_group(const std::vector<interp::Attribution>& each,
                                          const interp::PromptGroup& group) {
  std::vector<interp::Attribution> some;
  for (const std::size_t i : group.members) some.push_back(each[i]);
  return some;
}

interp::Statistic metric_over(const std::vector<interp::Attribution>& each, bool clean) {
  std::vector<double> values;
  for (const interp::Attribution& a : each) values.push_back(clean ? a.clean : a.corrupt);
  return interp::statistic(values);
}

Json place_index(std::int64_t i) { return i < 0 ? Json() : Json(i); }

}  // namespace

std::optional<interp::Statistic> PairsAttributionReport::exact(
    const interp::ScoredOver& node, const interp::PromptGroup& group) const {
  for (const interp::VerifiedOver& v : verified) {
    if (!(v.node.site == node.site) || !(v.node.place == node.place)) continue;
    std::vector<double> known;
    for (const std::size_t i : group.members) {
      if (v.each[i]) known.push_back(*v.each[i]);
    }
    return interp::statistic(known);
  }
  return std::nullopt;
}

std::string PairsAttributionReport::position_text(std::int64_t place) const {
  return positions.empty() ? fmt::format("{}", place)
                           : positions.at(static_cast<std::size_t>(place)).text();
}

std::string PairsAttributionReport::alignment() const {
  const bool by_position =
      std::any_of(each[0].sites.begin(), each[0].sites.end(),
                  [](const auto& s) { return !s.axes.empty() && s.axes[0] == "pos"; });
  const bool differ = std::any_of(examples.begin(), examples.end(), [&](const auto& e) {
    return e.prompt.size() != examples[0].prompt.size();
  });
  if (!by_position || !differ || !positions.empty()) return "";
  return "the pairs differ in length: positions are counted from the first token, and are means "
         "over "
         "the\npairs that have them; --pos ROLE,...|-1 lines pairs up by roles or from the end\n";
}

// "" where every score is 0.
std::string PairsAttributionReport::nodes_table(const interp::PromptGroup& group,
                                                const Style& style) const {
  const auto members = of_group(each, group);
  const auto nodes = interp::strongest(std::span(members), top);
  if (nodes.empty()) return "";
  using Align = Table::Align;
  Table table({{"site", Align::left},
               {"place", Align::left},
               {"score", Align::right},
               {"exact", Align::right},
               {"pairs", Align::right}});
  for (const interp::ScoredOver& n : nodes) {
    const auto measured = exact(n, group);
    std::string place = interp::to_text(n.place);
    if (n.place.pos >= 0 && !positions.empty()) {
      interp::SitePlace inside = n.place;
      inside.pos = -1;
      const std::string rest = interp::to_text(inside);
      place = fmt::format("pos {}{}{}", position_text(n.place.pos), rest.empty() ? "" : ", ", rest);
    }
    table.row({n.site.name, place, mean_text(n.score), measured ? mean_text(*measured) : "-",
               fmt::format("{}", n.score.count)});
  }
  return fmt::format("the {} with the largest mean |score|\n", nodes.size()) + table.text(style);
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
                      interp::metric_name(spec.measure, spec.metric),
                      mean_text(metric_over(each, true)), mean_text(metric_over(each, false)));
  text += gauge_text(model, true) + alignment() + "\n";
  for (const StackedOver& s : stacked_over(each)) {
    const auto& axes = s.first.axes;
    if (axes.size() != 2 || axes[0] != "layer" || axes[1] == "feature") continue;
    Heatmap::Titles numbers{axes[1], {}};
    for (std::int64_t i = 0; i < s.found.mean.dim(1); ++i)
      numbers.columns.push_back(axes[1] == "pos" ? position_text(i) : fmt::format("{}", i));
    text +=
        heatmap_text(axes, s.found.mean.shape(), s.first.layers, s.found.mean.to_vector<double>(),
                     {numbers}, style.bold(s.first.name), style, columns);
  }
  const std::string table = nodes_table(interp::all_prompts(each.size()), style);
  if (table.empty()) return text + "Every score is 0: the two runs are the same here.\n";
  text += table;
  if (!verified.empty())
    text += patching
                ? "exact: the mean change of the metric when the other activation is really put "
                  "in\n"
                : "exact: what the metric really loses to zeros\n";
  for (const interp::PromptGroup& g : groups) {
    const auto members = of_group(each, g);
    const std::string of_members = nodes_table(g, style);
    text +=
        fmt::format("\n{}, clean {}, corrupt {}\n", group_heading(field, g, "pair", style),
                    mean_text(metric_over(members, true)), mean_text(metric_over(members, false))) +
        (of_members.empty() ? "Every score is 0.\n" : of_members);
  }
  if (!groups.empty() && !verified.empty())
    text += style.dim("exact: of the places that are the strongest of all pairs\n");
  if (!lines) return text;
  using Align = Table::Align;
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

Json PairsAttributionReport::nodes_json(const interp::PromptGroup& group) const {
  Json list = Json::list();
  const auto members = of_group(each, group);
  for (const interp::ScoredOver& n : interp::strongest(std::span(members), top)) {
    const auto measured = exact(n, group);
    list.push_back({{"site", n.site.name},
                    {"layer", place_index(in_layer(n.site.name).layer)},
                    {"pos", n.place.pos < 0 || positions.empty()
                                ? place_index(n.place.pos)
                                : position_json(positions[static_cast<std::size_t>(n.place.pos)])},
                    {"head", place_index(n.place.head)},
                    {"feature", place_index(n.place.feature)},
                    {"score", statistic_json(n.score)},
                    {"size", statistic_json(n.size)},
                    {"exact", measured ? statistic_json(*measured) : Json()}});
  }
  return list;
}

Json PairsAttributionReport::json() const {
  const interp::AttributionSpec& spec = each[0].spec;
  Json json = {{"method", name_of(spec.method)},
               {"direction", name_of(spec.direction)},
               {"metric",
                {{"name", interp::metric_name(spec.measure, spec.metric)},
                 {"clean", statistic_json(metric_over(each, true))},
                 {"corrupt", statistic_json(metric_over(each, false))}}}};
  json["pos"] = positions_json(positions);
  json["nodes"] = nodes_json(interp::all_prompts(each.size()));
  json["sites"] = Json::list();
  for (const StackedOver& s : stacked_over(each))
    json["sites"].push_back({{"name", s.first.name},
                             {"axes", s.first.axes},
                             {"layers", s.first.layers.empty() ? Json() : Json(s.first.layers)},
                             {"shape", as_list(s.found.mean.shape())}});
  json["group_by"] = field.empty() ? Json() : Json(field);
  json["groups"] = Json::list();
  for (const interp::PromptGroup& g : groups) {
    const auto members = of_group(each, g);
    json["groups"].push_back({{"name", g.name},
                              {"pairs", g.members.size()},
                              {"metric",
                               {{"clean", statistic_json(metric_over(members, true))},
                                {"corrupt", statistic_json(metric_over(members, false))}}},
                              {"nodes", nodes_json(g)}});
  }
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
  const auto add = [&](const std::string& prefix, const std::vector<interp::Attribution>& some) {
    for (const StackedOver& s : stacked_over(some)) {
      const std::string name = prefix + "node/" + s.first.name;
      tensors.emplace_back(name, s.found.mean.to(DType::f32));
      tensors.emplace_back(name + "/standard_error", s.found.standard_error.to(DType::f32));
      tensors.emplace_back(name + "/count", s.found.count.to(DType::f32));
    }
    for (const bool clean : {true, false}) {
      tensors.emplace_back(prefix + (clean ? "metric/clean" : "metric/corrupt"),
                           Tensor::full({}, DType::f32, metric_over(some, clean).mean));
    }
  };
  add("", each);
  for (const interp::PromptGroup& g : groups) add("group/" + g.name + "/", of_group(each, g));
  return tensors;
}

AxisNames PairsAttributionReport::axis_names() const {
  AxisNames names;
  std::vector<std::string> prefixes = {""};
  for (const interp::PromptGroup& g : groups) prefixes.push_back("group/" + g.name + "/");
  for (const StackedScores& s : stacked(each[0])) {
    for (const std::string& prefix : prefixes) {
      for (const char* part : {"", "/standard_error", "/count"}) {
        const std::string name = prefix + "node/" + s.name + part;
        names.of[name] = s.axes;
        for (const int layer : s.layers)
          names.places[name + ":layer"].push_back(fmt::format("{}", layer));
      }
    }
  }
  for (std::size_t i = 0; i < positions.size(); ++i)
    names.places["pos"].push_back(position_text(static_cast<std::int64_t>(i)));
  return names;
}

}  // namespace vitrine::app
