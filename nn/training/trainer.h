// Training runs: trains a GPT-2 in a folder that holds the whole state and can resume at any time.
//
//   Trainer trainer = Trainer::begin(settings, tokenizer, folder, pool);
//   while (!trainer.done()) trainer.step(pool);
//   trainer.save();
//   Trainer again = Trainer::resume(folder);         // at the last save()
//
// The folder is a model as HuggingFace writes it (config.json, model.safetensors, the tokenizer's
// files), to be loaded by load_gpt2, and beside it
//   training.safetensors   the state: weights, moments, averages; settings; positions in the text
//   vitrine-data/          the texts as token ids
// Every file is replaced all or nothing, the state first: a run that is killed goes on from its
// last save, and gives the weights that it would have given, bit for bit.
#pragma once

#include <atomic>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>

#include "nn/model/model.h"
#include "nn/training/training_settings.h"

namespace vitrine::nn {

class Trainer {
 public:
  // Reports the progress of reading the texts, in bytes; false stops it (InterruptedError).
  using Progress = std::function<bool(std::int64_t done, std::int64_t total)>;

  // Turns the texts into token ids, and draws the first weights unless `from` gives them: a model
  // that is to learn on. Without a tokenizer the texts must be token ids already; the model's end
  // of text, where it names one, then stands between documents. Replaces the run that was in the
  // folder, once the texts are read: before that, an error leaves it as it was. Throws FileError
  // when a text is missing or empty, TokenError for token ids of a text that the tokenizer (or the
  // model) does not have, ConfigError when the tokenizer does not fit the model or there is no end
  // of text, and SaveError when the folder cannot be written.
  static Trainer begin(const TrainingSettings& settings, const std::optional<Tokenizer>& tokenizer,
                       const std::filesystem::path& folder, ThreadPool& pool,
                       const Progress& progress = {}, const Parameters* from = nullptr);
  // Goes on from the last save, of which everything is checked before any of it is used. Throws
  // FileError when there is none, CheckpointError when it says what cannot be or its parts do not
  // belong together, ConfigError when the tokenizer does not fit the model.
  static Trainer resume(const std::filesystem::path& folder, const Progress& progress = {});
  static bool exists(const std::filesystem::path& folder);  // whether there is a save to go on from

  const TrainingSettings& settings() const { return settings_; }
  // False after resuming a run whose save does not say what its texts and tokenizer were, as
  // earlier versions made them: whether they are still the same is not known. The next save says
  // it.
  bool texts_known() const { return texts_known_; }
  bool has_tokenizer() const { return tokenizer_.has_value(); }
  const Tokenizer& tokenizer() const { return tokenizer_.value(); }  // there must be one
  const TokenizedText& validation() const { return validation_; }
  std::int64_t training_tokens() const { return stream_.tokens(); }  // of all sources, once through

  std::int64_t steps() const { return step_.steps(); }
  bool done() const { return steps() >= settings_.schedule.steps; }
  std::int64_t tokens_of_step() const { return settings_.rows * settings_.rules.accumulate; }
  double rate() const { return settings_.schedule.rate(steps()); }  // of the next step
  // Throws NumericError as TrainingStep::step does: no weight has moved then, but the batches are
  // read, so that a further step would go on behind them.
  TrainingStep::Outcome step(ThreadPool& pool);
  // Seconds of computing so far, over all sittings; the caller counts them.
  double seconds() const { return seconds_; }
  void add_seconds(double seconds) { seconds_ += seconds; }

  // The model as it is now: its weights are views that further steps change. With an average, the
  // averaged weights.
  Model model(int threads) const;
  // `stored` is how model.safetensors holds the weights; the state is exact. Throws SaveError; the
  // last save is still there then.
  void save(DType stored = DType::f32) const;

 private:
  Trainer(TrainingSettings settings, std::optional<Tokenizer> tokenizer,
          std::filesystem::path folder, const Parameters& weights, std::string texts);

  TrainingSettings settings_;
  std::optional<Tokenizer> tokenizer_;
  std::filesystem::path folder_;
  std::string texts_;  // a fingerprint
  bool texts_known_ = true;
  TokenizedText validation_;
  BatchStream stream_;
  TrainingStep step_;
  double seconds_ = 0;
};

}  // namespace vitrine::nn
