#include "apps/experiment/answer_options.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <charconv>

#include "interp/lens.h"
#include "tensor/error.h"

namespace vitrine::app {

// ---- what is explained --------------------------------------------------------------------------
std::string Question::answer_text(const nn::Model& model) const {
  const std::string text = token_label(tokenizer_of(model), answer);
  return wrong ? text + " - " + token_label(tokenizer_of(model), *wrong) : text;
}

std::string Question::prompt_text(const nn::Model& model) const {
  const auto end = all_positions ? prompt.end() : prompt.begin() + position + 1;
  return one_line(tokenizer_of(model), {prompt.begin(), end});
}

Json Question::json(const nn::Model& model) const {
  const nn::Tokenizer* t = tokenizer_of(model);
  return {{"tokens", prompt},
          {"str_tokens", t == nullptr ? Json() : Json(t->shown_tokens(prompt))},
          {"position", all_positions ? Json() : Json(position)},
          {"answer", token_json(model, answer)},
          {"wrong", wrong ? token_json(model, *wrong) : Json()}};
}

// ---- the options --------------------------------------------------------------------------------
void AnswerOptions::add_to(CommandLine& line, bool all) {
  all_ = all;
  prompt_.add_to(line);
  line.heading("Prompt");
  answer_.add_to(line,
                 "whose logit is explained: one token, with its leading space\n"
                 "(default: the most probable one)");
  wrong_.add_to(line, "another token: then the difference of the two logits is explained");
  line.option("--pos", position_, all ? "P|all" : "P",
              all ? "after which token of the prompt, from 0; negative ones count from the\n"
                    "end; of a file's prompts a role, too; or all (default: -1, the last)"
                  : "after which token of the prompt, from 0; negative ones count from the\n"
                    "end; of a file's prompts a role, too (default: -1, the last)");
  data_.add_to(line);
}

void AnswerOptions::require(const CommandLine& line) {
  data_.require(line);
  if (!many()) prompt_.require(line);
  if (answer_.given()) answer_.require(line);
  if (wrong_.given()) wrong_.require(line);
  if (many() && all_ && position_ == "all")
    line.fail("--pos all is about one prompt; of many, give a number or a role");
  if (position_.empty() || (all_ && position_ == "all")) return;
  at_ = interp::parse_position(position_);
  if (!at_.role.empty() && !many()) {
    line.fail(fmt::format("--pos is a position of the prompt, such as 3 or -1{}, not '{}'",
                          all_ ? ", or all" : "", position_));
  }
}

Question AnswerOptions::question(const nn::Model& model) const {
  Question q;
  q.prompt = prompt_.tokens(model);
  nn::check_prompts({q.prompt}, model.config());
  q.all_positions = position_ == "all";
  const std::int64_t given = at_.index;
  q.position = given < 0 ? given + std::ssize(q.prompt) : given;
  if (q.position < 0 || q.position >= std::ssize(q.prompt)) {
    throw ContextError(fmt::format("--pos {}: the prompt has {} tokens, 0 to {}", given,
                                   q.prompt.size(), std::ssize(q.prompt) - 1));
  }
  if (answer_.given()) {
    q.answer = answer_.id(model);
  } else {
    const Tensor logits = model.run(q.prompt).logits();  // [1, position, vocabulary]
    q.answer = interp::highest(logits.select(0, 0).select(0, q.position), 1)[0].id;
  }
  if (wrong_.given()) q.wrong = wrong_.id(model);
  interp::check_token(model, q.answer, "the answer");
  if (q.wrong) interp::check_token(model, *q.wrong, "the wrong answer");
  if (q.wrong && *q.wrong == q.answer) {
    throw TokenError(fmt::format("the answer and the wrong answer are the same token, {}",
                                 token_label(tokenizer_of(model), q.answer)));
  }
  return q;
}

}  // namespace vitrine::app
