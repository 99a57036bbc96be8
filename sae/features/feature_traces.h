// What a second pass over a text finds, once the strongest contexts of each feature are known
// (feature_contexts.h): how active a feature is at every token around them, and the histogram of all
// its activations, whose range is known only then.
//
//   FeatureContexts found = collect_features(m, sae, "books.txt");
//   std::vector<FeaturePlace> places = {{.feature = 123, .line = 4, .position = 17}};
//   FeatureTraces t = trace_features(m, sae, "books.txt", found, places, {.window = 8}, {});
//   t.around[0];        // of places[0]
//   t.counts_of(123);   // tokens in each of the bins of equal width from 0 to feature 123's peak
#pragma once

#include <span>
#include <utility>
#include <vector>

#include "sae/features/feature_contexts.h"

namespace vitrine::sae {

// A place at which a feature is looked at.
struct FeaturePlace {
  std::int64_t feature = 0, line = 0;  // of the file, from 1
  std::int32_t position = 0;
};

// How far around places one looks, and how fine histograms are.
struct TraceSpec {
  int window = 8;  // tokens on either side
  int bins = 24;
};

// What a second pass found: activations around the places, and histograms of all activations.
struct FeatureTraces {
  // Of each place the tokens near it at which its feature is active: how far from it, and how much.
  // The place itself is not among them.
  std::vector<std::vector<std::pair<std::int32_t, float>>> around;
  std::vector<std::int64_t> counts;  // [features, bins]
  int bins = 0;

  std::span<const std::int64_t> counts_of(std::int64_t feature) const {
    return {counts.data() + feature * bins, static_cast<std::size_t>(bins)};
  }
};

// `text` is the spec with which `found` was collected of the same file. Throws what
// collect_features throws.
FeatureTraces trace_features(const nn::Model& model, const Sae& sae,
                             const std::filesystem::path& file, const FeatureContexts& found,
                             std::span<const FeaturePlace> places, const TraceSpec& spec,
                             const FeatureSpec& text);

}  // namespace vitrine::sae
