#include "apps/reports/ablation_report.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "apps/options/options.h"
#include "apps/reports/data_set_report.h"
#include "apps/reports/patch_report.h"

namespace vitrine::app {
namespace {

using AblationAlign = Table::Align;

std::vector<double> of_members(std::span<const double> values, const interp::PromptGroup& group) {
  std::vector<double> some;
  some.reserve(group.members.size());
  for (const std::size_t i : group.members) some.push_back(values[i]);
  return some;
}

std::vector<double> less(std::span<const double> a, std::span<const double> b) {
  std::vector<double> difference(a.begin(), a.end());
  for (std::size_t i = 0; i < difference.size(); ++i) difference[i] -= b[i];
  return difference;
}

double mean_over(std::span<const double> values) { return interp::statistic(values).mean; }

// What part of the clean metric is left; NaN where that is 0 but for rounding, as KL is.
double fraction_left(std::span<const double> clean, std::span<const double> metric) {
  constexpr double kRounding = 1e-9;
  const double whole = mean_over(clean);
  return std::abs(whole) < kRounding ? std::nan("") : mean_over(metric) / whole;
}
std::string fraction_text(std::span<const double> clean, std::span<const double> metric) {
  const double x = fraction_left(clean, metric);
  return std::isnan(x) ? "-" : fmt::format("{:.1f}%", 100 * x);
}

// The places of the largest absolute numbers, of equal ones the first first.
std::vector<std::size_t> by_size(const std::vector<double>& values, int most) {
  std::vector<std::size_t> order(values.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
    return std::abs(values[a]) > std::abs(values[b]);
  });
  if (std::ssize(order) > most) order.resize(static_cast<std::size_t>(most));
  return order;
}

Tensor scalar_tensor(double x) { return Tensor::full({}, DType::f32, x); }

// How far numbers are from their mean, as a rule: the sample's standard deviation.
double deviation(std::span<const double> values) {
  const interp::Statistic s = interp::statistic(values);
  return s.standard_error * std::sqrt(static_cast<double>(s.count));
}

std::string set_text(std::string_view action) {
  if (action == "zero") return "set to zero";
  return action == "mean" ? "set to their means over all positions of all prompts"
                          : "given the values of another prompt";
}

}  // namespace

// ---- what they have in common -------------------------------------------------------------------
std::string AblationSetting::unit_title() const { return of.substr(0, of.size() - 1); }

std::string AblationSetting::number(std::span<const double> values, bool change) const {
  const interp::Statistic s = interp::statistic(values);
  const std::string text = mean_text(s, is_fraction());
  return change && s.mean >= 0 ? "+" + text : text;
}

std::string AblationSetting::plain(double x) const {
  return is_fraction() ? fmt::format("{:.1f}%", 100 * x) : number_of_size(x);
}

std::string AblationSetting::heading(std::span<const double> clean, const std::string& what) const {
  const char* sites = of == "heads"    ? "z of heads"
                      : of == "mlps"   ? "mlp_out"
                      : of == "layers" ? "attn_out and mlp_out of layers"
                                       : "features";
  return prompts_text(examples) + "\n" +
         fmt::format("{} is {} with nothing ablated\n{} {}{}, {}\n\n", visible(spec.metric.text),
                     number(clean), sites, set_text(name_of(spec.action)),
                     at_positions_text(spec.positions), what);
}

std::string AblationSetting::group_title(const interp::PromptGroup& group,
                                         std::span<const double> clean, const Style& style) const {
  return group_heading(field, group, "prompt", style) +
         fmt::format(", clean {}\n", number(of_members(clean, group)));
}

std::string AblationSetting::tables(
    std::span<const double> clean, const Style& style,
    const std::function<std::string(const interp::PromptGroup& group)>& table) const {
  std::string text;
  const interp::PromptGroup all = interp::all_prompts(examples.size());
  if (field.empty()) return table(all);
  for (const interp::PromptGroup& g : groups)
    text += (text.empty() ? "" : "\n") + group_title(g, clean, style) + table(g);
  if (groups.size() > 1) text += "\n" + style.bold("all") + "\n" + table(all);
  return text;
}

void AblationSetting::add_groups(
    Json& json, std::span<const double> clean,
    const std::function<void(Json&, const interp::PromptGroup&)>& of_group) const {
  json["group_by"] = field.empty() ? Json() : Json(field);
  json["groups"] = Json::list();
  if (field.empty()) return;
  for (const interp::PromptGroup& g : groups) {
    Json group = {{"name", g.name},
                  {"prompts", g.members.size()},
                  {"clean", statistic_json(interp::statistic(of_members(clean, g)))}};
    of_group(group, g);
    json["groups"].push_back(std::move(group));
  }
}

Json AblationSetting::unit_json(std::size_t unit) const {
  const interp::AblationUnit& u = units[unit];
  Json json = {{"unit", u.name}};
  if (u.layer >= 0) json["layer"] = u.layer;
  if (u.index >= 0) json[unit_title()] = u.index;
  if (of == "features") json["site"] = u.places[0].site.name;
  return json;
}

void AblationSetting::add_to(Json& json, std::span<const double> clean,
                             std::span<const double> metric) const {
  json["metric"] = statistic_json(interp::statistic(metric));
  json["change"] = statistic_json(interp::statistic(less(metric, clean)));
  const double fraction = fraction_left(clean, metric);
  json["fraction"] = std::isnan(fraction) ? Json() : Json(fraction);
}

Json AblationSetting::json(const std::string& sets, std::span<const double> clean, int runs,
                           int passes) const {
  return {
      {"of", of},
      {"sets", sets},
      {"action", name_of(spec.action)},
      {"metric", {{"name", spec.metric.text}, {"clean", statistic_json(interp::statistic(clean))}}},
      {"runs", runs},
      {"passes", passes},
      {"pos", positions_json(spec.positions)}};
}

std::vector<std::string> AblationSetting::axes() const {
  if (of == "heads") return {"layer", "head"};
  return {of == "features" ? "feature" : "layer"};
}

Tensor AblationSetting::tensor(const std::vector<double>& values,
                               std::vector<std::int64_t> lead) const {
  Shape shape;
  for (const std::int64_t n : lead) shape.push_back(n);
  const auto count = std::ssize(units);
  if (of == "heads") {
    shape.push_back(count / model.config().heads);
    shape.push_back(model.config().heads);
  } else {
    shape.push_back(count);
  }
  return Tensor::of(shape, values).to(DType::f32);
}

AxisNames AblationSetting::axis_names(bool by_unit) const {
  AxisNames names;
  std::vector<std::string> texts;
  for (const interp::AblationUnit& u : units) {
    texts.push_back(u.name);
    if (of == "features") names.places["feature"].push_back(fmt::format("{}", u.index));
  }
  if (by_unit) names.places["unit"] = texts;
  else if (of == "features") names.labels["feature"] = {"name", texts};
  return names;
}

std::string AblationSetting::each_text(const std::vector<std::string>& titles,
                                       std::span<const double> clean,
                                       const std::vector<std::vector<double>>& runs,
                                       const Style& style) const {
  std::vector<Table::Column> columns = {{"line", AblationAlign::right},
                                        {"prompt", AblationAlign::left},
                                        {"clean", AblationAlign::right}};
  for (const std::string& title : titles) columns.push_back({title, AblationAlign::right});
  Table table(columns);
  for (std::size_t p = 0; p < examples.size(); ++p) {
    std::vector<std::string> row = {fmt::format("{}", examples[p].line),
                                    one_line(tokenizer_of(model), examples[p].prompt),
                                    fmt::format("{:.3f}", clean[p])};
    for (const std::vector<double>& run : runs) row.push_back(fmt::format("{:.3f}", run[p]));
    table.row(std::move(row));
  }
  return table.text(style);
}

// ---- alone --------------------------------------------------------------------------------------
std::string AblatedEachReport::table(const interp::PromptGroup& group, const Style& style) const {
  const AblationSetting& s = setting;
  Table table({{s.unit_title(), AblationAlign::left},
               {visible(s.spec.metric.text), AblationAlign::right},
               {"change", AblationAlign::right},
               {"of clean", AblationAlign::right}});
  std::vector<double> changes;
  for (std::size_t u = 0; u < s.units.size(); ++u)
    changes.push_back(mean_over(of_members(found.change(u), group)));
  const auto clean = of_members(found.clean, group);
  for (const std::size_t u : by_size(changes, s.top)) {
    const auto metric = of_members(found.of(u), group);
    table.row({s.units[u].name, s.number(metric), s.number(less(metric, clean), true),
               fraction_text(clean, metric)});
  }
  return table.text(style);
}

std::string AblatedEachReport::text(const Style& style) const {
  const AblationSetting& s = setting;
  std::string text = s.heading(found.clean, "one at a time");
  text += s.tables(found.clean, style, [&](const auto& group) { return table(group, style); });
  if (static_cast<std::size_t>(s.top) < s.units.size())
    text += style.dim(fmt::format("the strongest {} of {} {}\n", s.top, s.units.size(), s.of));
  if (!s.each) return text;
  constexpr int kColumns = 8;
  std::vector<double> changes;
  for (std::size_t u = 0; u < s.units.size(); ++u) changes.push_back(mean_over(found.change(u)));
  std::vector<std::string> titles;
  std::vector<std::vector<double>> runs;
  for (const std::size_t u : by_size(changes, std::min(kColumns, s.top))) {
    titles.push_back(s.units[u].name);
    runs.push_back(found.of(u));
  }
  return text + "\n" + s.each_text(titles, found.clean, runs, style);
}

Json AblatedEachReport::json() const {
  const AblationSetting& s = setting;
  Json json = s.json("single", found.clean, found.runs, found.passes);
  json["units"] = Json::list();
  for (std::size_t u = 0; u < s.units.size(); ++u) {
    Json unit = s.unit_json(u);
    s.add_to(unit, found.clean, found.of(u));
    json["units"].push_back(std::move(unit));
  }
  s.add_groups(json, found.clean, [&](Json& group, const interp::PromptGroup& g) {
    group["units"] = Json::list();
    for (std::size_t u = 0; u < s.units.size(); ++u) {
      Json unit = s.unit_json(u);
      s.add_to(unit, of_members(found.clean, g), of_members(found.of(u), g));
      group["units"].push_back(std::move(unit));
    }
  });
  json["prompts"] = Json::list();
  for (std::size_t p = 0; p < s.examples.size(); ++p) {
    Json prompt = example_json(s.model, s.examples[p]);
    prompt["clean"] = found.clean[p];
    prompt["metric"] = nested(found.metric.select(1, static_cast<std::int64_t>(p)).contiguous());
    json["prompts"].push_back(std::move(prompt));
  }
  return json;
}

NamedTensors AblatedEachReport::tensors() const {
  const AblationSetting& s = setting;
  NamedTensors tensors;
  const auto add = [&](const std::string& prefix, const interp::PromptGroup& group) {
    std::vector<double> effect, error, metric;
    for (std::size_t u = 0; u < s.units.size(); ++u) {
      const interp::Statistic change = interp::statistic(of_members(found.change(u), group));
      effect.push_back(change.mean);
      error.push_back(change.standard_error);
      metric.push_back(mean_over(of_members(found.of(u), group)));
    }
    tensors.emplace_back(prefix + "effect", s.tensor(effect));
    tensors.emplace_back(prefix + "effect/standard_error", s.tensor(error));
    tensors.emplace_back(prefix + "metric", s.tensor(metric));
    tensors.emplace_back(prefix + "metric/clean",
                         scalar_tensor(mean_over(of_members(found.clean, group))));
  };
  const interp::PromptGroup all = interp::all_prompts(s.examples.size());
  add("", all);
  if (!s.field.empty()) {
    for (const interp::PromptGroup& g : s.groups) add("group/" + g.name + "/", g);
  }
  std::vector<double> each;
  for (std::size_t p = 0; p < s.examples.size(); ++p) {
    for (std::size_t u = 0; u < s.units.size(); ++u) each.push_back(found.change(u)[p]);
  }
  tensors.emplace_back("effect/each", s.tensor(each, {std::ssize(s.examples)}));
  return tensors;
}

AxisNames AblatedEachReport::axis_names() const {
  AxisNames names = setting.axis_names(false);
  for (const auto& [name, values] : tensors()) {
    if (values.rank() == 0) continue;
    names.of[name] = setting.axes();
    if (name == "effect/each") names.of[name].insert(names.of[name].begin(), "prompt");
  }
  return names;
}

// ---- in pairs -----------------------------------------------------------------------------------
std::string AblatedPairsReport::table(const interp::PromptGroup& group, const Style& style) const {
  const AblationSetting& s = setting;
  Table table({{s.of, AblationAlign::left},
               {visible(s.spec.metric.text), AblationAlign::right},
               {"change", AblationAlign::right},
               {"of clean", AblationAlign::right},
               {"change of each", AblationAlign::right},
               {"interaction", AblationAlign::right}});
  const auto clean = of_members(found.alone.clean, group);
  const auto alone = [&](std::size_t unit) {
    return s.plain(mean_over(of_members(found.alone.change(unit), group)));
  };
  std::vector<double> interactions;
  for (std::size_t i = 0; i < found.pairs.size(); ++i)
    interactions.push_back(mean_over(of_members(found.interaction(i), group)));
  for (const std::size_t i : by_size(interactions, s.top)) {
    const auto [a, b] = found.pairs[i];
    const auto both = of_members(found.together.of(i), group);
    table.row({fmt::format("{} + {}", s.units[a].name, s.units[b].name), s.number(both),
               s.number(less(both, clean), true), fraction_text(clean, both),
               fmt::format("{}, {}", alone(a), alone(b)),
               s.number(of_members(found.interaction(i), group), true)});
  }
  return table.text(style);
}

std::string AblatedPairsReport::text(const Style& style) const {
  const AblationSetting& s = setting;
  std::string text = s.heading(found.alone.clean, "two at a time");
  text +=
      s.tables(found.alone.clean, style, [&](const auto& group) { return table(group, style); });
  if (static_cast<std::size_t>(s.top) < found.pairs.size())
    text += style.dim(fmt::format("the {} of {} pairs with the largest interaction\n", s.top,
                                  found.pairs.size()));
  return text + style.dim("interaction: the change of both less the changes of each alone\n");
}

void AblatedPairsReport::add_units_and_pairs(Json& json, const interp::PromptGroup& group) const {
  const AblationSetting& s = setting;
  const auto clean = of_members(found.alone.clean, group);
  json["units"] = Json::list();
  for (std::size_t u = 0; u < s.units.size(); ++u) {
    Json unit = s.unit_json(u);
    s.add_to(unit, clean, of_members(found.alone.of(u), group));
    json["units"].push_back(std::move(unit));
  }
  json["pairs"] = Json::list();
  for (std::size_t i = 0; i < found.pairs.size(); ++i) {
    const auto [a, b] = found.pairs[i];
    Json pair = {{"units", Json::list()}};
    pair["units"].push_back(s.units[a].name);
    pair["units"].push_back(s.units[b].name);
    s.add_to(pair, clean, of_members(found.together.of(i), group));
    pair["interaction"] =
        statistic_json(interp::statistic(of_members(found.interaction(i), group)));
    json["pairs"].push_back(std::move(pair));
  }
}

Json AblatedPairsReport::json() const {
  const AblationSetting& s = setting;
  Json json = s.json("pairs", found.alone.clean, found.alone.runs, found.alone.passes);
  add_units_and_pairs(json, interp::all_prompts(s.examples.size()));
  s.add_groups(json, found.alone.clean,
               [&](Json& group, const interp::PromptGroup& g) { add_units_and_pairs(group, g); });
  return json;
}

NamedTensors AblatedPairsReport::tensors() const {
  NamedTensors tensors;
  const auto n = std::ssize(setting.units);
  const auto add = [&](const std::string& prefix, const interp::PromptGroup& group) {
    const auto none = [&] { return Tensor::full({n, n}, DType::f64, std::nan("")); };
    // Means and standard errors, symmetric.
    struct Matrix {
      Tensor mean, error;
      void set(std::size_t a, std::size_t b, const interp::Statistic& s) const {
        for (const auto& [t, x] : {std::pair{&mean, s.mean}, std::pair{&error, s.standard_error}}) {
          const auto i = static_cast<std::int64_t>(a), j = static_cast<std::int64_t>(b);
          t->data<double>()[i * t->dim(0) + j] = t->data<double>()[j * t->dim(0) + i] = x;
        }
      }
    };
    const Matrix effect{none(), none()}, interaction{none(), none()};
    const auto over = [&](const std::vector<double>& values) {
      return interp::statistic(of_members(values, group));
    };
    for (std::size_t u = 0; u < setting.units.size(); ++u)
      effect.set(u, u, over(found.alone.change(u)));
    for (std::size_t i = 0; i < found.pairs.size(); ++i) {
      const auto [a, b] = found.pairs[i];
      effect.set(a, b, over(found.together.change(i)));
      interaction.set(a, b, over(found.interaction(i)));
    }
    tensors.emplace_back(prefix + "effect", effect.mean.to(DType::f32));
    tensors.emplace_back(prefix + "effect/standard_error", effect.error.to(DType::f32));
    tensors.emplace_back(prefix + "interaction", interaction.mean.to(DType::f32));
    tensors.emplace_back(prefix + "interaction/standard_error", interaction.error.to(DType::f32));
    tensors.emplace_back(prefix + "metric/clean",
                         scalar_tensor(mean_over(of_members(found.alone.clean, group))));
  };
  add("", interp::all_prompts(setting.examples.size()));
  if (setting.field.empty()) return tensors;
  for (const interp::PromptGroup& g : setting.groups) add("group/" + g.name + "/", g);
  return tensors;
}

AxisNames AblatedPairsReport::axis_names() const {
  AxisNames names = setting.axis_names(true);
  names.places["other"] = names.places["unit"];
  for (const auto& [name, values] : tensors()) {
    if (values.rank() == 2) names.of[name] = {"unit", "other"};
  }
  return names;
}

// ---- sets that grow -----------------------------------------------------------------------------
std::vector<double> GrownSetsReport::step(std::size_t s) const {
  return found.metric.select(0, static_cast<std::int64_t>(s)).contiguous().to_vector<double>();
}
std::vector<double> GrownSetsReport::random(std::size_t s, const interp::PromptGroup& group) const {
  std::vector<double> means;
  const Tensor sets = found.random_each.select(0, static_cast<std::int64_t>(s)).contiguous();
  for (std::int64_t r = 0; r < sets.dim(0); ++r)
    means.push_back(
        mean_over(of_members(sets.select(0, r).contiguous().to_vector<double>(), group)));
  return means;
}

std::string GrownSetsReport::table(const interp::PromptGroup& group, const Style& style) const {
  const AblationSetting& s = setting;
  const bool random_too = found.random.dim(1) > 0;
  std::vector<Table::Column> columns = {{"", AblationAlign::right},
                                        {s.unit_title(), AblationAlign::left},
                                        {visible(s.spec.metric.text), AblationAlign::right},
                                        {"change", AblationAlign::right},
                                        {"of clean", AblationAlign::right}};
  if (random_too)
    columns.push_back({fmt::format("{} random sets", found.random.dim(1)), AblationAlign::right});
  Table table(columns);
  const auto clean = of_members(found.clean, group);
  const auto row = [&](const std::string& number, const std::string& name,
                       const std::vector<double>& of_prompts, const std::string& random) {
    const auto metric = of_members(of_prompts, group);
    std::vector<std::string> cells = {number, name, s.number(metric),
                                      s.number(less(metric, clean), true),
                                      fraction_text(clean, metric)};
    if (random_too) cells.push_back(random);
    table.row(std::move(cells));
  };
  if (growth == interp::Growth::kept) row("0", "none", found.begin, "");
  for (std::size_t i = 0; i < found.units.size(); ++i) {
    std::string beside;
    if (random_too) {
      const auto values = random(i, group);
      const double spread = deviation(values);
      beside = s.plain(mean_over(values));
      if (!std::isnan(spread)) beside += fmt::format(" (sd {})", s.plain(spread));
    }
    row(fmt::format("{}", i + 1), "+ " + s.units[found.units[i]].name, step(i), beside);
  }
  return table.text(style);
}

std::string GrownSetsReport::text(const Style& style) const {
  const AblationSetting& s = setting;
  const bool kept = growth == interp::Growth::kept;
  std::string text =
      s.heading(found.clean, kept ? "but for a set that grows by the one that restores most"
                                  : "a set that grows by the one that changes most");
  text += s.tables(found.clean, style, [&](const auto& group) { return table(group, style); });
  text += style.dim(fmt::format(
      "each line {} those above it, too{}\n", kept ? "keeps" : "ablates",
      found.random.dim(1) > 0 ? "; random sets of as many: mean and standard deviation" : ""));
  if (!s.field.empty() && s.groups.size() > 1)
    text += style.dim("the sets are those of all prompts; each group: what they do to it\n");
  if (!s.each) return text;
  std::vector<std::string> titles;
  std::vector<std::vector<double>> runs;
  for (std::size_t i = 0; i < found.units.size(); ++i) {
    titles.push_back("+ " + s.units[found.units[i]].name);
    runs.push_back(step(i));
  }
  return text + "\n" + s.each_text(titles, found.clean, runs, style);
}

void GrownSetsReport::add_steps(Json& json, const interp::PromptGroup& group) const {
  const AblationSetting& s = setting;
  const auto clean = of_members(found.clean, group);
  json["begin"] = Json::object();
  s.add_to(json["begin"], clean, of_members(found.begin, group));
  json["steps"] = Json::list();
  std::vector<std::string> set;
  for (std::size_t i = 0; i < found.units.size(); ++i) {
    Json one = s.unit_json(found.units[i]);
    set.push_back(s.units[found.units[i]].name);
    one["set"] = set;
    s.add_to(one, clean, of_members(step(i), group));
    const auto values = random(i, group);
    const double spread = deviation(values);
    one["random"] = {{"mean", values.empty() ? Json() : Json(mean_over(values))},
                     {"deviation", std::isnan(spread) ? Json() : Json(spread)},
                     {"count", values.size()},
                     {"values", values}};
    json["steps"].push_back(std::move(one));
  }
}

Json GrownSetsReport::json() const {
  const AblationSetting& s = setting;
  Json json = s.json("greedy", found.clean, found.runs, found.passes);
  json["grow"] = growth == interp::Growth::kept ? "keep" : "break";
  add_steps(json, interp::all_prompts(s.examples.size()));
  s.add_groups(json, found.clean,
               [&](Json& group, const interp::PromptGroup& g) { add_steps(group, g); });
  json["prompts"] = Json::list();
  for (std::size_t p = 0; p < s.examples.size(); ++p) {
    Json prompt = example_json(s.model, s.examples[p]);
    prompt["clean"] = found.clean[p];
    prompt["begin"] = found.begin[p];
    prompt["metric"] = nested(found.metric.select(1, static_cast<std::int64_t>(p)).contiguous());
    json["prompts"].push_back(std::move(prompt));
  }
  return json;
}

NamedTensors GrownSetsReport::tensors() const {
  NamedTensors tensors;
  const Shape steps{std::ssize(found.units)};
  const auto add = [&](const std::string& prefix, const interp::PromptGroup& group) {
    std::vector<double> metric, error, sets;
    for (std::size_t i = 0; i < found.units.size(); ++i) {
      const interp::Statistic s = interp::statistic(of_members(step(i), group));
      metric.push_back(s.mean);
      error.push_back(s.standard_error);
      const auto values = random(i, group);
      sets.insert(sets.end(), values.begin(), values.end());
    }
    tensors.emplace_back(prefix + "greedy/metric", Tensor::of(steps, metric).to(DType::f32));
    tensors.emplace_back(prefix + "greedy/standard_error", Tensor::of(steps, error).to(DType::f32));
    tensors.emplace_back(prefix + "random/metric",
                         Tensor::of(found.random.shape(), sets).to(DType::f32));
    tensors.emplace_back(prefix + "metric/clean",
                         scalar_tensor(mean_over(of_members(found.clean, group))));
    tensors.emplace_back(prefix + "metric/begin",
                         scalar_tensor(mean_over(of_members(found.begin, group))));
  };
  add("", interp::all_prompts(setting.examples.size()));
  const std::vector<double> units(found.units.begin(), found.units.end());
  tensors.emplace_back("greedy/units", Tensor::of(steps, units).to(DType::i32));
  if (setting.field.empty()) return tensors;
  for (const interp::PromptGroup& g : setting.groups) add("group/" + g.name + "/", g);
  return tensors;
}

AxisNames GrownSetsReport::axis_names() const {
  AxisNames names;
  for (const auto& [name, values] : tensors()) {
    if (values.rank() == 1) names.of[name] = {"step"};
    if (values.rank() == 2) names.of[name] = {"step", "set"};
  }
  std::vector<std::string> texts;
  for (const std::size_t u : found.units) texts.push_back(setting.units[u].name);
  names.labels["step"] = {setting.unit_title(), texts};
  return names;
}

}  // namespace vitrine::app
