// A pair of prompts and the two answers between which they decide, or a file of such pairs: for the
// verbs that explain the difference.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <vector>

#include "apps/experiment/prompts_file.h"
#include "apps/options/options.h"
#include "interp/patching.h"

namespace vitrine::app {

// Two prompts that differ in what decides between two answers, and the direction between them: for
// the verbs that explain the difference. Or many such pairs, from a file.
class PairOptions {
 public:
  PairOptions() = default;
  PairOptions(const PairOptions&) = delete;
  PairOptions& operator=(const PairOptions&) = delete;

  void add_to(CommandLine& line);
  void add_file_to(CommandLine& line);    // --pairs
  void add_groups_to(CommandLine& line);  // --group-by, after it
  // Throws Error (usage) for what is missing or given twice; `need` says which answers must be
  // there. Reads stdin if that is wanted, and the file. `one_is_enough`: without a corrupt prompt
  // the clean one stands for both, and is the base run.
  void require(const CommandLine& line, bool one_is_enough = false,
               const PromptsNeed& need = {.answer = true, .wrong = true});
  bool from_file() const { return file_option_ != nullptr && file_option_->count() > 0; }
  // Throws TokenError for an answer that is not one token, and for answers that are the same.
  interp::Example example(const nn::Model& model) const;  // with the answers that were given
  interp::Pair pair(const nn::Model& model) const;        // with both
  // Those of the file, once. Throws what read_prompts throws (prompts_file.h).
  std::vector<interp::Example> examples(const nn::Model& model, PromptsNeed need);
  interp::Direction direction() const;
  const std::string& group_by() const { return group_by_; }  // "": not asked for
  // By --group-by; one group of all, called "", without it. Throws what interp::grouped throws.
  std::vector<interp::PromptGroup> groups(std::span<const interp::Example> examples) const {
    return interp::grouped(examples, group_by_);
  }

 private:
  PromptOptions clean_{"clean", &corrupt_}, corrupt_{"corrupt"};
  TokenOptions answer_{"answer"}, wrong_{"wrong"};
  std::string direction_ = "denoise", file_, group_by_;
  bool clean_alone_ = false;
  std::optional<JsonLines> lines_;
  const Option* file_option_ = nullptr;
};

// The pair of an example. Of the answers that the metric reads each must be one token, else Error
// (input), naming the line; those that it does not read are 0.
interp::Pair pair_of(const interp::Example& example, const interp::MetricSpec& metric);

}  // namespace vitrine::app
