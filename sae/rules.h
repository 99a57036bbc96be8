// Hyperparameters of SAE training: architecture, loss, optimiser. Defaults are SAELens's.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "nn/training/schedule.h"
#include "sae/sae.h"

namespace vitrine::sae {

// Kinds that are trained. batchtopk and matryoshka become jumprelu SAEs: their features compete
// over a batch, and what replaces that later is a threshold learned on the way.
enum class Kind { standard, topk, batchtopk, matryoshka, jumprelu, gated, matching_pursuit };
std::string_view name_of(Kind kind);  // as SAELens spells them: "matryoshka_batchtopk"
std::vector<std::string> kind_names();
Kind parse_kind(std::string_view name);  // throws Error (usage), with the nearest name

enum class Penalty { step, tanh };  // of jumprelu
std::string_view name_of(Penalty penalty);

// End-to-end training: what of the model's behaviour counts, see end_to_end.h. Its sites are those
// of `downstream`.
struct EndToEnd {
  double kl = 1, downstream = 0, local = 0;  // coefficients
  std::vector<std::string> sites;
  friend bool operator==(const EndToEnd&, const EndToEnd&) = default;
};

// Everything that decides what a training run of one SAE computes.
struct SaeTrainingRules {
  Kind kind = Kind::standard;
  std::int64_t d_in = 0, d_sae = 0;
  std::int64_t d_out = 0;  // 0: d_in
  // Transcoder: the target is another activation. Decoder rows begin at 0 and b_dec at the mean of
  // the targets; the loss is normalised, sum |e|^2 / sum |y - mean y|^2, as sparsify's.
  bool transcoder = false, skip = false;
  // A cross-layer transcoder of the MLPs of so many layers: the features of a layer write to its own output and to all
  // later ones (Ameisen et al. 2025, "Circuit tracing"). d_in, d_out, d_sae and k are those of a layer; a batch has the
  // layers side by side. The loss is the sum of their normalised errors. 0: it is not one.
  std::int64_t layers = 0;
  bool apply_b_dec_to_input = true;
  Normalisation normalise = Normalisation::none;

  // topk (whole), batchtopk and matryoshka: active per sample; matching_pursuit (whole): steps
  double k = 32;
  double residual_threshold = 0.01;       // matching_pursuit: stops once |r| is below; 0: never
  bool stop_on_duplicate_support = true;  // matching_pursuit: stops once a feature is taken again
  std::vector<std::int64_t> widths;       // matryoshka: ascending prefixes, the last one d_sae
  bool rescale_by_decoder_norm = true;    // the topk kinds rank features by h_j |W_dec[j]|
  double sparsity = 1;                    // coefficient of the penalty (standard, gated, jumprelu)
  std::int64_t sparsity_warmup = 0;       // steps over which it rises, linearly
  bool norm_weighted = true;              // standard: z_j |W_dec[j]| in the penalty; else z_j
  Penalty penalty = Penalty::step;        // jumprelu
  double tanh_scale = 4;                  // jumprelu, tanh
  double bandwidth = 0.05, initial_threshold = 0.01;  // jumprelu
  double aux = 1;                // coefficient of the auxiliary loss (topk kinds)
  double threshold_rate = 0.01;  // batchtopk: of the threshold's running mean

  std::optional<EndToEnd> end_to_end;  // none: the loss is the reconstruction's

  double beta1 = 0.9, beta2 = 0.999, eps = 1e-8;
  double clip = 1;            // largest norm of the gradient; 0: any
  bool unit_norm = false;     // decoder rows keep norm 1
  double initial_norm = 0.1;  // of decoder rows
  nn::Schedule schedule{nn::Schedule::Shape::constant, 3e-4, 0, 1, 1};

  std::int64_t batch = 4096;            // samples of a step
  std::int64_t dead_after = 4'096'000;  // samples without firing
  std::int64_t resample_every = 0;      // steps; 0: never (Bricken et al. 2023, appendix)
  std::uint64_t seed = 0;

  std::int64_t out_width() const { return d_out > 0 ? d_out : d_in; }
  // Dictionaries of features with an encoder each, and what all of them read, give and have together.
  std::int64_t dictionaries() const { return layers > 0 ? layers : 1; }
  std::int64_t all_inputs() const { return dictionaries() * d_in; }
  std::int64_t all_outputs() const { return dictionaries() * out_width(); }
  std::int64_t all_features() const { return dictionaries() * d_sae; }
  bool competes() const {  // the topk kinds
    return kind == Kind::topk || kind == Kind::batchtopk || kind == Kind::matryoshka;
  }
  bool whole_batch() const { return kind == Kind::batchtopk || kind == Kind::matryoshka; }
  friend bool operator==(const SaeTrainingRules&, const SaeTrainingRules&) = default;
};

// Throws Error (usage) for rules that contradict each other or are out of range, naming the first.
void check_rules(const SaeTrainingRules& rules);

// JSON, as checkpoints and options hold it; reading throws CheckpointError naming `where`.
std::string to_json(const SaeTrainingRules& rules);
SaeTrainingRules parse_rules(std::string_view json, const std::string& where);

}  // namespace vitrine::sae
