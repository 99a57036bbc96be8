// The report of many pairs: means over them, and each on its own.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <cmath>
#include <map>
#include <optional>

#include "apps/reports/data_set_report.h"
#include "apps/reports/patch_report.h"

namespace vitrine::app {
namespace {

using interp::Measure;
using Align = Table::Align;

// ---- for people ---------------------------------------------------------------------------------
std::string metric_of_all(const interp::SweepSpec& spec) {
  const std::string name = metric_name(spec);
  if (name == name_of(Measure::prob)) return "probability of the answer";
  if (name == name_of(Measure::log_prob)) return "log probability of the answer (nats)";
  if (name == name_of(Measure::kl)) return "KL(clean || edited) (nats)";
  if (name == name_of(Measure::logit_diff)) return "logit of the answer - logit of the wrong one";
  return name;
}

// "3 pairs of 5 tokens", "5 pairs: 3 of 5 tokens, 2 of 6".
std::string lengths_text(const std::vector<interp::Example>& pairs) {
  std::map<std::size_t, int> count;
  for (const interp::Example& p : pairs) ++count[p.prompt.size()];
  std::string text = fmt::format("{} pair{}", pairs.size(), pairs.size() == 1 ? "" : "s");
  const char* between = ": ";
  for (const auto& [length, n] : count) {
    if (count.size() == 1) return text + fmt::format(" of {} tokens", length);
    text += fmt::format("{}{} of {}", between, n, length);
    if (between[0] == ':') text += " tokens";
    between = ", ";
  }
  return text;
}

std::string how_it_was_done(const PairsReport& r, const Style& style) {
  const interp::SweepSummary& s = r.summary;
  std::string text = fmt::format(
      "{} by {}, {}: the base runs are {}; {}.\n", style.bold(r.spec.site), name_of(r.spec.by),
      name_of(r.spec.direction), base_name(r.spec), put_in(r.spec, true));
  text += narrowed_text(r.spec);
  text += gauge_text(r.model, r.spec.replacement != interp::Replacement::patch);
  text += lengths_text(r.pairs) + "\n";
  text += fmt::format("metric: {}, mean clean {}, mean corrupt {}{}\n", metric_of_all(r.spec),
                      metric_number(s.clean), metric_number(s.corrupt), ends_text(r.ends));
  return text + runs_text(s.runs, s.passes, s.without_effect) + "\n";
}

// The positions of a pair at a place along the first axis after the layers; none where it has no
// such place.
std::optional<interp::Span> span_in(const PairsReport& r, const interp::Example& pair,
                                    std::int64_t at) {
  const interp::Span span = positions_at(pair, r.summary.labels, 1, at);
  return span.end <= std::ssize(pair.prompt) ? std::optional(span) : std::nullopt;
}

// The text that all prompts of all pairs have at a place, if there is one.
std::optional<std::string> text_of_all(const PairsReport& r, std::int64_t at) {
  std::optional<std::string> text;
  for (const interp::Example& p : r.pairs) {
    const auto span = span_in(r, p, at);
    if (!span) continue;
    for (const nn::Tokens* tokens : {&p.prompt, &p.corrupt}) {
      const std::string here = span_label(r.model, *tokens, *span);
      if (text.value_or(here) != here) return std::nullopt;
      text = here;
    }
  }
  return text;
}

// The places along the first axis after the layers. Positions with the tokens that all have there,
// and, where lengths differ, with the number of pairs that reach so far.
std::vector<Heatmap::Titles> titles(const PairsReport& r) {
  const std::string& axis = r.summary.axes[1];
  Heatmap::Titles numbers{axis, {}}, tokens{"in all", {}}, count{"pairs", {}};
  bool shared = false, differ = false;
  for (std::int64_t i = 0; i < r.summary.mean.dim(1); ++i) {
    numbers.columns.push_back(place_text(r.summary.labels, 1, i));
    if (!is_position(axis)) continue;
    const auto text = text_of_all(r, i);
    shared |= text.has_value();
    tokens.columns.push_back(text.value_or(""));
    std::size_t with = 0;
    for (const interp::Example& p : r.pairs) with += span_in(r, p, i) ? 1 : 0;
    differ |= with < r.pairs.size();
    count.columns.push_back(fmt::format("{}", with));
  }
  std::vector<Heatmap::Titles> lines = {numbers};
  if (shared) lines.push_back(tokens);
  if (differ) lines.push_back(count);
  return lines;
}

std::string strongest_table(const interp::SweepSummary& s, const std::string& heading, int most,
                            const Style& style) {
  const auto entries = strongest(s.mean.to_vector<double>(), s.mean.shape(), s.layers, most);
  if (entries.empty()) return "No edit changes the mean of the metric.\n";
  std::vector<Table::Column> columns;
  for (const std::string& axis : s.axes) columns.push_back({axis, Align::right});
  for (const char* title : {"mean change", "standard error", "pairs"})
    columns.push_back({title, Align::right});
  Table table(columns);
  const auto error = s.standard_error.to_vector<double>(), count = s.count.to_vector<double>();
  for (const Strong& e : entries) {
    std::vector<std::string> cells;
    for (std::size_t a = 0; a < e.place.size(); ++a)
      cells.push_back(place_text(s.labels, a, e.place[a]));
    cells.push_back(fmt::format("{:+.3f}", e.change));
    const double deviation = error[e.index];
    cells.push_back(std::isnan(deviation) ? "-" : metric_number(deviation));
    cells.push_back(fmt::format("{}", count[e.index]));
    table.row(std::move(cells));
  }
  return heading + table.text(style);
}

// The means, their errors and counts, and the strongest places: of all pairs, and of a group.
void add_means(Json& json, const interp::SweepSummary& s) {
  json["shape"] = as_list(s.mean.shape());
  json["mean"] = app::nested(s.mean);
  json["standard_error"] = app::nested(s.standard_error);
  json["count"] = app::nested(s.count.to(DType::i64));
}
Json strongest_json(const interp::SweepSummary& s, int most) {
  Json list = Json::list();
  const auto error = s.standard_error.to_vector<double>(), count = s.count.to_vector<double>(),
             metric = s.metric.to_vector<double>();
  for (const Strong& e : strongest(s.mean.to_vector<double>(), s.mean.shape(), s.layers, most)) {
    Json entry;
    for (std::size_t a = 0; a < e.place.size(); ++a)
      entry[s.axes[a]] = place_json(s.labels, a, e.place[a]);
    entry["metric"] = metric[e.index];
    entry["change"] = e.change;
    entry["standard_error"] = std::isnan(error[e.index]) ? Json() : Json(error[e.index]);
    entry["count"] = static_cast<std::int64_t>(count[e.index]);
    list.push_back(std::move(entry));
  }
  return list;
}

std::string pairs_table(const PairsReport& r, const Style& style) {
  std::vector<Table::Column> columns = {
      {"line", Align::right}, {"clean", Align::right}, {"corrupt", Align::right}};
  for (const std::string& axis : r.summary.axes) {
    columns.push_back({axis, Align::right});
    if (is_position(axis)) columns.push_back({"token", Align::left});
  }
  columns.push_back({"change", Align::right});
  Table table(columns);
  for (std::size_t p = 0; p < r.pairs.size(); ++p) {
    const interp::PatchSweep& s = r.sweeps[p];
    std::vector<std::string> cells = {fmt::format("{}", r.pairs[p].line), metric_number(s.clean),
                                      metric_number(s.corrupt)};
    const auto first = strongest(changes(s), s.values.shape(), s.layers, 1);
    for (std::size_t a = 0; a < s.axes.size(); ++a) {
      cells.push_back(first.empty() ? "-" : place_text(s.labels, a, first[0].place[a]));
      if (!is_position(s.axes[a])) continue;
      cells.push_back(first.empty()
                          ? "-"
                          : tokens_at(r.model, r.pairs[p],
                                      positions_at(r.pairs[p], s.labels, a, first[0].place[a])));
    }
    cells.push_back(first.empty() ? "-" : fmt::format("{:+.3f}", first[0].change));
    table.row(std::move(cells));
  }
  return "each pair: its metric, and its strongest place\n" + table.text(style);
}

}  // namespace

interp::SweepSummary PairsReport::summary_of(const interp::PromptGroup& group) const {
  std::vector<interp::PatchSweep> members;
  for (const std::size_t i : group.members) members.push_back(sweeps[i]);
  return interp::summarise(members);
}

std::string PairsReport::text(int most, const Style& style, int columns) const {
  const interp::SweepSummary& s = summary;
  std::string text =
      how_it_was_done(*this, style) +
      heatmap_text(s.axes, s.mean.shape(), s.layers, s.mean.to_vector<double>(), titles(*this),
                   "mean change of the metric from the base runs'", style, columns) +
      strongest_table(s, "the strongest, over the pairs that have the place\n", most, style);
  for (const interp::PromptGroup& g : groups) {
    const interp::SweepSummary of_group = summary_of(g);
    text += fmt::format("\n{}, mean clean {}, mean corrupt {}\n",
                        group_heading(field, g, "pair", style), metric_number(of_group.clean),
                        metric_number(of_group.corrupt)) +
            strongest_table(of_group, "", most, style);
  }
  return text + (each ? "\n" + pairs_table(*this, style)
                      : fmt::format("--each lists the {} pairs; --format json has all of each\n",
                                    pairs.size()));
}

// ---- for programs -------------------------------------------------------------------------------
Json PairsReport::json(int most) const {
  const interp::SweepSummary& s = summary;
  Json json = {{"site", spec.site},
               {"by", name_of(spec.by)},
               {"action", name_of(spec.replacement)},
               {"direction", name_of(spec.direction)},
               {"metric", metric_json(spec, s.clean, s.corrupt, ends)},
               {"runs", s.runs},
               {"passes", s.passes},
               {"without_effect", s.without_effect},
               {"axes", s.axes},
               {"layers", s.layers}};
  add_means(json, s);
  add_narrowing(json, spec, s.labels);
  json["pairs"] = Json::list();
  for (std::size_t p = 0; p < pairs.size(); ++p) {
    json["pairs"].push_back(
        {{"line", pairs[p].line},
         {"tokens", tokens_json(pairs[p])},
         {"str_tokens", str_tokens_json(model, pairs[p])},
         {"metric", {{"clean", sweeps[p].clean}, {"corrupt", sweeps[p].corrupt}}},
         {"shape", as_list(sweeps[p].values.shape())},
         {"values", nested(sweeps[p].values)}});
  }
  json["strongest"] = strongest_json(s, most);
  json["group_by"] = field.empty() ? Json() : Json(field);
  json["groups"] = Json::list();
  for (const interp::PromptGroup& g : groups) {
    const interp::SweepSummary of_group = summary_of(g);
    Json group = {{"name", g.name},
                  {"pairs", g.members.size()},
                  {"metric", {{"clean", of_group.clean}, {"corrupt", of_group.corrupt}}}};
    add_means(group, of_group);
    group["strongest"] = strongest_json(of_group, most);
    json["groups"].push_back(std::move(group));
  }
  return json;
}

Json PairsReport::labels() const { return labels_json(summary.labels); }
AxisNames PairsReport::axis_names() const {
  return sweep_axes(summary.axes, summary.layers, summary.labels);
}

NamedTensors PairsReport::tensors() const {
  const auto scalar = [](double x) { return Tensor::full({}, DType::f32, x); };
  NamedTensors tensors;
  const auto add = [&](const std::string& prefix, const interp::SweepSummary& s) {
    tensors.emplace_back(prefix + "sweep", s.metric.to(DType::f32));
    tensors.emplace_back(prefix + "metric/clean", scalar(s.clean));
    tensors.emplace_back(prefix + "metric/corrupt", scalar(s.corrupt));
    tensors.emplace_back(prefix + "sweep/change", s.mean.to(DType::f32));
    tensors.emplace_back(prefix + "sweep/standard_error", s.standard_error.to(DType::f32));
    tensors.emplace_back(prefix + "sweep/count", s.count.to(DType::f32));
  };
  add("", summary);
  for (const interp::PromptGroup& g : groups) add("group/" + g.name + "/", summary_of(g));
  for (std::size_t p = 0; p < sweeps.size(); ++p) {
    const std::string name = fmt::format("pair/{}/", p);
    tensors.emplace_back(name + "sweep", sweeps[p].values.to(DType::f32));
    tensors.emplace_back(name + "clean", scalar(sweeps[p].clean));
    tensors.emplace_back(name + "corrupt", scalar(sweeps[p].corrupt));
  }
  return tensors;
}

}  // namespace vitrine::app
