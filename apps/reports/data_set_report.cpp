#include "apps/reports/data_set_report.h"

#include <fmt/format.h>

#include <cmath>
#include <map>

#include "apps/options/options.h"
#include "apps/reports/patch_report.h"

namespace vitrine::app {

interp::Statistic statistic_of(const Quantity& quantity, const interp::PromptGroup& group) {
  std::vector<double> values;
  values.reserve(group.members.size());
  for (const std::size_t i : group.members) values.push_back(quantity.values[i]);
  return interp::statistic(values);
}

std::string group_heading(std::string_view field, const interp::PromptGroup& group,
                          std::string_view of, const Style& style) {
  return style.bold(fmt::format("{} {}", field, visible(group.name))) +
         fmt::format(", {} {}{}", group.members.size(), of, group.members.size() == 1 ? "" : "s");
}

std::string at_positions_text(std::span<const interp::Position> positions) {
  std::string text;
  for (const interp::Position& p : positions)
    text += fmt::format("{}{}", text.empty() ? " at pos " : ", ", visible(p.text()));
  return text;
}
Json position_json(const interp::Position& p) {
  return p.role.empty() ? Json(p.index) : Json(p.role);
}
Json positions_json(std::span<const interp::Position> positions) {
  if (positions.empty()) return {};
  Json list = Json::list();
  for (const interp::Position& p : positions) list.push_back(position_json(p));
  return list;
}

std::string number_of_size(double x, int digits) {
  constexpr double kRounding = 1e-9;
  const bool vanishes = std::abs(x) < 0.5 * std::pow(10, -digits) && std::abs(x) > kRounding;
  return vanishes ? fmt::format("{:.1e}", x) : fmt::format("{:.{}f}", x, digits);
}

std::string mean_text(const interp::Statistic& s, bool is_fraction, int digits) {
  if (s.count == 0) return "-";
  const auto number = [&](double x) {
    return is_fraction ? fmt::format("{:.1f}%", 100 * x) : number_of_size(x, digits);
  };
  return s.count == 1 ? number(s.mean)
                      : fmt::format("{} ± {}", number(s.mean), number(s.standard_error));
}

Json statistic_json(const interp::Statistic& s) {
  return {{"mean", s.count > 0 ? Json(s.mean) : Json()},
          {"standard_error", s.count > 1 ? Json(s.standard_error) : Json()},
          {"count", s.count}};
}

Json statistics_json(const interp::Statistics& s) {
  return {{"mean", nested(s.mean)},
          {"standard_error", nested(s.standard_error)},
          {"count", nested(s.count.to(DType::i64))}};
}

Json example_json(const nn::Model& model, const interp::Example& example) {
  const nn::Tokenizer* t = tokenizer_of(model);
  return {{"line", example.line},
          {"tokens", example.prompt},
          {"str_tokens", t == nullptr ? Json() : Json(t->shown_tokens(example.prompt))}};
}

std::string prompts_text(std::span<const interp::Example> examples) {
  std::map<std::size_t, int> count;
  for (const interp::Example& e : examples) ++count[e.prompt.size()];
  std::string text = fmt::format("{} prompt{}", examples.size(), examples.size() == 1 ? "" : "s");
  const char* between = ": ";
  for (const auto& [length, n] : count) {
    if (count.size() == 1) return text + fmt::format(" of {} tokens", length);
    text += fmt::format("{}{} of {}{}", between, n, length, between[0] == ':' ? " tokens" : "");
    between = ", ";
  }
  return text;
}

interp::PromptGroup GroupReport::all() const {
  interp::PromptGroup all{"all", {}};
  for (const interp::PromptGroup& g : groups)
    all.members.insert(all.members.end(), g.members.begin(), g.members.end());
  return all;
}

std::string GroupReport::text(const Style& style) const {
  using Align = Table::Align;
  std::vector<Table::Column> columns = {{field, Align::left}, {"prompts", Align::right}};
  for (const Quantity& q : quantities) columns.push_back({q.name, Align::right});
  Table table(columns);
  const auto add = [&](const interp::PromptGroup& group, const std::string& name) {
    std::vector<std::string> cells = {name, fmt::format("{}", group.members.size())};
    for (const Quantity& q : quantities)
      cells.push_back(mean_text(statistic_of(q, group), q.is_fraction));
    table.row(std::move(cells));
  };
  if (!field.empty()) {
    for (const interp::PromptGroup& g : groups) add(g, visible(g.name));
  }
  if (field.empty() || groups.size() > 1) add(all(), "all");
  return table.text(style);
}

Json GroupReport::json() const {
  const auto entry = [&](Json json, const interp::PromptGroup& group) {
    json["prompts"] = group.members.size();
    for (const Quantity& q : quantities) json[q.name] = statistic_json(statistic_of(q, group));
    return json;
  };
  Json json = {{"all", entry(Json::object(), all())},
               {"group_by", field.empty() ? Json() : Json(field)},
               {"groups", Json::list()}};
  if (field.empty()) return json;
  for (const interp::PromptGroup& g : groups) {
    Json named = Json::object();
    named["name"] = g.name;
    json["groups"].push_back(entry(named, g));
  }
  return json;
}

}  // namespace vitrine::app
