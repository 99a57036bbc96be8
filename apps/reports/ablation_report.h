// What ablation found: parts of a model alone, in pairs, and in sets that grow.
#pragma once

#include <functional>
#include <span>
#include <string>
#include <vector>

#include "apps/options/result_files.h"
#include "apps/terminal/output.h"
#include "interp/ablation.h"
#include "tensor/files/safetensors.h"

namespace vitrine::app {

// What the reports of all three have in common.
struct AblationSetting {
  const nn::Model& model;
  std::span<const interp::Example> examples;
  std::span<const interp::AblationUnit> units;
  std::string of;  // heads, mlps, layers or features
  const interp::AblationSpec& spec;
  std::span<const interp::PromptGroup> groups;
  std::string field;  // what the prompts are grouped by; "" for nothing
  bool each = false;  // in the text: also a line for each prompt
  int top = 20;       // how many lines of a table, the strongest

  bool is_fraction() const { return spec.metric.name == "accuracy"; }
  std::string unit_title() const;  // "head"
  // A number of the metric: its mean with its standard error. `change`: with its sign.
  std::string number(std::span<const double> values, bool change = false) const;
  std::string plain(double x) const;  // a number of the metric alone
  // The lines above a table; `what` is what was done to the units, such as "one at a time".
  std::string heading(std::span<const double> clean, const std::string& what) const;
  // The line above the table of a group: "coast west, 3 prompts, clean 4.213 ± 0.105".
  std::string group_title(const interp::PromptGroup& group, std::span<const double> clean,
                          const Style& style) const;
  // A table for each group, under its title, and one of all; a single one without a field.
  std::string tables(
      std::span<const double> clean, const Style& style,
      const std::function<std::string(const interp::PromptGroup& group)>& table) const;
  // Adds group_by, and groups: [{name, prompts, clean, ...}], what `of_group` adds to each.
  void add_groups(Json& json, std::span<const double> clean,
                  const std::function<void(Json&, const interp::PromptGroup&)>& of_group) const;
  // {of, sets, action, metric: {name, clean: {mean, standard_error, count}}, runs, passes, pos,
  // units: [...]}
  Json json(const std::string& sets, std::span<const double> clean, int runs, int passes) const;
  Json unit_json(std::size_t unit) const;  // {unit, layer, head} and the like
  // {metric, change, fraction} of a run's metric by prompt; fraction is that of the clean metric,
  // null where that is 0.
  void add_to(Json& json, std::span<const double> clean, std::span<const double> metric) const;
  // Numbers of the units as a tensor: [layer, head], [layer] or [feature], with `lead` in front.
  Tensor tensor(const std::vector<double>& values, std::vector<std::int64_t> lead = {}) const;
  std::vector<std::string> axes() const;  // of such a tensor: {"layer", "head"}
  AxisNames axis_names(bool by_unit) const;
  // A line for each prompt: its clean metric and that of `count` runs, whose titles these are.
  std::string each_text(const std::vector<std::string>& titles, std::span<const double> clean,
                        const std::vector<std::vector<double>>& runs, const Style& style) const;
};

struct AblatedEachReport {
  const AblationSetting& setting;
  const interp::Ablated& found;

  std::string text(const Style& style) const;
  // Besides: units have {metric, change, fraction}; group_by, groups: [{name, prompts, clean, units:
  // [{unit, metric, change, fraction}]}]; prompts: [{line, tokens, str_tokens, clean, metric: [of
  // each unit]}]
  Json json() const;
  // effect, effect/standard_error, metric as the units are shaped; effect/each [prompt, ...];
  // metric/clean; group/NAME/effect, ...
  NamedTensors tensors() const;
  AxisNames axis_names() const;

 private:
  std::string table(const interp::PromptGroup& group, const Style& style) const;
};

struct AblatedPairsReport {
  const AblationSetting& setting;
  const interp::AblatedPairs& found;

  std::string text(const Style& style) const;
  // Besides: units have {metric, change, fraction}; pairs: [{units: [A, B], metric, change, fraction,
  // interaction}]; group_by, groups: [{name, prompts, clean, units, pairs}]
  Json json() const;
  // effect, interaction [unit, unit], and their standard errors; metric/clean; group/NAME/effect, ...
  NamedTensors tensors() const;
  AxisNames axis_names() const;

 private:
  std::string table(const interp::PromptGroup& group, const Style& style) const;
  void add_units_and_pairs(Json& json, const interp::PromptGroup& group) const;
};

struct GrownSetsReport {
  const AblationSetting& setting;
  const interp::GrownSets& found;
  interp::Growth growth;

  std::string text(const Style& style) const;
  // Besides: grow, begin: {metric, change, fraction}; steps: [{unit, layer, head, set: [UNIT],
  // metric, change, fraction, random: {mean, deviation, count, values}}]; group_by, groups: [{name,
  // prompts, clean, begin, steps}], what the same sets do to each group; prompts: [{line, tokens,
  // str_tokens, clean, begin, metric: [of each step]}]
  Json json() const;
  // greedy/metric, greedy/standard_error, greedy/units [step]; random/metric [step, set];
  // metric/clean, metric/begin; group/NAME/greedy/metric, ...
  NamedTensors tensors() const;
  AxisNames axis_names() const;

 private:
  std::vector<double> step(std::size_t s) const;  // [prompt]
  // [set]: the mean metric over the prompts of a group
  std::vector<double> random(std::size_t s, const interp::PromptGroup& group) const;
  std::string table(const interp::PromptGroup& group, const Style& style) const;
  void add_steps(Json& json, const interp::PromptGroup& group) const;
};

}  // namespace vitrine::app
