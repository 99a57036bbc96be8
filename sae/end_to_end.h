// End-to-end training: an SAE is trained for what the model says with the reconstruction in its
// site, not for the reconstruction (Braun et al. 2024, "Identifying Functionally Important Features
// with End-to-End Sparse Dictionary Learning", arXiv 2405.12241).
//
//   loss = kl mean KL(clean || spliced)                      over all tokens of a batch, in nats
//        + downstream mean |a' - a|^2                        over later sites and all tokens
//        + local mean |x' - x|^2 + what keeps features few   over the samples
//
// A step is the model's graph with the SAE's training nodes in the site, error dropped, and its
// gradient in the weights of the SAE: one plan. The model's weights stay as they are.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "nn/model/model.h"
#include "sae/loss.h"
#include "sae/text_batches.h"

namespace vitrine::sae {

// The texts of a step, and what the model makes of them as it is.
struct ModelBatch {
  const nn::Model* model = nullptr;
  nn::BatchSize size;
  Graph graph;                          // of the model, for this batch
  Feeds feeds;                          // of the graph
  std::vector<std::int32_t> counts;     // the rows that are samples, in order
  Tensor logits;                        // [rows, vocabulary]
  std::map<std::string, Tensor> sites;  // [rows, ..] as they are in the graph

  // The samples at a site as a matrix, f32 [samples, width], each times `scale`.
  Tensor samples(const std::string& site, double scale) const;
  // All feeds of losses_end_to_end but those of a step (sparsity, dead), for an SAE whose samples are multiplied by
  // `scale`.
  Feeds feeds_of(const SaeTrainingRules& rules, double scale) const;
};

// Runs the model on batches of texts. The values of `sites` are kept beside the logits.
class ModelBatches {
 public:
  ModelBatches(const nn::Model& model, TextBatches& texts, std::vector<std::string> sites);
  // Exactly so many samples; `place` moves on. Throws NumericError for logits that are not finite.
  ModelBatch next(SourcePlace& place, std::int64_t samples);

 private:
  const nn::Model& model_;
  TextBatches& texts_;
  std::vector<std::string> sites_;
  std::map<nn::BatchSize, Plan> plans_;
};

// The residual streams after a layer that depend on a site, other than the site itself.
std::vector<std::string> later_streams(const nn::Model& model, const std::string& site);

// Throws Error (usage) for a downstream site that does not depend on `site`.
void check_downstream(const Graph& model, const std::string& site, const EndToEnd& rules);

// The outputs of losses_with_gradients (training_plans.h), of the graph of a model with the SAE in
// `site`; rules.batch of its rows are samples. Inputs beside the graph's and those of emit_loss:
// clean.logits; clean.SITE for each downstream site; sae.rows i32 [batch], the samples' rows, and
// sae.places i32 [rows], where in there each row is, or -1 (both only where not all rows are
// samples); sae.scale [], with expected_average_only_in. Throws SiteError for a site that is not
// there, Error (usage) for a downstream site that does not depend on `site`.
Graph losses_end_to_end(const Graph& model, const std::string& site, const SaeTrainingRules& rules,
                        const FeatureView& view);

}  // namespace vitrine::sae
