#include "apps/experiment/asked_prompts.h"

#include <fmt/format.h>

#include <algorithm>

#include "interp/readout.h"
#include "tensor/error.h"

namespace vitrine::app {
namespace {

std::optional<int> single_token(const std::vector<nn::Tokens>& answers, const char* what,
                                int line) {
  if (answers.empty()) return std::nullopt;
  if (answers.size() == 1 && answers[0].size() == 1) return answers[0][0];
  throw Error(ErrorKind::input,
              fmt::format("line {}: there are {}, but one logit is explained here: give one answer "
                          "of one token",
                          line,
                          answers.size() > 1
                              ? fmt::format("{} {}s", answers.size(), what)
                              : fmt::format("{} tokens in the {}", answers[0].size(), what)));
}

// The most probable tokens after the positions of those that have no answer.
void fill_answers(const nn::Model& model, std::vector<interp::Asked>& asked) {
  std::vector<std::size_t> open;
  std::vector<interp::Asked> without;
  for (std::size_t i = 0; i < asked.size(); ++i) {
    if (asked[i].answer) continue;
    open.push_back(i);
    without.push_back(asked[i]);
  }
  const auto prompts = interp::prompts_to_run(model, without);
  for (const auto& [begin, end] : interp::batches(prompts, interp::limits_of_logits(model))) {
    const Tensor logits =
        interp::logits_asked(model, std::span(without).subspan(begin, end - begin));
    for (std::size_t k = begin; k < end; ++k) {
      const Tensor of_prompt = logits.select(0, static_cast<std::int64_t>(k - begin));
      asked[open[k]].answer = interp::highest(of_prompt, 1)[0].id;
    }
  }
}

}  // namespace

AskedPrompts asked_prompts(const nn::Model& model, DataSetOptions& data,
                           const PromptOptions& encoding, const interp::Position& position,
                           EditOptions& edits, NoAnswer without) {
  AskedPrompts found;
  found.examples = data.examples(model, encoding);
  edits.know(found.examples);
  found.groups = data.groups(found.examples);
  for (const interp::Example& e : found.examples) {
    interp::Asked& one = found.asked.emplace_back();
    one.prompt = e.prompt;
    one.position = e.at(position);
    one.answer = single_token(e.answers, "answer", e.line);
    one.wrong = single_token(e.wrongs, "wrong answer", e.line);
    if (one.wrong && !one.answer)
      throw Error(ErrorKind::input,
                  fmt::format("line {}: there is a wrong answer and no right one", e.line));
  }
  if (without == NoAnswer::most_probable) fill_answers(model, found.asked);
  return found;
}

std::vector<std::string> answers_text(const nn::Model& model,
                                      const std::vector<interp::Asked>& asked) {
  std::vector<std::string> texts;
  for (const interp::Asked& a : asked) {
    std::string text = a.answer ? token_label(tokenizer_of(model), *a.answer) : "";
    if (a.wrong) text += " - " + token_label(tokenizer_of(model), *a.wrong);
    texts.push_back(std::move(text));
  }
  return texts;
}

bool any_wrong(const std::vector<interp::Asked>& asked) {
  return std::any_of(asked.begin(), asked.end(), [](const interp::Asked& a) { return a.wrong; });
}

}  // namespace vitrine::app
