// What the page of `sae features` shows of all features: the list, and of each feature its contexts, histogram, tokens,
// nearest features and neurons, and what steering by it does.
#pragma once

#include <atomic>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "apps/pages/page.h"
#include "nn/model/model.h"
#include "sae/features/feature_traces.h"

namespace vitrine::app {

struct FeaturesPageSpec {
  std::filesystem::path corpus;        // "" for none
  sae::FeatureSpec text;               // with which it was read
  std::vector<std::int64_t> features;  // in the order of the list
  int window = 8, words = 8;           // tokens beside a peak; tokens raised and lowered
  bool writes = true;                  // decoder rows are added to the residual stream
  bool in_folder = false;              // larger blocks, each with its own texts
  nn::Tokens prompt;                   // of the steering preview; empty: there is none
  std::vector<std::int64_t> steered;   // the features that it is made of
  const std::atomic<bool>* cancel = nullptr;
};

// Data for the view "features".
struct FeaturesPage {
  Json data;  // without meta
  std::vector<PageChunk> chunks;
};
// `found` is null without a text.
FeaturesPage features_page(const nn::Model& model, const sae::Sae& sae,
                           const sae::FeatureContexts* found, const FeaturesPageSpec& spec);

}  // namespace vitrine::app
