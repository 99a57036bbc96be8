#include "apps/reports/patch_report.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <optional>

#include "apps/options/options.h"
#include "apps/terminal/numbers.h"

namespace vitrine::app {

using interp::Direction;
using interp::Measure;
using interp::Replacement;

// ---- what both reports are made of --------------------------------------------------------------
namespace {

// From `values` in row-major order, the next of them first.
Json nested(const std::vector<Json>& values, const Shape& shape, int axis, std::size_t& next) {
  Json list = Json::list();
  for (std::int64_t i = 0; i < shape[axis]; ++i) {
    list.push_back(axis + 1 == shape.size() ? values[next++]
                                            : nested(values, shape, axis + 1, next));
  }
  return list;
}

}  // namespace

std::vector<Strong> strongest(const std::vector<double>& changes, const Shape& shape,
                              const std::vector<int>& layers, int most) {
  std::vector<std::size_t> order(changes.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
    return std::abs(changes[a]) > std::abs(changes[b]);
  });
  std::vector<Strong> places;
  for (const std::size_t i : order) {
    if (static_cast<int>(places.size()) == most || changes[i] == 0) break;
    Strong s{i, std::vector<std::int64_t>(static_cast<std::size_t>(shape.size())), changes[i]};
    auto rest = static_cast<std::int64_t>(i);
    for (int a = shape.size() - 1; a >= 0; --a) {
      s.place[static_cast<std::size_t>(a)] = rest % shape[a];
      rest /= shape[a];
    }
    s.place[0] = layers[static_cast<std::size_t>(s.place[0])];
    places.push_back(std::move(s));
  }
  return places;
}

std::vector<double> changes(const interp::PatchSweep& sweep) {
  auto values = sweep.values.to_vector<double>();
  for (double& v : values) v -= sweep.base(sweep.direction);
  return values;
}

namespace {

Json number_or_text(const std::string& text) {
  const auto number = number_in<std::int64_t>(text);
  return number ? Json(*number) : Json(json_text(text));
}

// What a sweep is narrowed to, by the word for it.
std::vector<std::pair<std::string, std::vector<std::string>>> narrowing(
    const interp::SweepSpec& spec) {
  const auto numbers = [](const std::vector<int>& listed) {
    std::vector<std::string> texts;
    for (const int i : listed) texts.push_back(fmt::format("{}", i));
    return texts;
  };
  const auto positions = [](const std::vector<interp::Position>& listed) {
    std::vector<std::string> texts;
    for (const interp::Position& p : listed) texts.push_back(p.text());
    return texts;
  };
  return {{"head", numbers(spec.heads)},
          {"feature", numbers(spec.features)},
          {"pos", positions(spec.positions)},
          {"src", positions(spec.sources)}};
}

}  // namespace

std::string place_text(const AxisLabels& labels, std::size_t axis, std::int64_t at) {
  if (axis == 0 || axis >= labels.size() || labels[axis].empty()) return fmt::format("{}", at);
  return labels[axis][static_cast<std::size_t>(at)];
}
Json place_json(const AxisLabels& labels, std::size_t axis, std::int64_t at) {
  return number_or_text(place_text(labels, axis, at));
}
Json labels_json(const AxisLabels& labels) {
  Json json = Json::list();
  bool narrowed = false;
  for (std::size_t a = 0; a < labels.size(); ++a) {
    narrowed |= a > 0 && !labels[a].empty();
    Json along = Json::list();
    for (const std::string& label : labels[a]) along.push_back(json_text(label));
    json.push_back(labels[a].empty() ? Json() : along);
  }
  return narrowed ? json : Json();
}
std::string narrowed_text(const interp::SweepSpec& spec) {
  std::vector<std::string> parts;
  for (const auto& [word, texts] : narrowing(spec)) {
    if (!texts.empty()) parts.push_back(fmt::format("{} {}", word, fmt::join(texts, ", ")));
  }
  return parts.empty() ? "" : fmt::format("narrowed to {}\n", fmt::join(parts, "; "));
}
void add_narrowing(Json& json, const interp::SweepSpec& spec, const AxisLabels& labels) {
  Json narrowed = Json::object();
  bool any = false;
  for (const auto& [word, texts] : narrowing(spec)) {
    if (texts.empty()) continue;
    any = true;
    Json list = Json::list();
    for (const std::string& text : texts) list.push_back(number_or_text(text));
    narrowed[word] = list;
  }
  if (any) json["narrowed"] = narrowed;
  if (const Json texts = labels_json(labels); !texts.is_null()) json["labels"] = texts;
}

bool is_position(std::string_view axis) { return axis == "pos" || axis == "dest" || axis == "src"; }

std::string base_name(const interp::SweepSpec& spec) {
  return spec.direction == Direction::denoise ? "corrupt" : "clean";
}
std::string other_name(const interp::SweepSpec& spec) {
  return spec.direction == Direction::denoise ? "clean" : "corrupt";
}

std::string metric_number(double x) {  // a divergence of nothing may be rounded to a little below 0
  const std::string text = fmt::format("{:.3f}", x);
  return text == "-0.000" ? "0.000" : text;
}

interp::Span positions_at(const interp::Example& pair, const AxisLabels& labels, std::size_t axis,
                          std::int64_t at) {
  if (axis >= labels.size() || labels[axis].empty()) return {at, at + 1};
  return pair.span(interp::parse_position(place_text(labels, axis, at)));
}
std::string span_label(const nn::Model& model, const nn::Tokens& tokens,
                       const interp::Span& positions) {
  const nn::Tokenizer* tokenizer = tokenizer_of(model);
  const nn::Tokens some(tokens.begin() + positions.begin, tokens.begin() + positions.end);
  if (some.size() == 1) return token_label(tokenizer, some[0]);
  return tokenizer != nullptr ? nn::quote(tokenizer->shown_text(some))
                              : fmt::format("{}", fmt::join(some, " "));
}

std::string tokens_at(const nn::Model& model, const interp::Pair& pair, std::int64_t position) {
  return tokens_at(model, interp::example_of(pair), {position, position + 1});
}
std::string tokens_at(const nn::Model& model, const interp::Example& pair,
                      const interp::Span& positions) {
  const std::string clean = span_label(model, pair.prompt, positions),
                    corrupt = span_label(model, pair.corrupt, positions);
  return clean == corrupt ? clean : clean + " / " + corrupt;
}

std::string put_in(const interp::SweepSpec& spec, bool many) {
  switch (spec.replacement) {
    case Replacement::patch:
      return fmt::format("{} activations are put in", other_name(spec));
    case Replacement::zero:
      return fmt::format("{} activations are set to zero", many ? "their" : "its");
    case Replacement::mean:
      return fmt::format("the mean over all positions of {} prompts is put in",
                         many ? "all" : "both");
    case Replacement::resample:
      return fmt::format("another pair's {} activations are put in", base_name(spec));
  }
  return {};
}

std::string metric_text(const nn::Model& model, const interp::Pair& pair, Measure measure) {
  const std::string answer = token_label(tokenizer_of(model), pair.answer);
  switch (measure) {
    case Measure::prob:
      return "probability of " + answer;
    case Measure::log_prob:
      return fmt::format("log probability of {} (nats)", answer);
    case Measure::kl:
      return "KL(clean || edited) (nats)";
    case Measure::logit_diff:
      break;
  }
  return fmt::format("logit {} - logit {}", answer, token_label(tokenizer_of(model), pair.wrong));
}

std::string metric_text(const nn::Model& model, const interp::Example& pair,
                        const std::string& name) {
  const auto is_one = [](const std::vector<nn::Tokens>& a) {
    return a.size() == 1 && a[0].size() == 1;
  };
  if (name == "kl") return metric_text(model, {}, Measure::kl);
  if (!is_one(pair.answers)) return name;
  const int answer = pair.answers[0][0];
  for (const Measure m : {Measure::prob, Measure::log_prob})
    if (name == name_of(m)) return metric_text(model, {{}, {}, answer, 0}, m);
  if (name != name_of(Measure::logit_diff) || !is_one(pair.wrongs)) return name;
  return metric_text(model, {{}, {}, answer, pair.wrongs[0][0]}, Measure::logit_diff);
}

std::string metric_name(const interp::SweepSpec& spec) {
  return interp::metric_name(spec.measure, spec.metric);
}
Json metric_json(const interp::SweepSpec& spec, double clean, double corrupt,
                 const std::optional<MetricEnds>& ends) {
  Json json = {{"name", metric_name(spec)}, {"clean", clean}, {"corrupt", corrupt}};
  if (ends) json["normalised"] = {{"clean", ends->clean}, {"corrupt", ends->corrupt}};
  return json;
}
std::string ends_text(const std::optional<MetricEnds>& ends) {
  if (!ends) return {};
  return fmt::format("; as fractions: 0 stands for {}, 1 for {}", metric_number(ends->corrupt),
                     metric_number(ends->clean));
}

std::string gauge_text(const nn::Model& model, bool matters) {
  if (!matters && model.gauge().is_raw()) return {};
  return fmt::format("gauge: {}\n", nn::name_of(model.gauge()));
}

std::string runs_text(int runs, int passes, int without_effect) {
  std::string text = fmt::format("{} edited runs: {} from {} forward pass{}", grouped(runs),
                                 grouped(runs - without_effect), passes, passes == 1 ? "" : "es");
  if (without_effect > 0) {
    text += fmt::format(", {} not run, since they change nothing that the metric depends on",
                        grouped(without_effect));
  }
  return text + "\n";
}

std::string heatmap_text(const std::vector<std::string>& axes, const Shape& shape,
                         const std::vector<int>& layers, const std::vector<double>& changes,
                         std::vector<Heatmap::Titles> titles, const std::string& what,
                         const Style& style, int columns) {
  const std::int64_t across = shape[1];
  Heatmap map{std::move(titles), {}, {}};
  for (const int l : layers) map.rows.push_back(fmt::format("layer {}", l));
  map.cells.assign(static_cast<std::size_t>(shape[0] * across), 0);
  const std::size_t each = map.cells.empty() ? 1 : changes.size() / map.cells.size();
  for (std::size_t i = 0; i < changes.size(); ++i) {
    double& cell = map.cells[i / each];
    if (std::abs(changes[i]) > std::abs(cell)) cell = changes[i];
  }
  std::string text = what;
  if (axes.size() > 2) {
    text += fmt::format("; each cell has the largest over {}", axes[2]);
    if (axes.size() > 3) text += " and " + axes[3];
  }
  if (style.colour) {
    text += fmt::format(" ({} less, {} more)", style.heat(-1, " blue "), style.heat(1, " red "));
  }
  return text + "\n" + map.text(style, columns) + "\n";
}

AxisNames sweep_axes(const std::vector<std::string>& axes, const std::vector<int>& layers,
                     const AxisLabels& labels) {
  AxisNames names{.of = {{"", axes}}};
  for (std::size_t a = 1; a < labels.size(); ++a) {
    if (!labels[a].empty()) names.places[axes[a]] = labels[a];
  }
  for (const int layer : layers) names.places["layer"].push_back(fmt::format("{}", layer));
  return names;
}

Json as_list(const Shape& shape) { return std::vector<std::int64_t>(shape.begin(), shape.end()); }

Json nested(const Tensor& values) {
  std::vector<Json> each;
  const bool whole = values.dtype() == DType::i64;
  for (const double x : values.to_vector<double>()) {
    if (std::isnan(x)) each.emplace_back();
    else each.push_back(whole ? Json(static_cast<std::int64_t>(x)) : Json(x));
  }
  std::size_t next = 0;
  return nested(each, values.shape(), 0, next);
}

namespace {

// One token alone, or lists of tokens.
template <class Shown>
Json answers_json(const std::vector<nn::Tokens>& answers, const Shown& shown) {
  if (answers.empty()) return {};
  if (answers.size() == 1 && answers[0].size() == 1) return shown(answers[0][0]);
  Json all = Json::list();
  for (const nn::Tokens& answer : answers) {
    Json one = Json::list();
    for (const int id : answer) one.push_back(shown(id));
    all.push_back(one);
  }
  return all;
}

}  // namespace

Json tokens_json(const interp::Example& pair) {
  const auto id = [](int i) { return Json(i); };
  return {{"clean", pair.prompt},
          {"corrupt", pair.corrupt},
          {"answer", answers_json(pair.answers, id)},
          {"wrong", answers_json(pair.wrongs, id)}};
}
Json tokens_json(const interp::Pair& pair) { return tokens_json(interp::example_of(pair)); }

Json str_tokens_json(const nn::Model& model, const interp::Example& pair) {
  const nn::Tokenizer* t = tokenizer_of(model);
  if (t == nullptr) return {};
  const auto text = [t](int i) { return Json(json_text(t->shown(i))); };
  return {{"clean", t->shown_tokens(pair.prompt)},
          {"corrupt", t->shown_tokens(pair.corrupt)},
          {"answer", answers_json(pair.answers, text)},
          {"wrong", answers_json(pair.wrongs, text)}};
}
Json str_tokens_json(const nn::Model& model, const interp::Pair& pair) {
  return str_tokens_json(model, interp::example_of(pair));
}

// ---- one pair, for people -----------------------------------------------------------------------
namespace {

std::string how_it_was_done(const PatchReport& r, const Style& style) {
  const interp::PatchSweep& s = r.sweep;
  std::string text = fmt::format("{} by {}, {}: the base run is {}; {}.\n", style.bold(r.spec.site),
                                 name_of(r.spec.by), name_of(r.spec.direction), base_name(r.spec),
                                 put_in(r.spec, false));
  text += narrowed_text(r.spec);
  text += gauge_text(r.model, r.spec.replacement != Replacement::patch);
  const std::string metric = metric_text(r.model, r.pair, metric_name(r.spec));
  text += fmt::format("metric: {}, clean {}, corrupt {}{}\n", metric, metric_number(s.clean),
                      metric_number(s.corrupt), ends_text(r.ends));
  return text + runs_text(s.runs, s.passes, s.without_effect) + "\n";
}

// The places along the first axis after the layers; positions with the tokens of both prompts, of
// the corrupt one those that differ.
std::vector<Heatmap::Titles> titles(const PatchReport& r) {
  const std::string& axis = r.sweep.axes[1];
  Heatmap::Titles numbers{axis, {}}, clean{"clean", {}}, corrupt{"corrupt", {}};
  for (std::int64_t i = 0; i < r.sweep.values.dim(1); ++i) {
    numbers.columns.push_back(place_text(r.sweep.labels, 1, i));
    if (!is_position(axis)) continue;
    const interp::Span at = positions_at(r.pair, r.sweep.labels, 1, i);
    const std::string a = span_label(r.model, r.pair.prompt, at),
                      b = span_label(r.model, r.pair.corrupt, at);
    clean.columns.push_back(a);
    corrupt.columns.push_back(a == b ? "" : b);
  }
  if (!is_position(axis)) return {numbers};
  return {numbers, clean, corrupt};
}

// How much of the way from the base run's metric to the other's; none when there is no way.
std::optional<double> fraction(const interp::PatchSweep& s, double change) {
  const double across = s.clean - s.corrupt,
               way = s.direction == Direction::denoise ? across : -across;
  return way == 0 ? std::nullopt : std::optional(change / way);
}

std::string strongest_table(const PatchReport& r, int most, const Style& style) {
  const auto entries = strongest(changes(r.sweep), r.sweep.values.shape(), r.sweep.layers, most);
  if (entries.empty()) return "No edit changes the metric.\n";
  using Align = Table::Align;
  std::vector<Table::Column> columns;
  for (const std::string& axis : r.sweep.axes) {
    columns.push_back({axis, Align::right});
    if (is_position(axis)) columns.push_back({"token", Align::left});
  }
  for (const char* title : {"metric", "change", "fraction"})
    columns.push_back({title, Align::right});
  Table table(columns);
  const auto values = r.sweep.values.to_vector<double>();
  for (const Strong& e : entries) {
    std::vector<std::string> cells;
    for (std::size_t a = 0; a < e.place.size(); ++a) {
      cells.push_back(place_text(r.sweep.labels, a, e.place[a]));
      if (!is_position(r.sweep.axes[a])) continue;
      cells.push_back(
          tokens_at(r.model, r.pair, positions_at(r.pair, r.sweep.labels, a, e.place[a])));
    }
    const auto way = fraction(r.sweep, e.change);
    cells.push_back(metric_number(values[e.index]));
    cells.push_back(fmt::format("{:+.3f}", e.change));
    cells.push_back(way ? fmt::format("{:.3f}", *way) : "-");
    table.row(std::move(cells));
  }
  return fmt::format("the strongest; fraction is 0 for the {} run's metric, 1 for the {} run's\n",
                     base_name(r.spec), other_name(r.spec)) +
         table.text(style);
}

}  // namespace

std::string PatchReport::text(int most, const Style& style, int columns) const {
  const std::string base = metric_number(sweep.base(spec.direction));
  return how_it_was_done(*this, style) +
         heatmap_text(sweep.axes, sweep.values.shape(), sweep.layers, changes(sweep), titles(*this),
                      "change of the metric from the base run's " + base, style, columns) +
         strongest_table(*this, most, style);
}

// ---- one pair, for programs ---------------------------------------------------------------------
Json PatchReport::json(int most) const {
  Json json = {{"site", spec.site},
               {"by", name_of(spec.by)},
               {"action", name_of(spec.replacement)},
               {"direction", name_of(spec.direction)},
               {"metric", metric_json(spec, sweep.clean, sweep.corrupt, ends)},
               {"runs", sweep.runs},
               {"passes", sweep.passes},
               {"without_effect", sweep.without_effect},
               {"axes", sweep.axes},
               {"layers", sweep.layers},
               {"shape", as_list(sweep.values.shape())},
               {"values", nested(sweep.values)},
               {"tokens", tokens_json(pair)},
               {"str_tokens", str_tokens_json(model, pair)}};
  add_narrowing(json, spec, sweep.labels);
  json["strongest"] = Json::list();
  const auto values = sweep.values.to_vector<double>();
  for (const Strong& e : strongest(changes(sweep), sweep.values.shape(), sweep.layers, most)) {
    Json entry;
    for (std::size_t a = 0; a < e.place.size(); ++a)
      entry[sweep.axes[a]] = place_json(sweep.labels, a, e.place[a]);
    const auto way = fraction(sweep, e.change);
    entry["metric"] = values[e.index];
    entry["change"] = e.change;
    entry["fraction"] = way ? Json(*way) : Json();
    json["strongest"].push_back(entry);
  }
  return json;
}

Json PatchReport::labels() const { return labels_json(sweep.labels); }

AxisNames PatchReport::axis_names() const {
  AxisNames names = sweep_axes(sweep.axes, sweep.layers, sweep.labels);
  const nn::Tokenizer* t = tokenizer_of(model);
  if (t == nullptr) return names;
  for (std::size_t a = 1; a < sweep.axes.size(); ++a) {
    const std::string& axis = sweep.axes[a];
    if (!is_position(axis)) continue;
    AxisNames::Labels texts{axis + "_token", {}};
    for (std::int64_t i = 0; i < sweep.values.dim(static_cast<int>(a)); ++i) {
      const interp::Span at = positions_at(pair, sweep.labels, a, i);
      texts.texts.push_back(
          t->shown_text(nn::Tokens(pair.prompt.begin() + at.begin, pair.prompt.begin() + at.end)));
    }
    names.labels[axis] = texts;
  }
  return names;
}

NamedTensors PatchReport::tensors() const {
  return {{"sweep", sweep.values.to(DType::f32)},
          {"metric/clean", Tensor::full({}, DType::f32, sweep.clean)},
          {"metric/corrupt", Tensor::full({}, DType::f32, sweep.corrupt)}};
}

}  // namespace vitrine::app
