// Max-activating examples of the features of an SAE: collected over a text for all features in one
// pass.
//
//   FeatureContexts c = collect_features(m, sae, "books.txt");
//   std::span<const nn::Peak> strongest = c.peaks.of(123);  // the strongest, one a line
//   c.samples_of(123);                                      // a fair sample of all activations
//
// Memory does not grow with the text: of each feature the strongest activations are kept, and a
// sample in which every activation had the same chance to be (Vitter 1985, "Random sampling with a
// reservoir", algorithm R).
#pragma once

#include <atomic>
#include <filesystem>
#include <functional>
#include <optional>
#include <span>
#include <vector>

#include "nn/text/peaks.h"
#include "sae/activations.h"
#include "sae/sae.h"

namespace vitrine::sae {

// How many contexts are kept of each feature, and how a text is read.
struct FeatureSpec {
  int contexts = 20;  // the strongest, kept of each feature
  int samples = 64;   // of all activations, kept of each feature
  std::optional<int> bos;
  bool special = false;
  std::int64_t tokens_together = 1024;
  const std::atomic<bool>* cancel = nullptr;
  std::function<void(std::int64_t tokens, std::int64_t total)> progress = {};
};

// The strongest contexts of all features over a text, and samples of their activations.
struct FeatureContexts {
  FeatureContexts(std::int64_t features, const FeatureSpec& spec);
  std::int64_t features() const { return static_cast<std::int64_t>(fired.size()); }
  double density(std::int64_t feature) const;  // fraction of tokens
  double mean(std::int64_t feature) const;     // of activations above 0
  std::span<const nn::Peak> samples_of(std::int64_t feature) const;

  nn::Peaks peaks;
  std::vector<std::int64_t> fired;  // [features]: tokens
  std::vector<double> sums;         // [features]: of activations
  std::int64_t tokens = 0, lines = 0;

 private:
  friend class FeaturePass;
  int samples_;
  std::vector<nn::Peak> reservoir_;  // [features, samples]
};

// `file` is text, a document a line, or .jsonl. Lines longer than the context are read in pieces.
// Throws what text_source throws, ConfigError for an SAE that does not say its site.
FeatureContexts collect_features(const nn::Model& model, const Sae& sae,
                                 const std::filesystem::path& file, const FeatureSpec& spec = {});

// Features of prompts: f32 [rows, d_sae], the prompts' tokens one after the other.
Tensor features_of(const nn::Model& model, const Sae& sae, const std::vector<nn::Tokens>& prompts);

// Another feature, by the cosine of the two decoder rows.
struct Neighbour {
  std::int64_t feature;
  double cosine;
};
// The features whose decoder rows point most in the same direction, the nearest first.
std::vector<Neighbour> neighbours(const Sae& sae, std::int64_t feature, int count);
// The same of many features at once, as products of matrices.
std::vector<std::vector<Neighbour>> neighbours(const Sae& sae,
                                               std::span<const std::int64_t> features, int count,
                                               ThreadPool& pool);
// Of each of `rows` [n, d] the `count` rows of `among` [m, d] with the largest cosine; without[i], where
// there is one, is left out for rows[i]. Rows of zeros have the cosine 0 with all.
std::vector<std::vector<Neighbour>> nearest_rows(const Tensor& rows, const Tensor& among, int count,
                                                 ThreadPool& pool,
                                                 std::span<const std::int64_t> without = {});

// The bins of equal width between 0 and the feature's strongest activation, the strongest first:
// which of the samples lie in each, and the share of all activations that they stand for.
struct Interval {
  double from, to, share;
  std::vector<nn::Peak> examples;
};
std::vector<Interval> intervals(const FeatureContexts& c, std::int64_t feature, int count);

}  // namespace vitrine::sae
