// Everything that decides what a training run computes. Together with the texts, it gives the same
// weights, bit for bit, on every number of threads.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "nn/families/config.h"
#include "nn/text/documents.h"
#include "nn/training/initial_weights.h"
#include "nn/training/schedule.h"
#include "nn/training/training_step.h"

namespace vitrine::nn {

struct TextSource {
  std::string file;   // text or JSONL: nn/text/documents.h
  double weight = 1;  // its share of the tokens is weight / sum of all weights
  friend bool operator==(const TextSource&, const TextSource&) = default;
};

struct TrainingSettings {
  Config model;
  Initializer initializer = Initializer::gpt2;  // of new weights: nn/training/initial_weights.h
  double initializer_range = kInitializerRange;
  TrainingRules rules;  // rules.adamw.rate is not used: the schedule says it
  Schedule schedule;
  std::int64_t rows = 4096;  // tokens of a batch; a step takes rules.accumulate batches
  double begun = 0.5;        // share of documents that begin with end-of-text
  std::uint64_t seed = 0;
  std::vector<TextSource> sources;
  Split split = Split::whole_file;  // of plain text
  double validation = 0.01;         // share of each source that is kept for validation
  friend bool operator==(const TrainingSettings&, const TrainingSettings&) = default;
};

// The shapes that `vitrine train --preset` knows: tiny (2 layers of width 64, to try things out),
// atlas (4 layers of width 256), gpt2-small; llama-tiny and llama-small are Llamas of the sizes of
// tiny and atlas, with half as many key/value heads as heads. The vocabulary is the tokenizer's.
// Throws Error (usage) for another name.
Config preset(std::string_view name, int vocabulary);
// Changes the widths of a preset's shape, and what goes with them.
void set_width(Config& config, int heads, int width);
std::vector<std::string> preset_names();

// JSON, as checkpoints hold it. Reading it names `where` in what it throws: FileError for what is
// not JSON, ConfigError for a model that cannot be, CheckpointError for everything else.
std::string to_json(const TrainingSettings& settings);
// Throws Error (usage) for settings that parse_settings would refuse.
void check_settings(const TrainingSettings& settings);
TrainingSettings parse_settings(std::string_view json, const std::string& where);

}  // namespace vitrine::nn
