#include "apps/explain/entry_text.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <utility>
#include <vector>

namespace vitrine::app {
namespace {

constexpr std::string_view kIndent = "  ";

const Json& field(const Json& json, std::string_view name) {
  static const Json none;
  const Json* found = json.find(name);
  return found == nullptr ? none : *found;
}

std::string text_in(const Json& json, std::string_view name) {
  const std::string* text = field(json, name).text();
  return text == nullptr ? "" : *text;
}

std::int64_t whole_in(const Json& json, std::string_view name) {
  return field(json, name).whole().value_or(0);
}

std::string number_text(const Json& json, std::string_view name) {
  const auto number = field(json, name).number();
  return number ? fmt::format("{:.4g}", *number) : "";
}

// "a, b, c" of a list of texts, or of the names of a list of objects.
std::string joined(const Json& list) {
  std::string text;
  if (list.list_items() == nullptr) return text;
  for (const Json& item : *list.list_items()) {
    text += text.empty() ? "" : ", ";
    if (item.text() != nullptr) text += *item.text();
    else if (item.whole()) text += fmt::format("{}", *item.whole());
    else text += text_in(item, "name");
  }
  return text;
}

// "name  value" lines, those that have a value.
class Lines {
 public:
  void add(std::string name, std::string value) {
    if (!value.empty()) lines_.emplace_back(std::move(name), std::move(value));
  }
  std::string text(const Style& style) const {
    Table table({{}, {}});
    for (const auto& [name, value] : lines_) table.row({fmt::format("{}{}", kIndent, name), value});
    Style whole = style;
    whole.columns = 0;  // a formula that is cut off is none
    return lines_.empty() ? "" : table.text(whole);
  }

 private:
  std::vector<std::pair<std::string, std::string>> lines_;
};

std::string lesson_text(const Json& entry) {
  const Json& lesson = field(entry, "lesson");
  if (lesson.is_null()) return "";
  return fmt::format("{} ({})", text_in(lesson, "title"), text_in(lesson, "file"));
}

std::string place_text(const Json& place) {
  return fmt::format("{}:{}", text_in(place, "file"), whole_in(place, "line"));
}

// "[batch 1, position 5, head 4, feature 64]"
std::string shape_text(const Json& entry) {
  const Json &axes = field(entry, "axes"), &shape = field(entry, "shape");
  if (axes.list_items() == nullptr) return "";
  std::string text;
  for (std::size_t i = 0; i < axes.list_items()->size(); ++i) {
    text += (i > 0 ? ", " : "") + *(*axes.list_items())[i].text();
    if (shape.list_items() != nullptr)
      text += fmt::format(" {}", (*shape.list_items())[i].whole().value_or(0));
  }
  return "[" + text + "]";
}

std::string layers_text(const Json& layers) {
  if (layers.list_items() == nullptr || layers.list_items()->empty()) return "";
  const auto& list = *layers.list_items();
  const auto first = *list.front().whole(), last = *list.back().whole();
  if (list.size() == 1) return fmt::format("{}", first);
  if (last - first + 1 == std::ssize(list)) return fmt::format("{} to {}", first, last);
  return joined(layers);
}

std::string flops_amount(std::int64_t flops) {
  if (flops < 1'000'000) return fmt::format("{} FLOP", grouped(flops));
  const auto amount = static_cast<double>(flops);
  return flops < 1'000'000'000 ? fmt::format("{:.1f} MFLOP", amount / 1e6)
                               : fmt::format("{:.2f} GFLOP", amount / 1e9);
}

// ---- kinds ----------------------------------------------------------------------------------------
std::string verb_text(const Json& entry, const Style& style) {
  Lines lines;
  const std::string python = text_in(entry, "python");
  lines.add("in Python",
            python.starts_with("Model.") || python.empty() ? python : "vitrine." + python);
  lines.add("in C++", text_in(entry, "library"));
  lines.add("the verb", text_in(entry, "file"));
  lines.add("lesson", lesson_text(entry));
  lines.add("options", fmt::format("vitrine {} --help", text_in(entry, "name")));
  std::string example = text_in(entry, "example");
  std::string text = lines.text(style);
  if (!example.empty()) text += fmt::format("\n{}{}\n", kIndent, example);
  return text;
}

std::string term_text(const Json& entry, const Style& style) {
  Lines lines;
  const std::string names = joined(field(entry, "names"));
  if (names != text_in(entry, "name")) lines.add("names", names);
  lines.add("source", text_in(entry, "source"));
  lines.add("lesson", lesson_text(entry));
  std::string text = lines.text(style);
  if (const std::string command = text_in(entry, "command"); !command.empty())
    text += fmt::format("{}{}{}\n", text.empty() ? "" : "\n", kIndent, command);
  return text;
}

std::string op_text(const Json& entry, const Style& style) {
  Lines lines;
  const Json& model = field(entry, "in_model");
  const std::int64_t count = whole_in(model, "count"), expanded = whole_in(model, "expanded");
  lines.add("formula", text_in(entry, "formula"));
  lines.add("is", text_in(entry, "is"));
  lines.add("gradient", text_in(entry, "gradient"));
  lines.add("computed", text_in(entry, "file"));
  lines.add("lesson", lesson_text(entry));
  std::vector<std::string> where;
  if (count > 0) where.push_back(fmt::format("{} times in a forward pass", count));
  if (expanded > count)
    where.push_back(fmt::format("{} when what lies inside other ops is asked for", expanded));
  if (const auto more = whole_in(model, "backward"); more > 0)
    where.push_back(fmt::format("{}{} for a gradient", more, where.empty() ? "" : " more"));
  lines.add("in the model",
            where.empty() ? "nowhere in this one" : fmt::format("{}", fmt::join(where, "; ")));
  if (whole_in(model, "flops") > 0)
    lines.add("cost", fmt::format("{}, {} of the pass", flops_amount(whole_in(model, "flops")),
                                  percent(field(model, "share").number().value_or(0))));
  std::string text = lines.text(style);
  if (count == 0) return text;
  using Align = Table::Align;
  Table places({{"  times", Align::right}, {"emitted at", {}}, {"in", {}}, {"types", {}}});
  for (const Json& place : *field(model, "places").list_items())
    places.row({fmt::format("{}", whole_in(place, "count")), place_text(place),
                text_in(place, "scope"), text_in(place, "type")});
  return text + "\n" + places.text(style);
}

std::string token_text(const Json& str_tokens, std::size_t position) {
  return fmt::format("\"{}\"", visible(*(*str_tokens.list_items())[position].text()));
}

// Where the largest number is: `position 3 " Texas", head 2, feature 17`.
std::string where_text(const Json& largest, const Json& str_tokens) {
  std::string text;
  for (const char* axis : {"position", "query", "key", "head", "feature", "other"}) {
    const auto place = field(largest, axis).whole();
    if (!place) continue;
    text += fmt::format("{}{} {}", text.empty() ? "" : ", ", axis, *place);
    const std::string_view name = axis;
    if (name != "position" && name != "query" && name != "key") continue;
    if (str_tokens.list_items() != nullptr)
      text += fmt::format(" {}", token_text(str_tokens, static_cast<std::size_t>(*place)));
  }
  return text;
}

void add_spread(std::vector<std::string> row, const Json& spread, const Json& str_tokens,
                Table& table) {
  for (const char* name : {"mean", "deviation", "least", "most", "length"})
    row.push_back(number_text(spread, name));
  const auto zeros = field(spread, "zeros").number();
  row.push_back(zeros ? percent(*zeros) : "");
  const Json& largest = field(spread, "largest");
  row.push_back(number_text(largest, "value"));
  row.push_back(where_text(largest, str_tokens));
  table.row(std::move(row));
}

std::string values_text(const Json& values, const Json& str_tokens, const Style& style) {
  using Align = Table::Align;
  const std::vector<Table::Column> spread = {{"mean", Align::right},    {"deviation", Align::right},
                                             {"least", Align::right},   {"most", Align::right},
                                             {"length", Align::right},  {"zeros", Align::right},
                                             {"largest", Align::right}, {"where", {}}};
  const auto& rows = *values.list_items();
  std::vector<Table::Column> columns = {{rows.size() > 1 ? "  layer" : "", Align::right}};
  columns.insert(columns.end(), spread.begin(), spread.end());
  Table table(columns);
  std::int64_t hidden = 0;
  for (const Json& row : rows) {
    hidden += whole_in(row, "hidden");
    add_spread({rows.size() > 1 ? fmt::format("{}", whole_in(row, "layer")) : "  all"}, row,
               str_tokens, table);
  }
  std::string text = table.text(style);
  if (hidden > 0)
    text += fmt::format("{}{} numbers are -inf, keys that are not seen; they count in nothing\n",
                        kIndent, grouped(hidden));
  const Json& positions = field(rows.front(), "positions");
  if (rows.size() > 1 || positions.list_items() == nullptr) return text;
  columns[0] = {"  pos", Align::right};
  columns.insert(columns.begin() + 1, {"token", {}});
  Table each(columns);
  std::size_t p = 0;
  for (const Json& position : *positions.list_items()) {
    std::string token;
    if (str_tokens.list_items() != nullptr) token = token_text(str_tokens, p);
    add_spread({fmt::format("{}", p++), token}, position, str_tokens, each);
  }
  return text + "\n" + each.text(style);
}

// "z; 2.z in layer 2; 2.1.z of its head 1"
std::string typed_text(const Json& entry) {
  const std::string typed = text_in(entry, "typed");
  if (!text_in(entry, "name").starts_with("blocks.L.")) return typed;
  const Json& axes = field(entry, "axes");
  const bool heads = axes.list_items() != nullptr &&
                     std::any_of(axes.list_items()->begin(), axes.list_items()->end(),
                                 [](const Json& axis) { return *axis.text() == "head"; });
  return fmt::format("{0}; 2.{0}, of layer 2{1}", typed,
                     heads ? fmt::format("; 2.1.{}, of its head 1", typed) : "");
}

std::string site_text(const Json& entry, const Json& str_tokens, const Style& style) {
  Lines lines;
  const bool here = field(entry, "layers").list_items() != nullptr;
  lines.add("typed", typed_text(entry));
  lines.add("formula", text_in(entry, "formula"));
  lines.add("shape", shape_text(entry));
  if (!here) lines.add("here", "this model has no such site");
  lines.add("layers", layers_text(field(entry, "layers")));
  if (const auto head = field(entry, "head").whole()) lines.add("head", fmt::format("{}", *head));
  lines.add("made of", joined(field(entry, "from")));
  lines.add("weights", joined(field(entry, "weights")));
  lines.add("ops", joined(field(entry, "ops")));
  if (const std::string op = text_in(entry, "hidden_in"); !op.empty())
    lines.add("inside", fmt::format("the op {}, which is expanded when it is asked for", op));
  if (here) lines.add("computed", place_text(entry));
  lines.add("in C++", text_in(entry, "code"));
  lines.add("lesson", lesson_text(entry));
  std::string text = lines.text(style);
  if (field(entry, "values").list_items() != nullptr)
    text += "\n" + values_text(field(entry, "values"), str_tokens, style);
  return text;
}

}  // namespace

std::string entry_text(const Json& entry, const Json& str_tokens, const Style& style) {
  const std::string kind = text_in(entry, "kind"), summary = text_in(entry, "summary");
  std::string text = fmt::format("{} {}\n", kind, style.bold(text_in(entry, "name")));
  if (!summary.empty()) text += fmt::format("{}{}\n", kIndent, summary);
  text += "\n";
  if (kind == "verb") return text + verb_text(entry, style);
  if (kind == "term") return text + term_text(entry, style);
  if (kind == "op") return text + op_text(entry, style);
  return text + site_text(entry, str_tokens, style);
}

std::string list_text(const Json& entries, const Style& style) {
  std::string text;
  for (const char* kind : {"verb", "term", "op", "site"}) {
    Table table({{}, {}});
    bool any = false;
    for (const Json& entry : *entries.list_items()) {
      if (text_in(entry, "kind") != kind) continue;
      any = true;
      const std::string said = text_in(entry, "summary");
      table.row({fmt::format("{}{}", kIndent, text_in(entry, "name")),
                 said.empty() ? text_in(entry, "formula") : said});
    }
    if (any)
      text += (text.empty() ? "" : "\n") + style.bold(fmt::format("{}s", kind)) + "\n" +
              table.text(style);
  }
  return text;
}

}  // namespace vitrine::app
