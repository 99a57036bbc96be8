// Reports of the strongest neurons, on a prompt and over a text: for people and for programs.
#pragma once

#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "apps/terminal/output.h"
#include "interp/contexts.h"
#include "interp/data/data_set.h"
#include "interp/neurons.h"
#include "nn/model/model.h"
#include "nn/text/context_windows.h"

namespace vitrine::app {

struct StrongNeuronsReport {
  const nn::Model& model;
  const nn::Tokens& prompt;
  const interp::NeuronSpec& spec;
  const interp::StrongNeurons& found;

  std::string text(const Style& style) const;
  Json json() const;
};

// The strongest neurons over many prompts: of all of them, by group, and of each.
struct NeuronsOverReport {
  const nn::Model& model;
  std::span<const interp::Example> examples;
  std::span<const interp::Asked> asked;         // of each example
  std::span<const interp::PromptGroup> groups;  // the last one is that of all
  const interp::NeuronsByGroup& found;
  const interp::NeuronSpec& spec;
  std::string field, position;  // what they are grouped by; where they are asked
  bool each = false;

  std::string text(const Style& style) const;
  // {position, layer, all: {prompts, metric, neurons: [{layer, neuron, activation, effect, raised,
  // lowered}], stream: {layer, dimensions: [{dimension, value, effect}]}}, group_by, groups: [{name,
  // ...}], prompts: [{line, tokens, str_tokens, pos, answer, wrong, metric, neurons: [{layer, neuron,
  // activation, effect}]}]}; numbers over prompts are {mean, standard_error, count}.
  Json json() const;
  Json table() const;  // the neurons of all groups: [{group, layer, neuron, activation, effect}]

 private:
  bool effects() const { return asked[0].answer.has_value(); }
  std::string group_text(const interp::NeuronsOver& over, const Style& style) const;
  std::string each_text(const Style& style) const;
  Json group_json(Json named, std::size_t group) const;
};

// Contexts of the neurons of `rows` (of Contexts), with the text around the peaks.
struct ContextsReport {
  const nn::Model& model;
  const std::string& file;
  const interp::ContextsSpec& spec;
  const interp::Contexts& found;
  int layer;  // whose neurons they are, -1 for all
  std::vector<std::int64_t> rows;
  std::vector<nn::Window> windows;           // of all peaks of these, one after the other
  std::vector<interp::NeuronTokens> tokens;  // of these; none: not asked for

  std::string overview(std::string_view order, const Style& style) const;  // a line for each neuron
  std::string one(const Style& style) const;  // of a single neuron all that is known
  Json json() const;                          // without meta
  // The same, with meta, as text: a piece for each neuron.
  void write_json(const Json& meta, const std::function<void(std::string_view)>& write) const;
};

// ---- what both are made of ----------------------------------------------------------------------
// " Austin" +2.41, " Dallas" +1.90
std::string token_list(const nn::Model& model, const std::vector<interp::TokenValue>& tokens);
// [{id, token, value}]; token is null without a tokenizer.
Json tokens_json(const nn::Model& model, const std::vector<interp::TokenValue>& tokens);
// One line of text with the peak in bold, or in brackets; "…" where the line goes on.
std::string context_text(const nn::Model& model, const nn::Window& w, const Style& style);
Json token_text(const nn::Model& model, int id);  // null without a tokenizer

}  // namespace vitrine::app
