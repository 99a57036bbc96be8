// vitrine lens: what would the model say if it stopped after a layer?
#include "interp/lens.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "apps/experiment/answer_options.h"
#include "apps/experiment/edit_options.h"
#include "apps/pages/page.h"
#include "apps/reports/patch_report.h"
#include "apps/reports/profile_report.h"
#include "apps/terminal/heatmap.h"
#include "apps/verbs/verbs.h"
#include "tensor/files/safetensors.h"

namespace vitrine::app {
namespace {

struct Report {
  const nn::Model& model;
  const Question& question;
  const interp::Lens& lens;
  const std::vector<interp::LensTokens>& top;  // of one position, or of all

  std::int64_t stages() const { return lens.raw.dim(0); }
  static std::string stage(std::int64_t s) {
    return s == 0 ? "embedding" : fmt::format("layer {}", s - 1);
  }
  // [1 + layers] at the position, or [1 + layers, position].
  Tensor shown(const Tensor& values) const {
    return question.all_positions ? values : values.select(1, question.position).contiguous();
  }
};

// Of each stage from the one before; NaN for the first.
Tensor changes(const Tensor& values) {
  const Tensor out = Tensor::full(values.shape(), DType::f64, std::nan(""));
  const std::int64_t across = values.rank() == 1 ? 1 : values.dim(1);
  const auto x = values.to_vector<double>();
  for (std::int64_t i = across; i < values.numel(); ++i) {
    const auto k = static_cast<std::size_t>(i);
    out.data<double>()[i] = x[k] - x[k - static_cast<std::size_t>(across)];
  }
  return out;
}

std::string signed_number(double x) { return std::isnan(x) ? "" : fmt::format("{:+.3f}", x); }

std::string one_position(const Report& r, const Style& style) {
  const nn::Tokenizer* tokenizer = tokenizer_of(r.model);
  const auto raw = r.shown(r.lens.raw), ln = r.shown(r.lens.ln);
  const auto raw_change = changes(raw).to_vector<double>(),
             ln_change = changes(ln).to_vector<double>();
  using Align = Table::Align;
  Table table({{"after", Align::left},
               {"raw", Align::right},
               {"change", Align::right},
               {"ln", Align::right},
               {"change", Align::right},
               {"most probable next", Align::left}});
  for (std::int64_t s = 0; s < r.stages(); ++s) {
    const auto i = static_cast<std::size_t>(s);
    std::string words;
    for (const interp::LensToken& t : r.top[0][i]) {
      const std::string label = token_label(tokenizer, t.id);
      words += fmt::format("{}{} {}", words.empty() ? "" : "  ",
                           t.id == r.question.answer ? style.strong(label) : label,
                           style.dim(percent(t.probability)));
    }
    table.row({Report::stage(s), fmt::format("{:.3f}", raw.at<double>({s})),
               signed_number(raw_change[i]), fmt::format("{:.3f}", ln.at<double>({s})),
               signed_number(ln_change[i]), words});
  }
  return table.text(style);
}

std::string all_positions(const Report& r, const Style& style, int columns) {
  const nn::Tokenizer* tokenizer = tokenizer_of(r.model);
  Heatmap map{{{"pos", {}}, {"token", {}}}, {}, r.lens.ln.to_vector<double>()};
  Heatmap words{map.titles, {}, {}};
  const auto positions = std::ssize(r.question.prompt);
  for (std::int64_t p = 0; p < positions; ++p) {
    map.titles[0].columns.push_back(fmt::format("{}", p));
    map.titles[1].columns.push_back(
        token_label(tokenizer, r.question.prompt[static_cast<std::size_t>(p)]));
  }
  for (std::int64_t s = 0; s < r.stages(); ++s) map.rows.push_back(Report::stage(s));
  std::string text = "logit through the final norm\n" + map.text(style, columns) + "\n";

  text += "most probable next token\n";
  std::vector<Table::Column> titles = {{"pos", Table::Align::right}, {"token", Table::Align::left}};
  for (std::int64_t s = 0; s < r.stages(); ++s)
    titles.push_back({s == 0 ? "embedding" : fmt::format("{}", s - 1), Table::Align::left});
  Table table(titles);
  for (std::int64_t p = 0; p < positions; ++p) {
    const auto i = static_cast<std::size_t>(p);
    std::vector<std::string> row = {fmt::format("{}", p), map.titles[1].columns[i]};
    for (const auto& stage : r.top[i]) row.push_back(token_label(tokenizer, stage[0].id));
    table.row(std::move(row));
  }
  return text + table.text(style);
}

std::string text(const Report& r, const Style& style, int columns) {
  std::string text = fmt::format("`{}` → logit {}\n", style.bold(r.question.prompt_text(r.model)),
                                 style.strong(r.question.answer_text(r.model)));
  text += gauge_text(r.model, true) +
          "raw: the stream times W_U, whose changes add up; ln: through the final norm with\n"
          "the scale of that layer, as the model would say it, whose changes do not\n\n";
  return text +
         (r.question.all_positions ? all_positions(r, style, columns) : one_position(r, style));
}

Json top_json(const Report& r, const interp::LensTokens& stages) {
  Json list = Json::list();
  for (const auto& stage : stages) {
    Json tokens = Json::list();
    for (const interp::LensToken& t : stage) {
      Json token = token_json(r.model, t.id);
      token["logit"] = t.logit;
      token["prob"] = t.probability;
      tokens.push_back(std::move(token));
    }
    list.push_back(std::move(tokens));
  }
  return list;
}

AxisNames axis_names(const Report& r) {
  AxisNames names{.of = {{"", {"stage"}}}};
  if (r.question.all_positions) names.of[""].emplace_back("pos");
  for (std::int64_t s = 0; s < r.stages(); ++s) names.places["stage"].push_back(Report::stage(s));
  if (const nn::Tokenizer* t = tokenizer_of(r.model))
    names.labels["pos"] = {"token", t->shown_tokens(r.question.prompt)};
  return names;
}

Json json(const Report& r) {
  Json json = r.question.json(r.model);
  json["stages"] = Json::list();
  for (std::int64_t s = 0; s < r.stages(); ++s) json["stages"].push_back(Report::stage(s));
  const Tensor raw = r.shown(r.lens.raw), ln = r.shown(r.lens.ln);
  json["raw"] = nested(raw);
  json["raw_change"] = nested(changes(raw));
  json["ln"] = nested(ln);
  json["ln_change"] = nested(changes(ln));
  Json top = Json::list();
  for (const auto& stages : r.top) top.push_back(top_json(r, stages));
  json["top"] = r.question.all_positions ? top : top[0];
  return json;
}

// ---- the page -----------------------------------------------------------------------------------
// All positions, whichever was asked for: {raw, ln: [stage][position], top: [position][stage][[id,
// probability, logit]], words: {id: text}}.
Json grid_for_page(const Report& r, int wanted) {
  constexpr std::int64_t kMostTokens = 40'000;  // of a long prompt fewer in each cell
  std::vector<std::int64_t> positions(r.question.prompt.size());
  std::iota(positions.begin(), positions.end(), 0);
  const std::int64_t cells = r.stages() * std::ssize(positions);
  const int count = static_cast<int>(std::clamp<std::int64_t>(kMostTokens / cells, 1, wanted));
  const nn::Tokenizer* t = tokenizer_of(r.model);
  Json top = Json::list(), words = t == nullptr ? Json() : Json::object();
  for (const auto& at : interp::lens_tokens(r.model, r.question.prompt, positions, count)) {
    Json stages = Json::list();
    for (const auto& stage : at) {
      Json tokens = Json::list();
      for (const auto& [id, logit, probability] : stage) {
        tokens.push_back(
            Json::list({id, std::round(probability * 1e6) / 1e6, std::round(logit * 1e3) / 1e3}));
        if (t != nullptr) words[fmt::format("{}", id)] = json_text(t->shown(id));
      }
      stages.push_back(std::move(tokens));
    }
    top.push_back(std::move(stages));
  }
  return {{"grid",
           {{"raw", for_page(r.lens.raw, 4)},
            {"ln", for_page(r.lens.ln, 4)},
            {"top", top},
            {"words", words}}}};
}

// ---- many prompts -------------------------------------------------------------------------------
void lens_of_prompts(const CommandLine& line, const CommonOptions& common, AnswerOptions& options,
                     EditOptions& edits) {
  const nn::Model model = common.load();
  const AskedPrompts many = options.asked(model, edits);
  const auto lenses = interp::logit_lens(model, many.asked, interp::LensRows::asked);
  ProfileReport report{.model = model,
                       .examples = many.examples,
                       .groups = many.groups,
                       .field = options.data().group_by(),
                       .axis = "stage",
                       .columns = {{"raw", {}}, {"ln", {}}},
                       .each = options.data().each(),
                       .question = "answer",
                       .questions = answers_text(model, many.asked)};
  const std::int64_t stages = 1 + model.config().layers;
  for (std::int64_t s = 0; s < stages; ++s) report.labels.push_back(Report::stage(s));
  for (const interp::Lens& lens : lenses) {
    report.columns[0].each.push_back(lens.ln.reshape({stages}));
    report.columns[1].each.push_back(lens.raw.reshape({stages}));
  }
  report.columns[0].name = "ln";
  report.columns[1].name = "raw";
  report.heading = fmt::format("the logit of each one's answer{} after position {}\n",
                               any_wrong(many.asked) ? " less that of the wrong one" : "",
                               options.position().text()) +
                   gauge_text(model, true) +
                   "ln: through the final norm with the scale of that layer; raw: the stream times "
                   "W_U\n";
  write_presentation(common, common.meta(line),
                     {.text = [&](const Style& style, int) { return report.text(style); },
                      .json = [&] { return report.json(); },
                      .tensors = [&] { return report.tensors(); },
                      .axes = report.axis_names()});
}

}  // namespace

void verb_lens(const Arguments& arguments) {
  CommandLine line(
      arguments,
      "The logit lens: the answer's logit, read from the residual stream after the embedding\n"
      "and after every layer, and what would be said there.\n\n"
      "json: {meta, tokens, str_tokens, position, answer: {id, token}, wrong, stages, raw,\n"
      "raw_change, ln, ln_change, top, file}: raw and ln have a number for each stage, the\n"
      "embedding first (its change is null); top: [stage][{id, token, logit, prob}]. With\n"
      "--pos all: raw, ln [stage][position], top [position][stage]. With --prompts: {meta, "
      "stages,\n"
      "all: {prompts, ln: {mean, standard_error, count}, raw}, group_by, groups: [{name, ...}],\n"
      "prompts: [{line, tokens, str_tokens, ln, raw}], file}\n",
      "vitrine lens --prompt 'The capital of Texas is' --answer ' Austin'");
  CommonOptions common;
  EditOptions edits;
  AnswerOptions options;
  int top = 3;
  options.add_to(line, true);
  auto* top_option =
      line.number("--top", top, "K",
                  "how many of the most probable tokens at each stage (default: 3)", 1, 1'000'000);
  edits.add_to(line, common);
  common.add_page_to(line);
  common.add_to(line,
                "FILE.safetensors, .npz or .csv: the tensors raw, ln [1 + layers] (with --pos all\n"
                "[1 + layers, position]), besides what goes to stdout; any other FILE: the table "
                "or JSON, and\n"
                "not to stdout",
                CommonOptions::Out::text_or_tensors);
  if (!line.parse()) return;
  options.require(line);
  if (options.many()) {
    if (top_option->count() > 0)
      line.fail("--top is about one prompt; of many, the answers' logits are shown");
    if (!common.html.empty()) line.fail("--html is about one prompt; give --prompt TEXT");
    return lens_of_prompts(line, common, options, edits);
  }

  const nn::Model model = common.load();
  const Question question = options.question(model);
  const interp::Lens lens =
      interp::logit_lens(model, question.prompt, question.answer, question.wrong);
  std::vector<std::int64_t> positions = {question.position};
  if (question.all_positions) {
    positions.resize(question.prompt.size());
    std::iota(positions.begin(), positions.end(), 0);
  }
  const auto tokens = interp::lens_tokens(model, question.prompt, positions, top);
  const Report report{model, question, lens, tokens};

  write_presentation(
      common, common.meta(line),
      {.text = [&](const Style& style, int columns) { return text(report, style, columns); },
       .json = [&] { return json(report); },
       .tensors = [&]() -> NamedTensors {
         return {{"raw", report.shown(lens.raw).to(DType::f32)},
                 {"ln", report.shown(lens.ln).to(DType::f32)}};
       },
       .axes = axis_names(report),
       .page = "lens",
       .page_data = [&] { return grid_for_page(report, std::max(top, 5)); }});
}

}  // namespace vitrine::app
