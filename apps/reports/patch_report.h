// Reports of patching sweeps, for people, for programs and as tensors: of one pair, and of many.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "apps/options/result_files.h"
#include "apps/terminal/heatmap.h"
#include "apps/terminal/output.h"
#include "interp/data/data_set.h"
#include "interp/patching.h"
#include "nn/model/model.h"
#include "tensor/files/safetensors.h"

namespace vitrine::app {

// The metric of the runs that normalised sweeps are fractions between.
struct MetricEnds {
  double clean = 0, corrupt = 0;
};

// `most`: how many of the strongest places are listed. `columns`: of the terminal. `ends`: where
// sweeps are normalised.
struct PatchReport {
  const nn::Model& model;
  const interp::Example& pair;
  const interp::SweepSpec& spec;
  const interp::PatchSweep& sweep;
  std::optional<MetricEnds> ends = {};

  std::string text(int most, const Style& style, int columns) const;
  Json json(int most) const;
  NamedTensors tensors() const;  // sweep, metric/clean, metric/corrupt
  Json labels() const;           // of each axis; null for a sweep that is not narrowed
  AxisNames axis_names() const;
};

struct PairsReport {
  const nn::Model& model;
  const std::vector<interp::Example>& pairs;
  const interp::SweepSpec& spec;
  const std::vector<interp::PatchSweep>& sweeps;
  bool each = false;  // in the text: also a line for each pair
  std::optional<MetricEnds> ends = {};
  std::vector<interp::PromptGroup> groups = {};  // none without a field
  std::string field = {};                        // what the pairs are grouped by
  const interp::SweepSummary summary = interp::summarise(sweeps);

  std::string text(int most, const Style& style, int columns) const;
  Json json(int most) const;
  // Those of one pair, as means; sweep/change, sweep/standard_error, sweep/count; and for each pair
  // pair/N/sweep, pair/N/clean, pair/N/corrupt; the means of groups as group/NAME/sweep, ...
  NamedTensors tensors() const;
  Json labels() const;
  AxisNames axis_names() const;

 private:
  interp::SweepSummary summary_of(const interp::PromptGroup& group) const;
};

// ---- what both are made of ----------------------------------------------------------------------

// A place of a sweep where the metric changes.
struct Strong {
  std::size_t index = 0;            // in row-major order
  std::vector<std::int64_t> place;  // along the axes
  double change = 0;
};
// The `most` largest changes, without those that are 0; along the first axis lie `layers`.
std::vector<Strong> strongest(const std::vector<double>& changes, const Shape& shape,
                              const std::vector<int>& layers, int most);
// The metric's change from the base run's.
std::vector<double> changes(const interp::PatchSweep& sweep);

// What stands at the places along the axes of a sweep (interp::PatchSweep::labels).
using AxisLabels = std::vector<std::vector<std::string>>;
// Of place `at` along an axis: its label, or its number where there are none. Along the first axis
// `at` is the layer itself, as in Strong.
std::string place_text(const AxisLabels& labels, std::size_t axis, std::int64_t at);
Json place_json(const AxisLabels& labels, std::size_t axis,
                std::int64_t at);            // a number, or a role
Json labels_json(const AxisLabels& labels);  // null where nothing but the layers is narrowed
// "narrowed to head 0, 2, pos subject, -1", a line, or nothing.
std::string narrowed_text(const interp::SweepSpec& spec);
// Adds labels and narrowed: {head, feature, pos, src}, those that are there, where a sweep is.
void add_narrowing(Json& json, const interp::SweepSpec& spec, const AxisLabels& labels);
bool is_position(std::string_view axis);
std::string base_name(const interp::SweepSpec& spec);   // corrupt, when denoising
std::string other_name(const interp::SweepSpec& spec);  // clean
std::string metric_number(double x);
// What is measured of one pair: `logit " Austin" - logit " Dallas"`.
std::string metric_text(const nn::Model& model, const interp::Pair& pair, interp::Measure measure);
std::string metric_text(const nn::Model& model, const interp::Example& pair,
                        const std::string& name);
std::string metric_name(const interp::SweepSpec& spec);  // "logit_diff", or the expression
// {name, clean, corrupt}, and of normalised sweeps the metric that 1 and 0 stand for.
Json metric_json(const interp::SweepSpec& spec, double clean, double corrupt,
                 const std::optional<MetricEnds>& ends);
// "; fractions: 0 is 1.234, 1 is 5.678", or nothing.
std::string ends_text(const std::optional<MetricEnds>& ends);
// " Texas" / " California": the tokens at a position.
std::string tokens_at(const nn::Model& model, const interp::Pair& pair, std::int64_t position);
std::string tokens_at(const nn::Model& model, const interp::Example& pair,
                      const interp::Span& positions);
// The positions of a pair's prompts at a place along an axis of positions.
interp::Span positions_at(const interp::Example& pair, const AxisLabels& labels, std::size_t axis,
                          std::int64_t at);
// The text of the tokens at these positions: `" Texas"`, `" New York"`.
std::string span_label(const nn::Model& model, const nn::Tokens& tokens,
                       const interp::Span& positions);
// What is put in the place of the base run's values.
std::string put_in(const interp::SweepSpec& spec, bool many);
// The line that says in which gauge the weights are: where that matters, or is not the usual one.
std::string gauge_text(const nn::Model& model, bool matters);
std::string runs_text(int runs, int passes, int without_effect);
// [layer, first axis] of changes; over further axes the largest of them.
std::string heatmap_text(const std::vector<std::string>& axes, const Shape& shape,
                         const std::vector<int>& layers, const std::vector<double>& changes,
                         std::vector<Heatmap::Titles> titles, const std::string& what,
                         const Style& style, int columns);

// The axes of a sweep over these layers, for CSV.
AxisNames sweep_axes(const std::vector<std::string>& axes, const std::vector<int>& layers,
                     const AxisLabels& labels);
Json as_list(const Shape& shape);
Json nested(const Tensor& values);  // lists within lists; null for NaN, whole numbers of i64
// {clean, corrupt, answer, wrong}: an answer is one token's id, or a list of lists of ids where there
// are several or several tokens; null where there is none. Texts are null without a tokenizer.
Json tokens_json(const interp::Example& pair);
Json tokens_json(const interp::Pair& pair);
Json str_tokens_json(const nn::Model& model, const interp::Example& pair);
Json str_tokens_json(const nn::Model& model, const interp::Pair& pair);

}  // namespace vitrine::app
