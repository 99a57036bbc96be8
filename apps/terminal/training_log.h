// Logging of training runs: progress on stderr, and log.jsonl in the run's folder.
#pragma once

#include <atomic>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "apps/terminal/log_file.h"
#include "apps/terminal/output.h"
#include "nn/text/text_loss.h"
#include "nn/training/trainer.h"

namespace vitrine::app {

struct TrainingLogOptions {
  std::int64_t log_every = 10, evaluate_every = 500;
  std::vector<std::string> samples;  // prompts
  bool quiet = false, resumed = false;
  int threads = 0;
  const std::atomic<bool>* cancel = nullptr;  // ends an evaluation: InterruptedError
};

struct TrainingEvaluation {
  nn::TextLoss validation;  // of a part of the validation text; nothing when there is none
  std::optional<nn::Induction> induction;  // not of a context that is too short for it
};

Json as_json(const std::optional<nn::Induction>& induction);  // null

// log.jsonl has a line for every `log_every` steps, {step, loss, rate, grad_norm,
// tokens_per_second, seconds}: loss and norm are means over these steps, before each; and one for
// every evaluation, {step, validation_loss, bits_per_byte, induction: {first, second, score, head},
// samples}.
class TrainingLog {
 public:
  TrainingLog(const nn::Trainer& trainer, const std::filesystem::path& folder,
              const TrainingLogOptions& options);

  void begin(const std::string& command);
  void step(const nn::TrainingStep::Outcome& outcome, double rate);
  TrainingEvaluation measure() const;
  TrainingEvaluation evaluate();  // and says it; nothing of one that was ended
  void finish();

 private:
  TrainingEvaluation measure(const nn::Model& model) const;
  void show(const std::string& line) const;

  const nn::Trainer& trainer_;
  std::string folder_;
  TrainingLogOptions options_;
  LogFile out_;
  std::vector<std::int64_t> order_;  // of the validation documents, mixed
  double loss_ = 0, norm_ = 0;       // sums since the last line
  double since_ = 0;                 // the trainer's seconds then
  std::int64_t count_ = 0;
};

}  // namespace vitrine::app
