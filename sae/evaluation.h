// SAE evaluation: reconstruction error, sparsity, and the loss of the model with the reconstruction
// spliced in.
//
// Libraries give the same name to different numbers, so each has its own here, with its formula.
// x is an activation, x' its reconstruction, f its features; sums and means are over all rows, in
// f64.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <optional>
#include <vector>

#include "sae/activations.h"
#include "sae/sae.h"

namespace vitrine::sae {

// How well x is reconstructed by x' = decode(f), over rows x [d_in].
struct Reconstruction {
  std::int64_t rows = 0;
  double l0 = 0;   // mean number of features above 0
  double l1 = 0;   // mean of sum_j f_j
  double mse = 0;  // mean |x - x'|^2, summed over the width
  // 1 - mean |x - x'|^2 / (mean |x|^2 - |mean x|^2), of the whole set. NaN, as the next one, for
  // rows that are all alike.
  double explained_variance = 0;
  // Mean over rows of 1 - |x - x'|^2 / |x - m|^2, m the mean of the rows run together: what SAELens
  // called explained variance.
  double explained_variance_legacy = 0;
  double cosine = 0;                // mean cosine of x and x'
  double norm_ratio = 0;            // mean |x'| / |x|
  double dead = 0;                  // fraction of features that never fired in these rows
  std::vector<std::int64_t> fired;  // [d_sae]: rows in which each feature did
  // The histogram of feature density: how many features have log10 of their density in [-10, -9),
  // ..., [-1, 0]; those that never fired are in none.
  std::vector<std::int64_t> density_histogram() const;
};

// Cross-entropies in nats per predicted token, of the model as it is, and with the site's value
// replaced at every row but excluded ones.
struct Fidelity {
  std::int64_t predictions = 0;
  double ce_clean = 0;
  double ce_sae = 0;       // by x', without the error term
  double ce_zero = 0;      // by 0
  double ce_mean = 0;      // by the mean of all rows
  double ce_resample = 0;  // by another row of the same batch, drawn at random
  double kl = 0;           // mean KL(clean || with x') in nats
  // (ablated - sae) / (ablated - clean): 1 is perfect, 0 is no better than the ablation; unbounded.
  double score(double ablated) const { return (ablated - ce_sae) / (ablated - ce_clean); }
};

// What evaluate found: of the reconstruction, and of the model that works with it.
struct Evaluation {
  Reconstruction reconstruction;
  std::optional<Fidelity> fidelity;  // of a model, if it predicted any token
};

// On how many rows, and how one follows it.
struct EvaluationSpec {
  std::int64_t rows = 100'000;  // at least, as far as there are
  const std::atomic<bool>* cancel = nullptr;
  std::function<void(std::int64_t rows, std::int64_t total)> progress = {};
  void stop_if_cancelled() const;  // throws InterruptedError
};

// Over texts: `text.sites` is ignored, the SAE's own sites are taken (a transcoder's output
// replaces the value of its hook_name_out). Throws what text_source throws, ConfigError for an SAE
// that does not say its site, ShapeError when it does not fit.
Evaluation evaluate(const nn::Model& model, const Sae& sae, const TextSourceSpec& text,
                    const EvaluationSpec& spec = {});
// Over rows that are there; of a transcoder the first column is read, the second is the target.
Reconstruction evaluate(const Sae& sae, ActivationSource& rows, ThreadPool& pool,
                        const EvaluationSpec& spec = {});

// The graph of a batch with the site's value replaced by what the SAE gives, without the error,
// where the input "sae.rows", boolean [rows, 1], is true. The SAE's weights are parameters
// NAME.W_enc, ...
Graph with_reconstruction(const Graph& graph, const Sae& sae, const std::string& name);

}  // namespace vitrine::sae
