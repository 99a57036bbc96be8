// Options and output of verbs that continue a prompt.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "apps/options/options.h"
#include "apps/terminal/interrupt.h"
#include "nn/model/sampling.h"

namespace vitrine::app {

// How many tokens, and how each is chosen.
class SamplingOptions {
 public:
  void add_to(CommandLine& line);
  // After parsing. Throws Error (usage) for a setting out of range.
  void settle();

  const nn::Sampling& sampling() const { return sampling_; }
  // How many new tokens there may be: the default count gives way to the context, a count that was
  // asked for does not.
  int count(const nn::Model& model, const nn::Tokens& prompt) const;

 private:
  nn::Sampling sampling_;
  int max_tokens_ = 40;
  const Option* count_ = nullptr;
  const Option* temperature_ = nullptr;
  const Option* top_k_ = nullptr;
  const Option* top_p_ = nullptr;
};

struct Continuation {
  nn::Tokens tokens;   // new ones alone, without the end-of-text token
  bool ended = false;  // by the end-of-text token, rather than by the count

  // What the tokens say; null without a tokenizer.
  Json text(const nn::Model& model) const;
  const char* stopped() const { return ended ? "end of text" : "length"; }
};

// Draws are decided by the seed. After Ctrl-C it ends early: interruptible.check() throws then.
Continuation continue_prompt(const nn::Model& model, const nn::Tokens& prompt,
                             const SamplingOptions& options, std::uint64_t seed,
                             const Interruptible& interruptible,
                             const std::function<void(int id)>& on_token,
                             const Interventions& what = {});

// [{id, token, logit, prob}]; token is null without a tokenizer.
Json candidates_json(const nn::Tokenizer* tokenizer, const std::vector<nn::Candidate>& candidates);

}  // namespace vitrine::app
