// vitrine predict: the most probable next tokens after a prompt.
#include <fmt/format.h>

#include "apps/options/continuation.h"
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

}  // namespace

void verb_predict(const Arguments& arguments) {
  CommandLine line(arguments,
                   "The most probable next tokens after a prompt.\n\n"
                   "json: {meta, tokens, str_tokens, top: [{id, token, logit, prob}]}; the texts\n"
                   "are null for a model without a tokenizer.\n",
                   "vitrine predict --prompt 'The capital of Texas is' --top 3");
  CommonOptions common;
  PromptOptions prompt;
  int top_count = 5;
  constexpr int kMost = 1'000'000;
  prompt.add_to(line);
  line.number("--top", top_count, "K", "how many tokens (default: 5)", 1, kMost);
  common.add_to(line);
  if (!line.parse()) return;
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
  if (!common.json()) {
    return write_result(common.out, table(tokenizer, tokens, top, common.style()));
  }
  Json json = {{"meta", common.meta(line)}, {"tokens", tokens}};
  json["str_tokens"] = tokenizer == nullptr ? Json() : Json(tokenizer->shown_tokens(tokens));
  json["top"] = candidates_json(tokenizer, top);
  write_result(common.out, to_line(json));
}

}  // namespace vitrine::app
