// One prompt, one position of it, and the answer whose logit is explained there: for the verbs that
// take a prediction apart. Or many such prompts, from a file.
#pragma once

#include <optional>
#include <string>

#include "apps/experiment/asked_prompts.h"
#include "apps/options/options.h"

namespace vitrine::app {

// What is explained: logit[answer] after a position, or logit[answer] - logit[wrong].
struct Question {
  nn::Tokens prompt;
  std::int64_t position = 0;
  bool all_positions = false;
  int answer = 0;
  std::optional<int> wrong;

  std::string answer_text(const nn::Model& model) const;  // `" Austin"`, `" Austin" - " Houston"`
  // `The capital of Texas is`: the prompt up to the position, its end when it is long.
  std::string prompt_text(const nn::Model& model) const;
  // {tokens, str_tokens, position, answer: {id, token}, wrong}; texts are null without a tokenizer,
  // `wrong` without a wrong answer, the position where all are meant.
  Json json(const nn::Model& model) const;
};

class AnswerOptions {
 public:
  AnswerOptions() = default;
  // `--pos all` is one of the choices where `all` says so.
  void add_to(CommandLine& line, bool all = false);
  // Throws Error (usage) for what is missing, given twice, or no position. Reads stdin if that is
  // wanted.
  void require(const CommandLine& line);
  // Without --answer, the most probable token at the position. Throws TokenError and ContextError.
  Question question(const nn::Model& model) const;

  // Many prompts, and what is asked of each: see asked_prompts.
  bool many() const { return data_.given(); }
  AskedPrompts asked(const nn::Model& model, EditOptions& edits,
                     NoAnswer without = NoAnswer::most_probable) {
    return asked_prompts(model, data_, prompt_, at_, edits, without);
  }
  const DataSetOptions& data() const { return data_; }
  const interp::Position& position() const { return at_; }

 private:
  PromptOptions prompt_;
  TokenOptions answer_{"answer"}, wrong_{"wrong"};
  DataSetOptions data_;
  std::string position_;
  interp::Position at_;
  bool all_ = false;
};

}  // namespace vitrine::app
