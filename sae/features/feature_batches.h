// A text's features, a batch after the other: what passes over a text are made of.
#pragma once

#include <filesystem>
#include <functional>
#include <vector>

#include "sae/features/feature_contexts.h"

namespace vitrine::sae {

struct FeatureBatch {
  struct Row {
    std::int64_t line;  // of the file, from 1
    std::int32_t position;
    std::int64_t at;  // in `features`
  };
  Tensor features;             // f32 [rows of the batch, d_sae]
  std::vector<Row> rows = {};  // those that count, in the order of the text
  std::int64_t lines = 0;      // that begin here
};

// Of `spec`, contexts and samples are not looked at. Throws what collect_features throws.
void for_each_batch(const nn::Model& model, const Sae& sae, const std::filesystem::path& file,
                    const FeatureSpec& spec, const std::function<void(const FeatureBatch&)>& visit);

// Visits every activation above 0; those of one feature in the order of the text, on one thread.
void for_each_active(
    const FeatureBatch& batch, ThreadPool& pool,
    const std::function<void(std::int64_t feature, const FeatureBatch::Row&, float)>& visit);

}  // namespace vitrine::sae
