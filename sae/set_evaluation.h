// Evaluation of a set of transcoders: how well each layer is reconstructed, and what is left of the model when all its MLPs
// are replaced.
#pragma once

#include <optional>
#include <vector>

#include "sae/evaluation.h"
#include "sae/transcoder_set.h"

namespace vitrine::sae {

// Of one layer, on what its MLP reads and gives in the model as it is. Means are over all rows, in f64.
struct LayerReconstruction {
  double l0 = 0;              // mean number of active features of this layer
  double mse = 0;             // mean |y - y'|^2, summed over the width
  double normalised_mse = 0;  // mse / (mean |y|^2 - |mean y|^2); NaN for rows that are all alike
  double dead = 0;            // fraction of its features that never fired
};

// Cross-entropies in nats per predicted token: of the model as it is, with every MLP replaced by what the transcoders make of
// what arrives there in the replaced model, and with every MLP giving 0. Excluded rows are left as they are.
struct MlpReplacement {
  std::int64_t predictions = 0;
  double ce_clean = 0, ce_replaced = 0, ce_zero = 0;
  double kl = 0;  // mean KL(clean || replaced), nats
  double score() const { return (ce_zero - ce_replaced) / (ce_zero - ce_clean); }
};

struct SetEvaluation {
  std::int64_t rows = 0;
  std::vector<LayerReconstruction> layers;
  std::optional<MlpReplacement> replacement;  // if any token is predicted
  double l0() const;                       // of all layers together
};

// `text.sites` is ignored. Throws what text_source throws, ShapeError for transcoders of another width or number of layers.
SetEvaluation evaluate(const nn::Model& model, const TranscoderSet& set, const TextSourceSpec& text,
                       const EvaluationSpec& spec = {});

// The graph of a batch in which every MLP's output is that of the transcoders, without an error, where the input "sae.rows",
// boolean [rows, 1], is true: the replacement model. Weights are the parameters of with_transcoders.
Graph replacement_model(const nn::Model& model, const Graph& graph, const TranscoderSet& set);
Parameters with_transcoders(Parameters parameters, const TranscoderSet& set);

}  // namespace vitrine::sae
