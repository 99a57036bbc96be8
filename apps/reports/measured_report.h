// Metrics of many prompts: means by group, and each prompt with what the model would say.
#pragma once

#include <atomic>
#include <string>
#include <vector>

#include "apps/reports/data_set_report.h"
#include "interp/data/measure.h"

namespace vitrine::app {

// What was measured of each prompt: NaN where a prompt has no answer to measure it by.
struct MeasuredPrompts {
  std::vector<Quantity> quantities;
  std::vector<int> top;  // the most probable token after each prompt, and its probability
  std::vector<double> top_probability;
};

// The metrics with these names, of the prompts that have what they read, and `specs`, which all
// prompts must have. `plain`: the model without its edits, where it has some. From its runs KL is
// measured; and to each quantity comes NAME_change, what it is less what it is there, prompt by
// prompt: the error of its mean is that of a paired comparison, far less than those of the two
// means. Throws what interp::measure throws.
MeasuredPrompts measured_prompts(const nn::Model& model,
                                 const std::vector<interp::Example>& examples,
                                 const std::vector<std::string>& where_possible,
                                 const std::vector<interp::MetricSpec>& specs,
                                 const nn::Model* plain, const std::atomic<bool>& cancel,
                                 bool quiet);

struct MeasuredReport {
  const nn::Model& model;
  const std::vector<interp::Example>& examples;
  const std::vector<interp::PromptGroup>& groups;
  const MeasuredPrompts& measured;
  std::string group_by;
  bool each = false;  // in the text: also a line for each prompt

  std::string text(const Style& style) const;
  // {metrics: [NAME], all: ..., group_by, groups, prompts: [{line, tokens, str_tokens, answers,
  // wrongs, top: {id, token, prob}, NAME: ...}]}, the middle as GroupReport has it.
  Json json() const;
};

}  // namespace vitrine::app
