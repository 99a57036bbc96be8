// vitrine attention: where does each token look?
#include "interp/attention.h"

#include <fmt/format.h>

#include <algorithm>
#include <numeric>

#include "apps/experiment/data_set_options.h"
#include "apps/experiment/edit_options.h"
#include "apps/options/options.h"
#include "apps/pages/page.h"
#include "apps/reports/patch_report.h"
#include "apps/reports/profile_report.h"
#include "apps/terminal/heatmap.h"
#include "apps/terminal/run.h"
#include "apps/verbs/verbs.h"
#include "nn/families/sites.h"
#include "tensor/files/safetensors.h"

namespace vitrine::app {
namespace {

struct KeyWeight {
  std::int64_t position = 0;
  double weight = 0;
};

struct Report {
  const nn::Model& model;
  const nn::Tokens& tokens;
  int layer = 0;
  std::vector<int> heads;
  Tensor pattern;  // [head, query, key], of these heads
  int top = 3;

  std::int64_t positions() const { return std::ssize(tokens); }
  std::string token(std::int64_t position) const {
    return token_label(tokenizer_of(model), tokens[static_cast<std::size_t>(position)]);
  }
  double weight(std::int64_t head, std::int64_t query, std::int64_t key) const {
    return pattern.at<float>({head, query, key});
  }
  // The sources that a query attends to most; of equal ones the first.
  std::vector<KeyWeight> sources(std::int64_t head, std::int64_t query) const {
    std::vector<KeyWeight> all;
    for (std::int64_t k = 0; k <= query; ++k) all.push_back({k, weight(head, query, k)});
    std::stable_sort(all.begin(), all.end(),
                     [](const KeyWeight& a, const KeyWeight& b) { return a.weight > b.weight; });
    all.resize(std::min(all.size(), static_cast<std::size_t>(top)));
    return all;
  }
};

// ---- for people ---------------------------------------------------------------------------------
constexpr std::int64_t kMostRows = 40;

std::string source_text(const Report& r, const KeyWeight& s) {
  return fmt::format("{} {} {:.0f}%", s.position, r.token(s.position), 100 * s.weight);
}

std::string matrix(const Report& r, std::int64_t head, std::int64_t first, const Style& style,
                   int columns) {
  Heatmap map{{{"from", {}}, {"token", {}}}, {}, {}};
  for (std::int64_t k = 0; k < r.positions(); ++k) {
    map.titles[0].columns.push_back(fmt::format("{}", k));
    map.titles[1].columns.push_back(r.token(k));
  }
  for (std::int64_t q = first; q < r.positions(); ++q) {
    map.rows.push_back(fmt::format("{} {}", q, r.token(q)));
    for (std::int64_t k = 0; k < r.positions(); ++k)
      map.cells.push_back(k > q ? 0 : r.weight(head, q, k));
  }
  map.signs = false;
  // As many lines as one looks through.
  constexpr std::size_t kMostLines = 60;
  map.most_blocks = std::max<std::size_t>(1, kMostLines / map.rows.size());
  return map.text(style, columns) + "\n";
}

std::string sources_table(const Report& r, std::int64_t first, const Style& style) {
  using Align = Table::Align;
  std::vector<Table::Column> columns = {{"pos", Align::right}, {"token", Align::left}};
  for (const int h : r.heads) columns.push_back({fmt::format("head {}", h), Align::left});
  Table table(columns);
  for (std::int64_t q = first; q < r.positions(); ++q) {
    std::vector<std::string> row = {fmt::format("{}", q), r.token(q)};
    for (std::int64_t h = 0; h < std::ssize(r.heads); ++h) {
      std::string cell;
      for (const KeyWeight& s : r.sources(h, q)) {
        if (s.weight < 0.005) break;
        cell += (cell.empty() ? "" : ", ") + source_text(r, s);
      }
      row.push_back(std::move(cell));
    }
    table.row(std::move(row));
  }
  return table.text(style);
}

std::string text(const Report& r, const Style& style, int columns) {
  const std::int64_t first = std::max<std::int64_t>(0, r.positions() - kMostRows);
  std::string text =
      style.bold(r.heads.size() == 1 ? fmt::format("layer {}, head {}", r.layer, r.heads[0])
                                     : fmt::format("layer {}, {} heads", r.layer, r.heads.size()));
  text += ": each token attends to itself and those before it; its weights add up to 1\n";
  if (first > 0) {
    text +=
        fmt::format("the last {} of {} tokens; --format json has all\n", kMostRows, r.positions());
  }
  text += "\n";
  if (r.heads.size() == 1)
    text += "a row for each token, a column for each that it looks at\n" +
            matrix(r, 0, first, style, columns);
  return text + "what each token looks at most\n" + sources_table(r, first, style);
}

// ---- for programs -------------------------------------------------------------------------------
AxisNames axis_names(const Report& r) {
  AxisNames names{.of = {{"pattern", {"head", "query", "key"}}}};
  for (const int head : r.heads) names.places["head"].push_back(fmt::format("{}", head));
  if (const nn::Tokenizer* t = tokenizer_of(r.model)) {
    names.labels["query"] = {"query_token", t->shown_tokens(r.tokens)};
    names.labels["key"] = {"key_token", t->shown_tokens(r.tokens)};
  }
  return names;
}

Json json(const Report& r) {
  const nn::Tokenizer* t = tokenizer_of(r.model);
  Json json = {{"tokens", r.tokens},
               {"str_tokens", t == nullptr ? Json() : Json(t->shown_tokens(r.tokens))},
               {"layer", r.layer},
               {"heads", r.heads},
               {"pattern", nested(r.pattern)}};
  json["top"] = Json::list();
  for (std::int64_t h = 0; h < std::ssize(r.heads); ++h) {
    Json of_head = Json::list();
    for (std::int64_t q = 0; q < r.positions(); ++q) {
      Json sources = Json::list();
      for (const KeyWeight& s : r.sources(h, q))
        sources.push_back({{"pos", s.position}, {"weight", s.weight}});
      of_head.push_back(std::move(sources));
    }
    json["top"].push_back(std::move(of_head));
  }
  return json;
}

// ---- the page -----------------------------------------------------------------------------------
// Patterns of more numbers than this are too many for a page: it has the layer that was asked for.
constexpr std::int64_t kMostWeights = 1'000'000;

Json page_data(const nn::Model& model, const Results& results) {
  Json layers = Json::list(), patterns = Json::list();
  for (int l = 0; l < model.config().layers; ++l) {
    if (!results.contains(site::pattern(l).name)) continue;
    layers.push_back(l);
    patterns.push_back(for_page(results[site::pattern(l)].select(0, 0), 4));
  }
  return {{"layers", layers}, {"patterns", patterns}};
}

// The layer alone, or, for a page, all of them.
Fetch patterns_for(const nn::Model& model, const nn::Tokens& tokens, int layer, bool page) {
  const auto positions = std::ssize(tokens);
  const bool all =
      page && model.config().layers * model.config().heads * positions * positions <= kMostWeights;
  return fetch(sites(all ? "*.hook_pattern" : site::pattern(layer).name));
}

// ---- the verb -----------------------------------------------------------------------------------
struct Options {
  CommonOptions common;
  EditOptions edits;
  PromptOptions prompt;
  DataSetOptions data;
  int layer = -1, head = -1, top = 3;  // -1: all
  std::string from = "-1", to;
};

void check_heads(const CommandLine& line, const Options& o, const nn::Config& config) {
  if (o.layer >= config.layers) {
    line.fail(fmt::format("--layer {}: this model has layers 0 to {}", o.layer, config.layers - 1));
  }
  if (o.head >= config.heads)
    line.fail(fmt::format("--head {}: each layer has heads 0 to {}", o.head, config.heads - 1));
}

void attention_of_prompt(const CommandLine& line, Options& o) {
  const CommonOptions& common = o.common;
  const Interruptible interruptible;
  const nn::Model model = common.load();
  const nn::Config& config = model.config();
  check_heads(line, o, config);
  const nn::Tokens tokens = o.prompt.tokens(model);
  const Results results =
      run_model(model, tokens, patterns_for(model, tokens, o.layer, !common.html.empty()),
                interruptible, common.quiet);
  const Tensor all = results[site::pattern(o.layer)].select(0, 0);  // [head, query, key]
  Report report{model, tokens, o.layer, {o.head}, all, o.top};
  if (o.head >= 0) {
    report.pattern = all.slice(0, o.head, o.head + 1).contiguous();
  } else {
    report.heads.resize(static_cast<std::size_t>(config.heads));
    std::iota(report.heads.begin(), report.heads.end(), 0);
  }
  write_presentation(
      common, common.meta(line),
      {.text = [&](const Style& style, int columns) { return text(report, style, columns); },
       .json = [&] { return json(report); },
       .tensors = [&]() -> NamedTensors {
         return {{"pattern", report.pattern}};
       },
       .metadata = {{"layer", o.layer}, {"heads", fmt::format("{}", fmt::join(report.heads, ","))}},
       .axes = axis_names(report),
       .page = "attention",
       .page_data = [&] { return page_data(model, results); }});
}

// Of many prompts, from one position to others: the weights of every head.
void attention_of_prompts(const CommandLine& line, Options& o) {
  const CommonOptions& common = o.common;
  interp::AttentionSpec spec{.layers = {}, .from = parse_positions(line, "--from", o.from)};
  if (spec.from.size() > 1)
    line.fail("--from is one position or role; the attention from others is another question");
  spec.to = parse_positions(line, "--to", o.to);
  const nn::Model model = common.load();
  check_heads(line, o, model.config());
  if (o.layer >= 0) spec.layers = {o.layer};
  const auto examples = o.data.examples(model, o.prompt);
  o.edits.know(examples);
  const auto groups = o.data.groups(examples);
  const auto each = interp::attention_between(model, examples, spec);  // [layer, head, 1, to]

  ProfileReport report{.model = model,
                       .examples = examples,
                       .groups = groups,
                       .field = o.data.group_by(),
                       .axis = "head",
                       .columns = {},
                       .top = o.top,
                       .by_any_column = true,
                       .each = o.data.each(),
                       .heading = fmt::format("attention from {} to {}, by the largest mean\n",
                                              spec.from[0].text(), o.to),
                       .tensor_axes = {{"layer", {}}, {"head", {}}}};
  const auto range = [](int one, int count) {
    std::vector<int> all = {one};
    if (one < 0) all.resize(static_cast<std::size_t>(count));
    if (one < 0) std::iota(all.begin(), all.end(), 0);
    return all;
  };
  const auto heads = range(o.head, model.config().heads);
  for (const int h : heads) report.tensor_axes[1].places.push_back(fmt::format("{}", h));
  for (const int l : range(o.layer, model.config().layers)) {
    report.tensor_axes[0].places.push_back(fmt::format("{}", l));
    for (const int h : heads) report.labels.push_back(fmt::format("{}.{}", l, h));
  }
  for (std::int64_t t = 0; t < std::ssize(spec.to); ++t) {
    const std::string to = spec.to[static_cast<std::size_t>(t)].text();
    report.columns.push_back({.name = "to_" + to, .each = {}, .title = "to " + to});
    for (const Tensor& of_prompt : each) {
      Tensor w = of_prompt.select(3, t).select(2, 0);  // [layer, head]
      if (o.head >= 0) w = w.slice(1, o.head, o.head + 1);
      report.columns.back().each.push_back(w.contiguous().reshape({std::ssize(report.labels)}));
    }
  }
  write_presentation(common, common.meta(line),
                     {.text = [&](const Style& style, int) { return report.text(style); },
                      .json =
                          [&] {
                            Json json = {{"from", spec.from[0].text()}, {"to", Json::list()}};
                            for (const interp::Position& p : spec.to)
                              json["to"].push_back(p.text());
                            json.update(report.json());
                            return json;
                          },
                      .tensors = [&] { return report.tensors(); },
                      .axes = report.axis_names()});
}

}  // namespace

void verb_attention(const Arguments& arguments) {
  CommandLine line(
      arguments,
      "Where each token of a prompt looks: the attention pattern of one head as a matrix, and\n"
      "the sources that each token attends to most, of one head or all heads of a layer. Or, of\n"
      "many prompts, how much every head attends from one position or role to others: means\n"
      "with standard errors over the prompts; to a role, the weights of all its tokens "
      "together.\n\n"
      "json: {meta, tokens, str_tokens, layer, heads, pattern, top, file}: pattern is\n"
      "[head][query][key], top [head][query][{pos, weight}], of the heads in `heads`. With\n"
      "--prompts: {meta, from, to, heads: [\"LAYER.HEAD\"], all: {prompts, to_POS: {mean,\n"
      "standard_error, count}, ...}, group_by, groups: [{name, ...}], prompts: [{line, tokens,\n"
      "str_tokens, to_POS}], file}: each of these numbers is a list, one for each head.\n",
      "vitrine attention --prompt 'The capital of Texas is' --layer 1 --head 2");
  Options o;
  constexpr int kMost = 1'000'000, kHeads = 10;
  o.prompt.add_to(line);
  o.data.add_to(line);
  line.heading("Many prompts");
  line.option("--from", o.from, "POS", "from which position or role (default: -1, the last)");
  line.option("--to", o.to, "POS,...", "to which, numbers or roles: a column for each");
  line.heading("Options");
  line.number("--layer", o.layer, "L", "the layer (default, of many prompts: all; of\na page: 0)",
              0, kMost);
  line.number("--head", o.head, "H", "one of its heads (default: all)", 0, kMost);
  auto* top = line.number("--top", o.top, "K",
                          "how many sources of each token are listed (default: 3), or, of many\n"
                          "prompts, how many heads (default: 10)",
                          1, kMost);
  o.edits.add_to(line, o.common);
  o.common.add_page_to(line);
  o.common.add_to(line,
                  "FILE.safetensors, .npz or .csv: the tensor pattern [head, query, key], besides\n"
                  "what goes to stdout; with --prompts to_POS [layer, head] and its\n"
                  "standard_error and count, to_POS/each [prompt, layer, head]; any other FILE:\n"
                  "the table or JSON, and not to stdout",
                  CommonOptions::Out::text_or_tensors);
  if (!line.parse()) return;
  o.data.require(line);
  if (o.data.given()) {
    if (o.to.empty())
      line.fail("there is no --to: to which positions or roles of the prompts do heads attend?");
    if (top->count() == 0) o.top = kHeads;
    if (!o.common.html.empty()) line.fail("--html is about one prompt; give --prompt TEXT");
    return attention_of_prompts(line, o);
  }
  for (const char* many : {"--from", "--to"}) {
    if (line.was_given(many))
      line.fail(fmt::format("{} is about the prompts of a file; give --prompts FILE", many));
  }
  if (o.layer < 0 && !o.common.html.empty()) o.layer = 0;
  if (o.layer < 0) line.fail("there is no layer; give --layer L");
  o.prompt.require(line);
  attention_of_prompt(line, o);
}

}  // namespace vitrine::app
