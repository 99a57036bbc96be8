#include "apps/experiment/pair_options.h"

#include <fmt/format.h>

#include "tensor/error.h"

namespace vitrine::app {

void PairOptions::add_to(CommandLine& line) {
  clean_.add_to(line);
  corrupt_.add_to(line);
  line.heading("Prompts");
  answer_.add_to(line, "what should follow the clean prompt: one token, with its\nleading space");
  wrong_.add_to(line, "what should follow the corrupt prompt");
  line.heading("Options");
  line.option("--direction", direction_, "denoise|noise",
              "denoise: the base run is corrupt; what restores the answer?\n"
              "noise: the base run is clean; what breaks it? (default: denoise)")
      ->one_of({"denoise", "noise"});
}

void PairOptions::add_file_to(CommandLine& line) {
  line.heading("Prompts");
  file_option_ = line.option(
      "--pairs", file_, "FILE",
      "instead of these: many pairs, one {\"clean\": ..., \"corrupt\": ...,\n"
      "\"answer\": ..., \"wrong\": ...} a line (- reads stdin); or by ids: clean_tokens,\n"
      "corrupt_tokens ([1, 2, 3]), answer_token, wrong_token (4)");
  line.without(
      "--prompts",
      "two runs are compared here, so a file has pairs of prompts; give it to --pairs: one "
      "{\"clean\": ..., \"corrupt\": ..., \"answer\": ..., \"wrong\": ...} a line, both "
      "prompts of as many tokens ('vitrine prompts --corrupt' writes such files)");
  line.heading("Options");
}

void PairOptions::add_groups_to(CommandLine& line) {
  line.option("--group-by", group_by_, "FIELD",
              "with --pairs: also means over the pairs that have the same text or number in this\n"
              "field of the file, of the same runs");
}

void PairOptions::require(const CommandLine& line, bool one_is_enough, const PromptsNeed& need) {
  if (from_file()) {
    if (clean_.given() || corrupt_.given() || answer_.given() || wrong_.given()) {
      line.fail(
          "give --pairs, or one pair by --clean, --corrupt, --answer and --wrong (or their ids), "
          "not both");
    }
    lines_.emplace(file_);
    return;
  }
  if (!group_by_.empty()) line.fail("--group-by is about the pairs of a file; give --pairs FILE");
  if (clean_.from_stdin() && corrupt_.from_stdin())
    line.fail("only one of --clean and --corrupt can come from stdin");
  // Before anything waits for stdin.
  if (need.answer || answer_.given()) answer_.require(line);
  if (need.wrong || wrong_.given()) wrong_.require(line);
  clean_.require(line);
  clean_alone_ = one_is_enough && !corrupt_.given();
  if (clean_alone_) direction_ = "noise";
  else corrupt_.require(line);
}

interp::Example PairOptions::example(const nn::Model& model) const {
  const bool text = clean_.by_text() || corrupt_.by_text() || answer_.by_text() || wrong_.by_text();
  if (text && !model.has_tokenizer()) {
    throw TokenError(model.why_no_tokenizer() +
                     "; give ids: --clean-tokens, --corrupt-tokens, --answer-token and "
                     "--wrong-token");
  }
  interp::Example e;
  e.prompt = clean_.tokens(model);
  e.corrupt = clean_alone_ ? e.prompt : corrupt_.tokens(model);
  if (answer_.given()) e.answers = {{answer_.id(model)}};
  if (wrong_.given()) e.wrongs = {{wrong_.id(model)}};
  if (answer_.given() && wrong_.given()) check_answers({{}, {}, e.answers[0][0], e.wrongs[0][0]});
  return e;
}

interp::Pair PairOptions::pair(const nn::Model& model) const {
  const interp::Example e = example(model);
  return {e.prompt, e.corrupt, e.answers[0][0], e.wrongs[0][0]};
}

std::vector<interp::Example> PairOptions::examples(const nn::Model& model, PromptsNeed need) {
  need.corrupt = true;
  return read_prompts(*lines_, model, clean_, need);
}

interp::Direction PairOptions::direction() const {
  return direction_ == "noise" ? interp::Direction::noise : interp::Direction::denoise;
}

interp::Pair pair_of(const interp::Example& e, const interp::MetricSpec& metric) {
  const auto token = [&](const std::vector<nn::Tokens>& answers, interp::MetricToken::Of of,
                         const char* what) {
    if (!metric.reads(of)) return 0;
    if (answers.size() == 1 && answers[0].size() == 1) return answers[0][0];
    throw Error(
        ErrorKind::input,
        fmt::format("line {}: this is measured of pairs with one {} of one token", e.line, what));
  };
  return {e.prompt, e.corrupt, token(e.answers, interp::MetricToken::Of::answer, "answer"),
          token(e.wrongs, interp::MetricToken::Of::wrong, "wrong answer")};
}

}  // namespace vitrine::app
