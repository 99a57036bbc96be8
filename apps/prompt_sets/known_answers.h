// What a model answers right, of many prompts.
#pragma once

#include <vector>

#include "apps/prompt_sets/prompt_sets.h"

namespace vitrine::app {

// Whether the right answers of each line are, together, more probable than the wrong ones after its
// prompt; without wrong ones, or with `top`, whether the most probable token is a right one. Prompts
// run in batches. Throws Error (usage) for lines without an answer, and for answers of several
// tokens.
std::vector<bool> knows_answers(const nn::Model& model, const std::vector<PromptLine>& lines,
                                bool top);

}  // namespace vitrine::app
