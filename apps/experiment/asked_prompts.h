// Many prompts of a file, each asked at its position about its answer.
#pragma once

#include <string>
#include <vector>

#include "apps/experiment/data_set_options.h"
#include "apps/experiment/edit_options.h"
#include "interp/data/asked.h"

namespace vitrine::app {

struct AskedPrompts {
  std::vector<interp::Example> examples;
  std::vector<interp::Asked> asked;         // of each example
  std::vector<interp::PromptGroup> groups;  // by --group-by
};

// What is to become of a prompt without an answer.
enum class NoAnswer { most_probable, none };

// Reads the file, and asks each of its prompts at `position`. Throws what the file's reader throws;
// Error (input), naming the line, for an answer of several tokens and for several answers, which no
// single logit stands for; and ContextError for a position that a prompt does not have.
AskedPrompts asked_prompts(const nn::Model& model, DataSetOptions& data,
                           const PromptOptions& encoding, const interp::Position& position,
                           EditOptions& edits, NoAnswer without = NoAnswer::most_probable);

// `" Austin" - " Houston"`, of each prompt; "" where nothing is asked.
std::vector<std::string> answers_text(const nn::Model& model,
                                      const std::vector<interp::Asked>& asked);
bool any_wrong(const std::vector<interp::Asked>& asked);

}  // namespace vitrine::app
