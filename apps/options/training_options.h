// The options of `vitrine train`: model, data and hyperparameters.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "apps/options/data_files.h"
#include "apps/options/options.h"
#include "nn/training/trainer.h"

namespace vitrine::app {

// What `train` writes into the folder of a run, beside what begins with "vitrine-".
inline const std::initializer_list<std::string_view> kRunFiles = {
    "config.json",    "model.safetensors", "training.safetensors", "log.jsonl",
    "tokenizer.json", "vocab.json",        "merges.txt",           "added_tokens.json"};

struct TrainingOptions {
  CommonOptions common;  // common.out is the folder of the run
  std::string tokenizer, from;
  std::int64_t stop_after = std::numeric_limits<std::int64_t>::max();  // a step
  bool resume = false, overwrite = false;
  std::int64_t log_every = 10, evaluate_every = 500, save_every = 500;
  std::vector<std::string> samples;  // prompts that are continued at every evaluation
  DType stored = DType::f32;         // how model.safetensors holds the weights

  void add_to(CommandLine& line);
  // Throws Error (usage) for what is missing, and for settings given with --resume.
  void check(const CommandLine& line);
  // `begun_with` is the configuration of the model that learns on, if there is one.
  nn::TrainingSettings settings(const CommandLine& line, const std::optional<nn::Tokenizer>& loaded,
                                const nn::Config* begun_with) const;

 private:
  nn::TrainingSettings given_;
  const Option* begun_ = nullptr;
  DataOptions data_;
  std::string preset_ = "atlas", initializer_ = "gpt2", shape_ = "cosine", stored_ = "f32";
  int layers_ = 0, heads_ = 0, width_ = 0, context_ = 0;
  double dropout_ = 0;
  std::int64_t steps_ = 1000;
  std::int64_t warmup_ = -1;  // a share of the steps
};

}  // namespace vitrine::app
