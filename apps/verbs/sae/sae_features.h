// The parts of `vitrine sae features`: of a prompt, and of features over a text.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "apps/experiment/edit_options.h"
#include "apps/options/options.h"
#include "interp/readout.h"
#include "sae/features/feature_contexts.h"

namespace vitrine::app {

struct SaeFeaturesOptions {
  CommonOptions common;
  EditOptions edits;
  PromptOptions prompt;
  std::string sae, corpus, sort = "peak", steered_prompt, names;
  int steered = 64;
  std::vector<std::int64_t> features;
  int position = -1, top = 10, contexts = 20, window = 8, words = 8;
};

// What one feature writes: which tokens it raises and lowers, read straight by the unembedding.
// Only of sites that are added to the residual stream, or are it.
struct FeatureWrites {
  std::vector<interp::TokenValue> raised, lowered;
};
bool writes_to_stream(const nn::Model& model, const sae::Sae& sae);
// Of each feature; nothing where the SAE does not write to the stream.
std::vector<FeatureWrites> writes_of(const nn::Model& model, const sae::Sae& sae,
                                     const std::vector<std::int64_t>& features, int count);

void features_on_prompt(const CommandLine& line, const SaeFeaturesOptions& o,
                        const nn::Model& model, const sae::Sae& sae);
void features_over_text(const CommandLine& line, const SaeFeaturesOptions& o,
                        const nn::Model& model, const sae::Sae& sae);

// How the text is read.
sae::FeatureSpec reading_of(const SaeFeaturesOptions& o, const nn::Model& model);
// Those that fired, in the order of --sort.
std::vector<std::int64_t> fired_features(const SaeFeaturesOptions& o,
                                         const std::optional<sae::FeatureContexts>& found);
// Writes the page of all features over a text (`found`), or of those that were asked for.
void write_features_page(const CommandLine& line, const SaeFeaturesOptions& o,
                         const nn::Model& model, const sae::Sae& sae,
                         const std::optional<sae::FeatureContexts>& found);

}  // namespace vitrine::app
