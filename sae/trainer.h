// SAE training runs: trains SAEs in a folder that holds the whole state and can resume at any time.
//
//   SaeTrainer t = SaeTrainer::begin(settings, *text_source(model, spec), folder);
//   while (!t.done()) t.step(pool);
//   t.save();                                       // SaeTrainer::resume goes on from here
//
// Several SAEs, of one site or of several, are trained on the same batches in one pass. The folder
// of one is a SAELens folder, of a cross-layer transcoder one that circuit-tracer reads; of several, each has a folder of
// its own in it. Beside them
//   training.safetensors   the state: weights, moments, counts; settings; the place in the source
// Every file is replaced all or nothing, the state first: a run that is killed goes on from its
// last save, and gives the weights that it would have given, bit for bit.
#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "sae/shuffled_rows.h"
#include "sae/training_step.h"

namespace vitrine::sae {

class ModelBatches;  // end_to_end.h

// One SAE of a run: what it reads, what it is to give, and how it is trained.
struct Job {
  std::string name;  // of its folder; "" when it is the only one
  SaeTrainingRules rules;
  std::vector<std::string>
      inputs;  // the column that it reads; of a cross-layer transcoder one for each layer
  std::vector<std::string> targets;  // a transcoder's, as many; else none
  friend bool operator==(const Job&, const Job&) = default;
};

enum class InitialBias { zero, mean, geometric_median };  // of b_dec, on a sample
std::string_view name_of(InitialBias bias);

// A run: its SAEs, which are trained on the same rows, and what is saved of them.
struct TrainSettings {
  std::vector<Job> jobs;
  std::int64_t steps = 0;
  BufferSpec buffer;
  InitialBias bias = InitialBias::zero;
  // Metadata of the activations, for cfg.json.
  std::string model_name, metadata = "{}";
  std::optional<bool> prepend_bos;
  std::int64_t context_size = 0;
  // Data of the caller that resuming needs, such as how the source is made: JSON.
  std::string notes = "{}";
};

// A run in a folder, which can be ended at any time and goes on to the same bits.
class SaeTrainer {
 public:
  SaeTrainer(SaeTrainer&& other) noexcept;
  ~SaeTrainer();

  // Replaces the run that was in the folder, once its weights can be drawn. End-to-end training
  // needs a source that is a model over texts, which it runs itself, and only begins with rows of
  // it; all SAEs of a run are trained so, or none. Throws Error (usage)
  // for rules that do not go together, ShapeError for a width that is not the source's, and what
  // the source throws.
  static SaeTrainer begin(const TrainSettings& settings, ActivationSource& source,
                          const std::filesystem::path& folder);
  // Goes on from the last save, in a source that must be the same. Throws FileError when there is
  // no save, CheckpointError when its parts do not belong together or the source is another one.
  static SaeTrainer resume(ActivationSource& source, const std::filesystem::path& folder);
  static bool exists(const std::filesystem::path& folder);
  // Reads the settings of the last save; throws as resume does.
  static TrainSettings saved_settings(const std::filesystem::path& folder);

  const TrainSettings& settings() const { return settings_; }
  std::int64_t steps() const { return jobs_[0].steps(); }
  bool done() const { return steps() >= settings_.steps; }
  const std::vector<SaeTrainingStep>& jobs() const { return jobs_; }

  // One step of each SAE on one batch. Throws NumericError as SaeTrainingStep does.
  std::vector<StepOutcome> step(ThreadPool& pool);
  double seconds() const { return seconds_; }
  void add_seconds(double seconds) { seconds_ += seconds; }

  // An SAE as it is now, or a cross-layer transcoder.
  Sae finished(std::size_t job) const;
  TranscoderSet finished_layers(std::size_t job) const;
  std::filesystem::path folder_of(std::size_t job) const;
  void save() const;

 private:
  SaeTrainer(TrainSettings settings, ActivationSource& source, std::filesystem::path folder);
  void prepare_end_to_end();
  std::vector<StepOutcome> step_end_to_end(ThreadPool& pool);
  void claim_files() const;
  std::size_t column(const std::string& name) const;
  Batch batch_of(const Job& job, const std::vector<Tensor>& rows) const;
  Tensor columns_of(const std::vector<std::string>& names, const std::vector<Tensor>& rows) const;
  std::vector<double> scales_of(const std::vector<std::string>& names) const;
  Parameters first_weights(const Job& job, const std::vector<Tensor>& sample,
                           std::vector<Tensor>& medians) const;
  JsonValue metadata_of(std::size_t job) const;

  TrainSettings settings_;
  ActivationSource* source_;
  std::filesystem::path folder_;
  std::unique_ptr<ShuffledRows> rows_;
  std::unique_ptr<ModelBatches> batches_;  // end to end, instead of rows ...
  SourcePlace place_;                      // ... and the next text
  std::vector<SaeTrainingStep> jobs_;
  std::vector<double> scales_;  // of each column: what its rows are multiplied by
  double seconds_ = 0;
};

}  // namespace vitrine::sae
