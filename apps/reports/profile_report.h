// Profiles over many prompts: numbers along one axis (layers, parts, heads, neurons) that every
// prompt has, as means with standard errors, of all prompts and by group.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "apps/options/result_files.h"
#include "apps/terminal/output.h"
#include "interp/data/data_set.h"
#include "nn/model/model.h"
#include "tensor/files/safetensors.h"

namespace vitrine::app {

struct ProfileReport {
  struct Column {
    std::string name;          // a key of JSON and the name of a tensor: "share"
    std::vector<Tensor> each;  // of every prompt, f64 [labels]; NaN where one has none
    int digits = 3;
    std::string title{};  // for people, where that is another one
  };
  // An axis of the tensors, and what stands for 0, 1, ... along it.
  struct TensorAxis {
    std::string name;
    std::vector<std::string> places;
  };

  const nn::Model& model;
  std::span<const interp::Example> examples;
  std::span<const interp::PromptGroup> groups;
  std::string field;  // what they are grouped by; "" for nothing
  std::string axis;   // what the labels are: "part", a key of JSON with an s behind it
  std::vector<std::string> labels;
  std::vector<Column> columns;
  // How many labels people are shown: those with the largest |mean| of the first column, or of any.
  // 0: all, in their order.
  int top = 0;
  bool by_any_column = false;
  bool each = false;       // in the text: also a line for each prompt
  std::string heading{};   // above the tables
  std::string question{};  // of each prompt, in its line: its answer, say
  std::vector<std::string> questions{};
  // The axes of the tensors, in which the labels lie row by row ({"layer", ...}, {"head", ...});
  // none: one axis of all labels.
  std::vector<TensorAxis> tensor_axes{};

  std::string text(const Style& style) const;
  std::string tables(const Style& style) const;  // without what stands above
  // {AXISs: [label], all: {prompts, NAME: {mean, standard_error, count}}, group_by, groups: [{name,
  // prompts, NAME}], prompts: [{line, tokens, str_tokens, NAME: [...]}]}
  Json json() const;
  // NAME [labels] (or along tensor_axes), NAME/standard_error, NAME/count; NAME/each [prompt, ...];
  // with groups group/GROUP/NAME and so on.
  NamedTensors tensors() const;
  AxisNames axis_names() const;

 private:
  interp::PromptGroup all() const { return interp::all_prompts(examples.size()); }
  interp::Statistics statistics_of(const Column& c, const interp::PromptGroup& group) const;
  std::vector<double> sizes(const interp::PromptGroup& group) const;  // what labels are ranked by
  std::vector<std::size_t> shown(const interp::PromptGroup& group) const;
  Shape tensor_shape() const;
  std::string table(const interp::PromptGroup& group, const Style& style) const;
  std::string each_text(const Column& c, const Style& style) const;
};

}  // namespace vitrine::app
