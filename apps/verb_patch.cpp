// vitrine patch: which activations make the answer differ between two prompts?
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <optional>

#include "apps/heatmap.h"
#include "apps/interrupt.h"
#include "apps/options.h"
#include "apps/progress.h"
#include "apps/verbs.h"
#include "tensor/safetensors.h"

namespace vitrine::app {
namespace {

using interp::Direction;
using interp::Replacement;

// resid_pre of "resid_pre", "hook_resid_pre" or "blocks.*.hook_resid_pre"; z of "attn.hook_z".
std::string short_name(std::string_view site) {
  for (const std::string_view prefix : {"blocks.*.", "attn.", "hook_"}) {
    if (site.starts_with(prefix)) site.remove_prefix(prefix.size());
  }
  return std::string(site);
}

// ---- what was found -----------------------------------------------------------------------------

// One edited run of the sweep.
struct Entry {
  std::vector<std::int64_t> place;  // along the sweep's axes
  double metric = 0;
  double change = 0;               // from the base run's metric
  std::optional<double> fraction;  // of the way from the base run's metric to the other's
};

struct Report {
  const nn::Model& model;
  const interp::Pair& pair;
  const interp::SweepSpec& spec;
  const interp::Sweep& sweep;

  bool denoise() const { return spec.direction == Direction::denoise; }
  double base() const { return sweep.base(spec.direction); }
  double other() const { return denoise() ? sweep.clean : sweep.corrupt; }
  const char* base_name() const { return denoise() ? "corrupt" : "clean"; }
  const char* other_name() const { return denoise() ? "clean" : "corrupt"; }
  const nn::Tokenizer* tokenizer() const {
    return model.has_tokenizer() ? &model.tokenizer() : nullptr;
  }
  const Shape& shape() const { return sweep.values.shape(); }

  // The `most` entries with the largest change, without those that have none.
  std::vector<Entry> strongest(int most) const {
    const auto values = sweep.values.to_vector<double>();
    std::vector<std::size_t> order(values.size());
    std::iota(order.begin(), order.end(), 0);
    const auto size = [&](std::size_t i) { return std::abs(values[i] - base()); };
    std::stable_sort(order.begin(), order.end(),
                     [&](std::size_t a, std::size_t b) { return size(a) > size(b); });
    std::vector<Entry> entries;
    for (const std::size_t i : order) {
      if (static_cast<int>(entries.size()) == most || size(i) == 0) break;
      Entry e{std::vector<std::int64_t>(static_cast<std::size_t>(shape().size())), values[i],
              values[i] - base(), std::nullopt};
      auto rest = static_cast<std::int64_t>(i);
      for (int a = shape().size() - 1; a >= 0; --a) {
        e.place[static_cast<std::size_t>(a)] = rest % shape()[a];
        rest /= shape()[a];
      }
      if (other() != base()) e.fraction = e.change / (other() - base());
      entries.push_back(std::move(e));
    }
    return entries;
  }
};

// ---- as a table ---------------------------------------------------------------------------------
bool is_position(std::string_view axis) { return axis == "pos" || axis == "dest" || axis == "src"; }

std::string number(double x) {  // a divergence of nothing may be rounded to a little below 0
  const std::string text = fmt::format("{:.3f}", x);
  return text == "-0.000" ? "0.000" : text;
}

std::string metric_text(const Report& r) {
  const std::string answer = token_label(r.tokenizer(), r.pair.answer);
  switch (r.spec.measure) {
    case interp::Measure::prob:
      return "probability of " + answer;
    case interp::Measure::log_prob:
      return fmt::format("log probability of {} (nats)", answer);
    case interp::Measure::kl:
      return "KL(clean || edited) (nats)";
    case interp::Measure::logit_diff:
      break;
  }
  return fmt::format("logit {} - logit {}", answer, token_label(r.tokenizer(), r.pair.wrong));
}

std::string how_it_was_done(const Report& r, const Style& style) {
  const bool patch = r.spec.replacement == Replacement::patch;
  const interp::Sweep& s = r.sweep;
  const int ran = s.runs - s.without_effect;
  std::string text = fmt::format("{} by {}, {}: the base run is {}; {}.\n", style.bold(r.spec.site),
                                 name_of(r.spec.by), name_of(r.spec.direction), r.base_name(),
                                 patch ? fmt::format("{} activations are put in", r.other_name())
                                       : std::string("its activations are set to zero"));
  text += fmt::format("metric: {}, clean {}, corrupt {}\n", metric_text(r), number(s.clean),
                      number(s.corrupt));
  text += fmt::format("{} edited runs: {} from {} forward pass{}", grouped(s.runs), grouped(ran),
                      s.passes, s.passes == 1 ? "" : "es");
  if (s.without_effect > 0) {
    text += fmt::format(", {} not run, since both prompts have the same values there",
                        grouped(s.without_effect));
  }
  return text + "\n\n";
}

// The places along the axis; positions with the tokens of both prompts, of the corrupt one those
// that differ.
std::vector<Heatmap::Titles> titles(const Report& r, const std::string& axis, std::int64_t size) {
  Heatmap::Titles numbers{axis, {}}, clean{"clean", {}}, corrupt{"corrupt", {}};
  for (std::int64_t i = 0; i < size; ++i) numbers.columns.push_back(fmt::format("{}", i));
  if (!is_position(axis)) return {numbers};
  for (std::size_t i = 0; i < r.pair.clean.size(); ++i) {
    const int a = r.pair.clean[i], b = r.pair.corrupt[i];
    clean.columns.push_back(token_label(r.tokenizer(), a));
    corrupt.columns.push_back(a == b ? "" : token_label(r.tokenizer(), b));
  }
  return {numbers, clean, corrupt};
}

// [layer, first axis]: the change of the metric; over further axes the largest of them.
std::string heatmap(const Report& r, const Style& style, int columns) {
  const std::vector<std::string>& axes = r.sweep.axes;
  const std::int64_t layers = r.shape()[0], across = r.shape()[1];
  Heatmap map{titles(r, axes[1], across), {}, {}};
  for (std::int64_t l = 0; l < layers; ++l) map.rows.push_back(fmt::format("layer {}", l));
  map.cells.assign(static_cast<std::size_t>(layers * across), 0);
  const auto values = r.sweep.values.to_vector<double>();
  const std::size_t each = map.cells.empty() ? 1 : values.size() / map.cells.size();
  for (std::size_t i = 0; i < values.size(); ++i) {
    double& cell = map.cells[i / each];
    const double change = values[i] - r.base();
    if (std::abs(change) > std::abs(cell)) cell = change;
  }
  std::string text = fmt::format("change of the metric from the base run's {}", number(r.base()));
  if (axes.size() > 2) {
    text += fmt::format("; each cell has the largest over {}", axes[2]);
    if (axes.size() > 3) text += " and " + axes[3];
  }
  if (style.colour) {
    text += fmt::format(" ({} less, {} more)", style.heat(-1, " blue "), style.heat(1, " red "));
  }
  return text + "\n" + map.text(style, columns) + "\n";
}

std::string token_at(const Report& r, std::int64_t position) {
  const int a = r.pair.clean[static_cast<std::size_t>(position)],
            b = r.pair.corrupt[static_cast<std::size_t>(position)];
  const std::string label = token_label(r.tokenizer(), a);
  return a == b ? label : label + " / " + token_label(r.tokenizer(), b);
}

std::string strongest_table(const Report& r, int most, const Style& style) {
  const std::vector<Entry> entries = r.strongest(most);
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
  for (const Entry& e : entries) {
    std::vector<std::string> cells;
    for (std::size_t a = 0; a < e.place.size(); ++a) {
      cells.push_back(fmt::format("{}", e.place[a]));
      if (is_position(r.sweep.axes[a])) cells.push_back(token_at(r, e.place[a]));
    }
    cells.push_back(number(e.metric));
    cells.push_back(fmt::format("{:+.3f}", e.change));
    cells.push_back(e.fraction ? fmt::format("{:.3f}", *e.fraction) : "-");
    table.row(std::move(cells));
  }
  return fmt::format("the strongest; fraction is 0 for the {} run's metric, 1 for the {} run's\n",
                     r.base_name(), r.other_name()) +
         table.text(style);
}

// ---- as JSON, as tensors ------------------------------------------------------------------------

// Lists of lists, from values in row-major order.
Json nested(const std::vector<double>& values, const Shape& shape, int axis, std::size_t& next) {
  Json list = Json::array();
  for (std::int64_t i = 0; i < shape[axis]; ++i) {
    list.push_back(axis + 1 == shape.size() ? Json(values[next++])
                                            : nested(values, shape, axis + 1, next));
  }
  return list;
}

const char* action_name(const interp::SweepSpec& spec) {
  return spec.replacement == Replacement::zero ? "zero" : "patch";
}

Json as_json(const Report& r, int most) {
  std::size_t next = 0;
  Json json = {
      {"site", r.spec.site},
      {"by", name_of(r.spec.by)},
      {"action", action_name(r.spec)},
      {"direction", name_of(r.spec.direction)},
      {"metric",
       {{"name", name_of(r.spec.measure)}, {"clean", r.sweep.clean}, {"corrupt", r.sweep.corrupt}}},
      {"runs", r.sweep.runs},
      {"passes", r.sweep.passes},
      {"without_effect", r.sweep.without_effect},
      {"axes", r.sweep.axes},
      {"shape", std::vector<std::int64_t>(r.shape().begin(), r.shape().end())},
      {"values", nested(r.sweep.values.to_vector<double>(), r.shape(), 0, next)},
      {"tokens",
       {{"clean", r.pair.clean},
        {"corrupt", r.pair.corrupt},
        {"answer", r.pair.answer},
        {"wrong", r.pair.wrong}}}};
  json["str_tokens"] = Json();
  if (const nn::Tokenizer* t = r.tokenizer()) {
    json["str_tokens"] = {{"clean", t->str_tokens(r.pair.clean)},
                          {"corrupt", t->str_tokens(r.pair.corrupt)},
                          {"answer", json_text(t->token_bytes(r.pair.answer))},
                          {"wrong", json_text(t->token_bytes(r.pair.wrong))}};
  }
  json["strongest"] = Json::array();
  for (const Entry& e : r.strongest(most)) {
    Json entry;
    for (std::size_t a = 0; a < e.place.size(); ++a) entry[r.sweep.axes[a]] = e.place[a];
    entry["metric"] = e.metric;
    entry["change"] = e.change;
    entry["fraction"] = e.fraction ? Json(*e.fraction) : Json();
    json["strongest"].push_back(entry);
  }
  return json;
}

void save_tensors(const Report& r, const Json& meta, const std::string& file) {
  Json metadata = meta;
  metadata["site"] = r.spec.site;
  metadata["by"] = name_of(r.spec.by);
  metadata["action"] = action_name(r.spec);
  metadata["direction"] = name_of(r.spec.direction);
  metadata["metric"] = name_of(r.spec.measure);
  metadata["axes"] = fmt::format("{}", fmt::join(r.sweep.axes, ","));
  save_safetensors(file,
                   {{"sweep", r.sweep.values.to(DType::f32)},
                    {"metric/clean", Tensor::full({}, DType::f32, r.sweep.clean)},
                    {"metric/corrupt", Tensor::full({}, DType::f32, r.sweep.corrupt)}},
                   as_metadata(metadata));
}

}  // namespace

void verb_patch(const Arguments& arguments) {
  CommandLine line(
      arguments,
      "Activation patching: the base prompt is run once for each layer and place, with\n"
      "the other prompt's activation (or zero) put in there. The metric of each such run,\n"
      "after the last token, says what the place carries.\n\n"
      "json: {meta, site, by, action, direction, metric: {name, clean, corrupt}, runs,\n"
      "passes, without_effect, axes, shape, values, tokens, str_tokens, strongest: [{layer, ...,\n"
      "metric, change, fraction}], file}; values are lists within lists, along axes\n",
      "vitrine patch --clean 'The capital of Texas is' --corrupt 'The capital of California is' "
      "--answer ' Austin' --wrong ' Sacramento' --site resid_pre");
  CommonOptions common;
  PairOptions prompts;
  interp::SweepSpec spec;
  std::string by, action = "patch", metric = "logit_diff";
  int top = 5;
  constexpr int kMost = 1'000'000;
  prompts.add_to(line);
  line.option("--site", spec.site, "S",
              "what is patched: resid_pre, resid_mid, resid_post, attn_out, mlp_out (the\n"
              "stream and what is added to it), z, q, k, v, pattern (of heads)")
      ->required();
  line.option("--by", by, "pos|head|head,pos|head,dest|head,dest,src",
              "what one run changes: pos, a position (the stream's sites, and all heads of\n"
              "z, q, k, v together); head; head,pos (z, q, k, v); head,dest and head,dest,src,\n"
              "a row and an entry of a pattern (default: pos for the stream, else head)");
  line.option("--action", action, "patch|zero",
              "put the other run's values in, or zeros (default: patch)")
      ->check(CLI::IsMember({"patch", "zero"}));
  line.option(
          "--metric", metric, "logit_diff|prob|log_prob|kl",
          "what is measured: logit_diff, logit[answer] - logit[wrong]; prob and log_prob of\n"
          "the answer; kl, how far the prediction is from the clean run's, KL(clean || edited)\n"
          "(default: logit_diff)")
      ->check(CLI::IsMember({"logit_diff", "prob", "log_prob", "kl"}));
  line.number("--top", top, "K", "how many of the strongest are listed (default: 5)", 1, kMost);
  common.add_to(line,
                "FILE.safetensors: the tensors sweep, metric/clean, metric/corrupt (f32), besides\n"
                "what goes to stdout; any other FILE: the table or JSON, and not to stdout");
  if (!line.parse()) return;
  prompts.require(line);
  spec.site = short_name(spec.site);
  const auto ways = interp::ways_to_sweep(spec.site);
  spec.by = by.empty() ? ways.front() : interp::parse_by(by);
  interp::check_sweep(spec.site, spec.by);
  spec.replacement = action == "zero" ? Replacement::zero : Replacement::patch;
  spec.direction = prompts.direction();
  spec.measure = interp::parse_measure(metric);

  const Interruptible interruptible;
  const nn::Model model = common.load();
  const interp::Pair pair = prompts.pair(model);
  interp::Sweep sweep;
  {
    Progress progress("patching", "runs", common.quiet);
    spec.cancel = &interruptible.requested();
    spec.progress = [&](int done, int total) { progress.update(done, total); };
    sweep = interp::patch_sweep(model, pair, spec);
  }
  interruptible.check();

  const Report report{model, pair, spec, sweep};
  const Json meta = common.meta(line);
  const bool tensors = common.out.ends_with(".safetensors");
  if (tensors) save_tensors(report, meta, common.out);
  const std::string out = tensors ? "" : common.out;  // where the table or the JSON goes
  if (common.json()) {
    Json json = {{"meta", meta}};
    json.update(as_json(report, top));
    json["file"] = tensors ? Json(json_text(common.out)) : Json();
    return write_result(out, to_line(json));
  }
  const Style style = style_for(common.color, out);
  std::string text = how_it_was_done(report, style) +
                     heatmap(report, style, terminal_columns(out)) +
                     strongest_table(report, top, style);
  if (tensors)
    text += fmt::format("\nsweep {} written to {}\n", to_string(report.shape()),
                        style.bold(common.out));
  write_result(out, text);
}

}  // namespace vitrine::app
