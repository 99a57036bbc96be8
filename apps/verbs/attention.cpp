// vitrine attention: where does each token look?
#include <fmt/format.h>

#include <algorithm>
#include <numeric>

#include "apps/experiment/edit_options.h"
#include "apps/options/options.h"
#include "apps/reports/patch_report.h"
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

}  // namespace

void verb_attention(const Arguments& arguments) {
  CommandLine line(
      arguments,
      "Where each token of a prompt looks: the attention pattern of one head as a matrix, and\n"
      "the sources that each token attends to most, of one head or all heads of a layer.\n\n"
      "json: {meta, tokens, str_tokens, layer, heads, pattern, top, file}: pattern is\n"
      "[head][query][key], top [head][query][{pos, weight}], of the heads in `heads`.\n",
      "vitrine attention --prompt 'The capital of Texas is' --layer 1 --head 2");
  CommonOptions common;
  EditOptions edits;
  PromptOptions prompt;
  int layer = 0, head = -1, top = 3;
  constexpr int kMost = 1'000'000;
  prompt.add_to(line);
  line.number("--layer", layer, "L", "the layer", 0, kMost)->required();
  auto* one = line.number("--head", head, "H", "one of its heads (default: all)", 0, kMost);
  line.number("--top", top, "K", "how many sources of each token are listed (default: 3)", 1,
              kMost);
  edits.add_to(line, common);
  common.add_to(line,
                "FILE.safetensors, .npz or .csv: the tensor pattern [head, query, key], besides\n"
                "what goes to stdout; any other FILE: the table or JSON, and not to stdout",
                CommonOptions::Out::text_or_tensors);
  if (!line.parse()) return;
  prompt.require(line);

  const Interruptible interruptible;
  const nn::Model model = common.load();
  const nn::Config& config = model.config();
  if (layer >= config.layers) {
    line.fail(fmt::format("--layer {}: this model has layers 0 to {}", layer, config.layers - 1));
  }
  if (one->count() > 0 && head >= config.heads)
    line.fail(fmt::format("--head {}: each layer has heads 0 to {}", head, config.heads - 1));
  const nn::Tokens tokens = prompt.tokens(model);
  const Results results =
      run_model(model, tokens, fetch(site::pattern(layer)), interruptible, common.quiet);
  const Tensor all = results[site::pattern(layer)].select(0, 0);  // [head, query, key]
  Report report{model, tokens, layer, {head}, all, top};
  if (one->count() > 0) {
    report.pattern = all.slice(0, head, head + 1).contiguous();
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
       .metadata = {{"layer", layer}, {"heads", fmt::format("{}", fmt::join(report.heads, ","))}},
       .axes = axis_names(report)});
}

}  // namespace vitrine::app
