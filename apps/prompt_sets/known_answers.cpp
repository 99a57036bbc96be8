#include "apps/prompt_sets/known_answers.h"

#include <algorithm>
#include <cmath>
#include <span>

#include "interp/data/asked.h"
#include "tensor/error.h"

namespace vitrine::app {
namespace {

void require_single(const std::vector<PromptLine>& lines) {
  const auto several = [](const nn::Tokens& answer) { return answer.size() != 1; };
  for (const PromptLine& line : lines) {
    if (line.answers.empty()) {
      throw Error(ErrorKind::usage,
                  "--known: there is no answer that the model could know; give --answer");
    }
    if (std::any_of(line.answers.begin(), line.answers.end(), several) ||
        std::any_of(line.wrongs.begin(), line.wrongs.end(), several)) {
      throw Error(ErrorKind::usage,
                  "--known asks for answers of one token; leave out the others by --single "
                  "answer,wrong");
    }
  }
}

// Of exp(logit - largest).
double mass(std::span<const float> logits, const std::vector<nn::Tokens>& answers, float largest) {
  double sum = 0;
  for (const nn::Tokens& answer : answers)
    sum += std::exp(static_cast<double>(logits[static_cast<std::size_t>(answer[0])]) - largest);
  return sum;
}

bool knows(std::span<const float> logits, const PromptLine& line, bool top) {
  const auto best = std::max_element(logits.begin(), logits.end());
  if (top || line.wrongs.empty()) {
    const nn::Tokens said = {static_cast<int>(best - logits.begin())};
    return std::find(line.answers.begin(), line.answers.end(), said) != line.answers.end();
  }
  return mass(logits, line.answers, *best) > mass(logits, line.wrongs, *best);
}

}  // namespace

std::vector<bool> knows_answers(const nn::Model& model, const std::vector<PromptLine>& lines,
                                bool top) {
  require_single(lines);
  std::vector<interp::Asked> asked;
  for (const PromptLine& line : lines) asked.push_back({.prompt = line.prompt});
  const auto prompts = interp::prompts_to_run(model, asked);
  std::vector<bool> known;
  for (const auto& [begin, end] : interp::batches(prompts, interp::limits_of_logits(model))) {
    const Tensor logits =
        interp::logits_asked(model, std::span(asked).subspan(begin, end - begin)).contiguous();
    const auto width = static_cast<std::size_t>(logits.dim(1));
    for (std::size_t i = begin; i < end; ++i)
      known.push_back(knows({logits.data<float>() + (i - begin) * width, width}, lines[i], top));
  }
  return known;
}

}  // namespace vitrine::app
