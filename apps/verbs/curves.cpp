// vitrine curves: how training went, from the logs of `train` and `sae train`.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <map>
#include <set>

#include "apps/options/json_lines.h"
#include "apps/options/options.h"
#include "apps/verbs/verbs.h"
#include "tensor/error.h"
#include "tensor/files/json_reader.h"

namespace vitrine::app {
namespace {

struct Point {
  std::int64_t step;
  double value;
};

// Which values are better, as far as a name says it.
enum class Better { lower, higher, neither };
Better better(const std::string& name) {
  const auto has = [&](std::string_view part) { return name.find(part) != std::string::npos; };
  if (has("explained_variance") || has("cosine") || name == "induction.score")
    return Better::higher;
  if (has("loss") || has("bits_per_byte") || has("ppl") || has("mse") || name == "dead")
    return Better::lower;
  return Better::neither;
}

struct Quantity {
  std::string name;
  std::vector<Point> points;  // by step

  // The first of the least values, or of the largest.
  const Point& extreme(int sign) const {
    return *std::min_element(points.begin(), points.end(), [&](const Point& a, const Point& b) {
      return sign * a.value < sign * b.value;
    });
  }
  const Point* best() const {
    const Better way = better(name);
    return way == Better::neither ? nullptr : &extreme(way == Better::lower ? 1 : -1);
  }
};

struct CurvesRun {
  std::string file, name;
  std::int64_t lines = 0;
  std::vector<Quantity> quantities;  // in the order in which they came

  void add(const std::string& quantity, Point point) {
    for (Quantity& q : quantities) {
      if (q.name == quantity) return q.points.push_back(point);
    }
    quantities.push_back({quantity, {point}});
  }
};

// ---- reading ------------------------------------------------------------------------------------
void add_numbers(CurvesRun& run, std::int64_t step, const std::string& prefix,
                 const JsonReader& object) {
  for (const JsonReader& field : object.fields()) {
    const std::string name = prefix + std::string(field.name());
    if (field.is_object()) add_numbers(run, step, name + ".", field);
    else if (field.is_number() && name != "step" && name != "induction.head")
      run.add(name, {step, field.number()});
  }
}

// What a log is called: by its folder, which is the run's.
std::string name_of_log(const std::string& file) {
  const std::filesystem::path path = std::filesystem::absolute(file).lexically_normal();
  const std::string folder = path.parent_path().filename().string();
  if (file == "-") return "stdin";
  return path.filename() == "log.jsonl" && !folder.empty() ? folder : path.stem().string();
}

// The runs of a log, a folder's or a file: one, or one for each `name` in its lines.
std::vector<CurvesRun> read_log(const std::string& given) {
  std::error_code error;
  const std::string file = std::filesystem::is_directory(given, error)
                               ? (std::filesystem::path(given) / "log.jsonl").string()
                               : given;
  JsonLines lines(file);
  std::vector<CurvesRun> runs;
  std::map<std::string, std::size_t> by_name;
  while (lines.next()) {
    const auto json =
        JsonReader::object(lines.line(), lines.name(),
                           {.root = "a line of a log of training", .line = lines.number()});
    const std::int64_t step = json.at("step").whole(0);
    if (json.has("command")) continue;  // the head of a log says how the run began
    const std::string name = json.at("name").text_or("");
    const auto [at, is_new] = by_name.emplace(name, runs.size());
    if (is_new) {
      const std::string log = name_of_log(file);
      runs.push_back({lines.name(), name.empty() ? log : log + "/" + name, 0, {}});
    }
    ++runs[at->second].lines;
    add_numbers(runs[at->second], step, "", json);
  }
  if (runs.empty())
    throw FileError(
        fmt::format("{}: there is no line; give a log that training has written", lines.name()));
  for (CurvesRun& run : runs) {
    for (Quantity& q : run.quantities)
      std::stable_sort(q.points.begin(), q.points.end(),
                       [](const Point& a, const Point& b) { return a.step < b.step; });
  }
  return runs;
}

// Names that several runs have get a number behind them.
void tell_apart(std::vector<CurvesRun>& runs) {
  std::map<std::string, int> count, seen;
  for (const CurvesRun& run : runs) ++count[run.name];
  for (CurvesRun& run : runs) {
    if (count[run.name] > 1) run.name += fmt::format(" ({})", ++seen[run.name]);
  }
}

// ---- for people and programs --------------------------------------------------------------------
Json json_of(const std::vector<CurvesRun>& runs) {
  Json list = Json::list();
  for (const CurvesRun& run : runs) {
    Json quantities = Json::list();
    for (const Quantity& q : run.quantities) {
      const Point* best = q.best();
      quantities.push_back({{"name", q.name},
                            {"count", std::ssize(q.points)},
                            {"first", q.points.front().value},
                            {"first_step", q.points.front().step},
                            {"last", q.points.back().value},
                            {"last_step", q.points.back().step},
                            {"best", best == nullptr ? Json() : Json(best->value)},
                            {"best_step", best == nullptr ? Json() : Json(best->step)},
                            {"least", q.extreme(1).value},
                            {"most", q.extreme(-1).value}});
    }
    list.push_back({{"file", json_text(run.file)},
                    {"name", json_text(run.name)},
                    {"lines", run.lines},
                    {"quantities", quantities}});
  }
  return {{"runs", list}};
}

std::string text_of(const std::vector<CurvesRun>& runs, const Style& style) {
  const auto value = [](double x) { return fmt::format("{:.4g}", x); };
  std::string text;
  using Align = Table::Align;
  for (const CurvesRun& run : runs) {
    text +=
        style.bold(visible(run.name)) +
        fmt::format(": {} line{} of {}\n", run.lines, run.lines == 1 ? "" : "s", visible(run.file));
    Table table({{"", Align::left},
                 {"first", Align::right},
                 {"last", Align::right},
                 {"at step", Align::right},
                 {"best", Align::right},
                 {"at step", Align::right},
                 {"least", Align::right},
                 {"most", Align::right}});
    for (const Quantity& q : run.quantities) {
      const Point* best = q.best();
      table.row({visible(q.name), value(q.points.front().value), value(q.points.back().value),
                 fmt::format("{}", q.points.back().step),
                 best == nullptr ? "" : style.strong(value(best->value)),
                 best == nullptr ? "" : fmt::format("{}", best->step), value(q.extreme(1).value),
                 value(q.extreme(-1).value)});
    }
    text += table.text(style) + "\n";
  }
  text.pop_back();
  return text;
}

// ---- the page -----------------------------------------------------------------------------------
// More points than this are too many to see, and for a page: of each stretch of steps the least and the largest value
// stay, so that no spike is lost.
constexpr std::size_t kMostPoints = 1000;

Json points_json(const std::vector<Point>& points) {
  std::vector<Point> kept;
  const std::size_t stretches = kMostPoints / 2;
  for (std::size_t s = 0; s < stretches && points.size() > kMostPoints; ++s) {
    const auto begin = points.begin() + static_cast<std::ptrdiff_t>(points.size() * s / stretches),
               end = points.begin() +
                     static_cast<std::ptrdiff_t>(points.size() * (s + 1) / stretches);
    auto [least, most] = std::minmax_element(
        begin, end, [](const Point& a, const Point& b) { return a.value < b.value; });
    kept.push_back(*std::min(least, most));
    if (least != most) kept.push_back(*std::max(least, most));
  }
  Json list = Json::list();
  for (const Point& p : points.size() > kMostPoints ? kept : points) {
    list.push_back(p.step);
    list.push_back(p.value);
  }
  return list;
}

Json page_data(const std::vector<CurvesRun>& runs) {
  Json points = Json::list();
  bool thinned = false;
  for (const CurvesRun& run : runs) {
    Json of_run = Json::object();
    for (const Quantity& q : run.quantities) {
      thinned = thinned || q.points.size() > kMostPoints;
      of_run[q.name] = points_json(q.points);
    }
    points.push_back(std::move(of_run));
  }
  return {{"points", points}, {"thinned", thinned ? Json(std::int64_t{kMostPoints}) : Json()}};
}

}  // namespace

void verb_curves(const Arguments& arguments) {
  CommandLine line(
      arguments,
      "How training went: first, last and best of every quantity in the logs that `train` and\n"
      "`sae train` write, of one run or of several; --html draws their curves, a picture for each\n"
      "quantity with all runs in it. A log is log.jsonl of a run's folder, or the folder; - is\n"
      "stdin. SAEs that were trained together are runs of their own. Any JSONL file works that "
      "has\n"
      "a step and numbers a line.\n\n"
      "best: the lowest loss, bits per byte or share of dead features, the highest explained\n"
      "variance, cosine or induction score; other quantities have none.\n\n"
      "json: {meta, runs: [{file, name, lines, quantities: [{name, count, first, first_step, "
      "last,\n"
      "last_step, best, best_step, least, most}]}], file}; best is null where there is none\n",
      "vitrine train --preset tiny --data /usr/share/common-licenses/GPL-3 --steps 20 --out run\n"
      "  vitrine curves run");
  CommonOptions common;
  std::vector<std::string> logs;
  line.rest("LOG", logs, "log.jsonl, or the folder of a run");
  common.add_page_to(line);
  common.add_without_model_to(line);
  if (!line.parse()) return;
  if (logs.empty()) line.fail("there is no log; give LOG.jsonl, or the folder of a run");
  check_folder_of(common.html);
  std::vector<CurvesRun> runs;
  for (const std::string& log : logs) {
    for (CurvesRun& run : read_log(log)) runs.push_back(std::move(run));
  }
  tell_apart(runs);
  write_presentation(common, common.meta(line),
                     {.text = [&](const Style& style, int) { return text_of(runs, style); },
                      .json = [&] { return json_of(runs); },
                      .page = "curves",
                      .page_data = [&] { return page_data(runs); }});
}

}  // namespace vitrine::app
