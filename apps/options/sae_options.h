// The options of `vitrine sae train`, and what the verbs about SAEs share.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "apps/options/options.h"
#include "sae/folder.h"
#include "sae/trainer.h"

namespace vitrine {
class JsonReader;
}

namespace vitrine::app {

// Texts that a model reads, or files of activations.
class ActivationOptions {
 public:
  void add_to(CommandLine& line, const std::string& heading);
  // Throws Error (usage) unless there is one of the two.
  void require(const CommandLine& line) const;
  bool from_files() const { return !patterns_.empty(); }
  const std::vector<std::string>& files() const { return files_; }
  const std::vector<std::string>& patterns() const { return patterns_; }
  const std::vector<std::string>& tensors() const { return tensors_; }
  // `model` is null for files. The tokens whose rows are left out, and the one before every piece.
  std::unique_ptr<sae::ActivationSource> source(const nn::Model* model,
                                                const std::vector<std::string>& sites,
                                                std::uint64_t seed) const;
  sae::TextSourceSpec spec(const nn::Model& model, const std::vector<std::string>& sites,
                           std::uint64_t seed) const;
  bool prepends_bos() const { return prepend_bos_; }
  int context(const nn::Model& model) const {
    return context_ == 0 ? model.config().context : context_;
  }
  Json json() const;
  // From json() again. Throws CheckpointError.
  static ActivationOptions from_json(const JsonReader& json);

 private:
  std::vector<std::string> files_, patterns_, tensors_;
  int context_ = 0;
  bool prepend_bos_ = false, exclude_special_ = false, special_ = false;
};

class SaeTrainOptions {
 public:
  CommonOptions common;  // common.out is the folder of the run
  ActivationOptions activations;
  bool resume = false, overwrite = false;
  std::int64_t stop_after = INT64_MAX, log_every = 20;
  double save_every = 300;  // seconds

  void add_to(CommandLine& line);
  void check(const CommandLine& line) const;
  // The SAEs of the run, for inputs() and targets() of the model. `width_of` says how wide a site or tensor is.
  sae::TrainSettings settings(const CommandLine& line, const std::vector<std::string>& inputs,
                              const std::vector<std::string>& targets,
                              const std::function<std::int64_t(const std::string&)>& width_of,
                              const nn::Model* model = nullptr) const;
  std::vector<std::string> inputs(const nn::Model* model) const;  // sites, or the first tensor
  // Of transcoders: one for all inputs, or one for each. Throws Error (usage) for another number.
  std::vector<std::string> targets(const nn::Model* model) const;
  std::vector<std::string> columns(const nn::Model* model) const;  // with the target's

 private:
  struct Swept {
    std::string key;
    std::vector<std::string> values;
  };
  // The rules of each SAE of an input, by what its folder is called.
  using Variants = std::vector<std::pair<std::string, sae::SaeTrainingRules>>;
  sae::SaeTrainingRules base_rules(const CommandLine& line, std::int64_t steps) const;
  Variants variants(const CommandLine& line, const sae::SaeTrainingRules& base) const;
  void check_end_to_end(const CommandLine& line) const;
  std::int64_t batch(const CommandLine& line) const;
  // Of an SAE at `input`.
  sae::EndToEnd end_to_end(const nn::Model& model, const std::string& input) const;
  std::vector<Swept> sweeps(const CommandLine& line) const;
  void set(const CommandLine& line, sae::SaeTrainingRules& rules, const std::string& key,
           const std::string& value) const;

  std::vector<std::string> sites_, sweeps_;
  std::string target_, kind_ = "topk", normalise_ = "none", penalty_ = "step", shape_ = "constant",
                       bias_ = "geometric-median", buffer_type_ = "f32";
  std::vector<std::int64_t> widths_;
  sae::SaeTrainingRules rules_;
  sae::BufferSpec buffer_;
  std::string buffer_file_;
  std::int64_t vectors_ = 2'000'000, warmup_ = 0;
  sae::EndToEnd e2e_;
  std::string downstream_;
  bool end_to_end_ = false;
  bool plain_l1_ = false, no_rescale_ = false, no_b_dec_ = false, cross_layer_ = false;
};

// A folder with an SAE, or the name of one that came with the model: --sae.
sae::Sae load_sae(const std::string& name, const std::string& model);
// A folder with a transcoder for every MLP, or the name of one that came with the model: --transcoders. "": the
// first of these.
sae::TranscoderSet load_transcoder_set(const std::string& name, const std::string& model);
// The names of the SAEs that came with a model, in order.
std::vector<std::string> shipped_saes(const std::string& model);
// Throws CheckpointError for an SAE that does not fit the values of its site in this model, and
// what check_site and the model throw for a site that is not there.
void require_fits(const sae::Sae& sae, const nn::Model& model);
// Says on stderr what the SAE's cfg.json says of its model and was not asked for: its numbers are
// for texts that begin with a beginning-of-text token, or for another gauge of the weights.
void note_its_model(const sae::Sae& sae, bool prepends_bos, const std::string& gauge);

}  // namespace vitrine::app
