// Results over many prompts: means with standard errors, of all prompts and by group.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "apps/terminal/output.h"
#include "interp/data/data_set.h"
#include "nn/model/model.h"

namespace vitrine::app {

// A number that each prompt has; NaN where one has none.
struct Quantity {
  std::string name;            // a key of JSON too: "logit_diff"
  std::vector<double> values;  // by prompt
  bool is_fraction = false;    // shown to people as a percentage
};
interp::Statistic statistic_of(const Quantity& quantity, const interp::PromptGroup& group);

// The line above the table of a group: "coast west, 3 pairs".
std::string group_heading(std::string_view field, const interp::PromptGroup& group,
                          std::string_view of, const Style& style);

// " at pos subject, -1"; "" for all positions.
std::string at_positions_text(std::span<const interp::Position> positions);
Json position_json(const interp::Position& position);              // -1, or "subject"
Json positions_json(std::span<const interp::Position> positions);  // ["subject", -1]; null for all

// "4.213"; a number that would round to 0 and is not as "3.5e-07", but for what is rounding alone.
std::string number_of_size(double x, int digits = 3);
// "4.213 ± 0.105"; "4.213" of a single number, "-" of none.
std::string mean_text(const interp::Statistic& s, bool is_fraction = false, int digits = 3);
// {mean, standard_error, count}; null where there is too little.
Json statistic_json(const interp::Statistic& s);
// The same of tensors: lists within lists.
Json statistics_json(const interp::Statistics& s);

// {line, tokens, str_tokens}: what lists of prompts begin with; texts are null without a tokenizer.
Json example_json(const nn::Model& model, const interp::Example& example);

// "3 prompts of 5 tokens", "5 prompts: 3 of 5 tokens, 2 of 6".
std::string prompts_text(std::span<const interp::Example> examples);

// Quantities by group, a line for each, and one for all when there are several. `field` is what
// they are grouped by, "" for nothing.
struct GroupReport {
  std::span<const interp::PromptGroup> groups;
  std::span<const Quantity> quantities;
  std::string field;

  std::string text(const Style& style) const;
  // {all: {prompts, NAME: {mean, standard_error, count}, ...}, group_by, groups: [{name, prompts,
  // NAME: ...}]}; group_by is null and there are no groups without a field.
  Json json() const;

 private:
  interp::PromptGroup all() const;
};

}  // namespace vitrine::app
