// Sets of prompts that the field uses, for the model at hand.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "apps/prompt_sets/prompt_sets.h"

namespace vitrine::app {

// "capitals", "ioi", "induction", "greater-than".
const std::vector<std::string>& ready_sets();

struct ReadySet {
  std::string name;
  bool abc = false;  // of ioi: the corrupt prompt has three other names
  int length = 20;   // of induction: how many random tokens are repeated
  std::uint64_t seed = 0;
};
// Throws TokenError where the tokenizer lacks the tokens that a set is made of, ContextError for a
// length that the model has no context for.
std::unique_ptr<PromptDrafts> ready_drafts(const ReadySet& set, const nn::Model& model);

}  // namespace vitrine::app
