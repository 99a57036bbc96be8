// vitrine predict: the most probable next tokens after a prompt.
#include <fmt/format.h>

#include "apps/experiment/data_set_options.h"
#include "apps/experiment/edit_options.h"
#include "apps/experiment/metric_options.h"
#include "apps/options/continuation.h"
#include "apps/reports/measured_report.h"
#include "apps/terminal/run.h"
#include "apps/verbs/verbs.h"

namespace vitrine::app {
namespace {

// The prompt's tokens side by side, the last of them when there are many.
std::string token_row(const nn::Tokenizer* tokenizer, const nn::Tokens& tokens,
                      const Style& style) {
  constexpr std::size_t kMost = 24;
  const std::size_t first = tokens.size() > kMost ? tokens.size() - kMost : 0;
  std::string row;
  if (first > 0) row = style.dim(fmt::format("({} more) ", first));
  for (std::size_t i = first; i < tokens.size(); ++i) {
    row += token_label(tokenizer, tokens[i]) + (i + 1 < tokens.size() ? " " : "");
  }
  return row;
}

std::string table(const nn::Tokenizer* tokenizer, const nn::Tokens& tokens,
                  const std::vector<nn::Candidate>& top, const Style& style) {
  const std::string best =
      tokenizer == nullptr ? fmt::format("{}", top[0].id) : visible(tokenizer->shown(top[0].id));
  std::string text =
      fmt::format("`{}` → `{}`\n\n", style.bold(one_line(tokenizer, tokens)), style.strong(best));
  text += fmt::format(
      "{}  {}\n\n",
      style.dim(tokens.size() == 1 ? "1 token" : fmt::format("{} tokens", tokens.size())),
      token_row(tokenizer, tokens, style));

  constexpr int kBarWidth = 24;
  using Align = Table::Align;
  Table table({{"rank", Align::right},
               {"token", Align::left},
               {"id", Align::right},
               {"logit", Align::right},
               {"probability", Align::right},
               {"", Align::left}});
  for (std::size_t i = 0; i < top.size(); ++i) {
    const nn::Candidate& c = top[i];
    const std::string label = token_label(tokenizer, c.id);
    table.row({fmt::format("{}", i + 1), i == 0 ? style.strong(label) : label,
               fmt::format("{}", c.id), fmt::format("{:.3f}", c.logit), percent(c.probability),
               style.bar(bar(c.probability, kBarWidth))});
  }
  return text + table.text(style);
}

// Many prompts: how well they are predicted.
void predict_prompts(const CommandLine& line, const CommonOptions& common,
                     const PromptOptions& encoding, DataSetOptions& data,
                     const MetricOptions& metrics, EditOptions& edits) {
  const Interruptible interruptible;
  const nn::Model model = common.load();
  const auto examples = data.examples(model, encoding, needs_of(metrics.specs()));
  edits.know(examples);
  const auto groups = data.groups(examples);
  std::optional<nn::Model> plain;  // without the edits, if there are some
  if (line.was_given("--edit") || line.was_given("--edits")) plain.emplace(common.load_unedited());
  const MeasuredPrompts measured =
      measured_prompts(model, examples, {"logit_diff", "prob", "rank", "accuracy"}, metrics.specs(),
                       plain ? &*plain : nullptr, interruptible.requested(), common.quiet);
  const MeasuredReport report{model, examples, groups, measured, data.group_by(), data.each()};
  write_presentation(common, common.meta(line),
                     {.text = [&](const Style& style, int) { return report.text(style); },
                      .json = [&] { return report.json(); },
                      .tensors = {},
                      .rows = "prompts"});
}

}  // namespace

void verb_predict(const Arguments& arguments) {
  CommandLine line(
      arguments,
      "The most probable next tokens after a prompt; or, of many prompts, how well they\n"
      "predict their answers: means with standard errors over the prompts.\n\n"
      "json: {meta, tokens, str_tokens, top: [{id, token, logit, prob}], file};\n"
      "the texts are null for a model without a tokenizer. With --prompts: {meta, metrics: "
      "[NAME],\n"
      "all: {prompts, NAME: {mean, standard_error, count}, ...}, group_by, groups: [{name,\n"
      "prompts, NAME: ...}], prompts: [{line, tokens, str_tokens, answers, wrongs, top: {id,\n"
      "token, prob}, NAME: ...}], file}; with --edit also NAME_change, what the edits change,\n"
      "prompt by prompt\n",
      "vitrine predict --prompt 'The capital of Texas is' --top 3");
  CommonOptions common;
  EditOptions edits;
  PromptOptions prompt;
  DataSetOptions data;
  MetricOptions metrics;
  int top_count = 5;
  constexpr int kMost = 1'000'000;
  prompt.add_to(line);
  data.add_to(line, true);
  auto* top_option = line.number("--top", top_count, "K", "how many tokens (default: 5)", 1, kMost);
  metrics.add_to(line, "logit_diff, prob, rank and accuracy, of prompts with answers", true);
  edits.add_to(line, common);
  common.add_to(line,
                "FILE.csv: the tokens, or of many prompts a line for each, besides what goes to\n"
                "stdout; any other FILE: the table or JSON, and not to stdout",
                CommonOptions::Out::rows);
  if (!line.parse()) return;
  if (data.given() && top_option->count() > 0)
    line.fail("--top is about one prompt; of many, --each lists the first token");
  data.require(line);
  metrics.require();
  metrics.refuse_kl(line.was_given("--edit") || line.was_given("--edits"));
  if (data.given()) return predict_prompts(line, common, prompt, data, metrics, edits);
  if (metrics.given()) line.fail("--metric is about the prompts of a file; give --prompts FILE");
  prompt.require(line);

  const Interruptible interruptible;
  const nn::Model model = common.load();
  const nn::Tokens tokens = prompt.tokens(model);
  const Results results =
      run_model(model, tokens, fetch(value("logits")), interruptible, common.quiet);
  const Tensor logits = results["logits"];  // [1, position, vocabulary]
  const Tensor last = logits.select(0, 0).select(0, logits.dim(1) - 1).contiguous();
  const auto top =
      nn::top_tokens({last.data<float>(), static_cast<std::size_t>(last.numel())}, top_count);

  const nn::Tokenizer* tokenizer = model.has_tokenizer() ? &model.tokenizer() : nullptr;
  write_presentation(
      common, common.meta(line),
      {.text = [&](const Style& style, int) { return table(tokenizer, tokens, top, style); },
       .json =
           [&] {
             Json json = {{"tokens", tokens}};
             json["str_tokens"] =
                 tokenizer == nullptr ? Json() : Json(tokenizer->shown_tokens(tokens));
             json["top"] = candidates_json(tokenizer, top);
             return json;
           },
       .tensors = {},
       .rows = "top"});
}

}  // namespace vitrine::app
