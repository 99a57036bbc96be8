// Attribution graphs: which features at which tokens cause which later ones, and the logits, on one prompt (Ameisen et al.
// 2025, "Circuit tracing"; circuit-tracer's definitions).
//
//   nn::Model m = nn::load_model();
//   AttributionGraph g = attribution_graph(m, load_transcoders("folder"), m.tokens("The capital of Texas is"));
//   g.adjacency();                                       // [targets, nodes]; prune(g): pruned_graph.h
//
// In the local replacement model of a prompt, attention patterns and the scales of all norms are those of the original run,
// and each MLP gives its features, b_dec and an error, which are constants with respect to what comes before (a skip stays
// linear). It gives the original logits exactly. All that is left is linear, so that a target is the sum of what its
// sources write:
//
//   sum_s A[t, s] + sum_p position_effect[t, p] + constant[t] = target_value[t]
//
// Nodes are the active features (by layer, position, number), the errors (by layer and position), the tokens, and the
// logits. Targets are features (h - b_enc, before the activation) and logits (minus the mean logit over the vocabulary).
// A[t, s] is the gradient of t where s writes, times what s writes.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <vector>

#include "nn/model/model.h"
#include "sae/transcoder_set.h"

namespace vitrine::sae {

// A feature of a layer's transcoder that is active at a position.
struct ActiveFeature {
  int layer = 0;
  std::int64_t position = 0, feature = 0;
  double activation = 0, pre = 0;  // a and h
};

// Which logits are targets, and what is left out.
struct AttributionGraphSpec {
  // Features and errors of position 0 are left out, and what its MLPs give is a constant: for models whose prompts begin
  // with a token that is no part of the text (circuit-tracer does it always).
  bool zero_first = false;
  int logits = 10;             // at most so many of the most probable next tokens ...
  double probability = 0.95;   // ... as few as have this probability together
  std::int64_t targets = 256;  // that are worked out in one pass
  const std::atomic<bool>* cancel = nullptr;
  std::function<void(std::int64_t done, std::int64_t total)> progress = {};  // targets
};

// The nonzero weights of one target, by source in increasing order.
struct AttributionRow {
  std::vector<std::int32_t> sources;
  std::vector<float> weights;
};

// What every feature, error and token adds to later features and to logits, on one prompt (Ameisen et al. 2025).
struct AttributionGraph {
  nn::Tokens prompt;
  int layers = 0;
  std::vector<ActiveFeature> features;
  std::vector<int> logit_tokens;
  std::vector<double> logit_probabilities;  // of the model, not made to add up to 1
  Tensor error;  // f32 [layers, position, d]: MLP output - reconstruction
  // Of each target, features first, then logits.
  std::vector<AttributionRow> rows;
  Tensor position_effect;                      // f32 [targets, position]
  std::vector<double> constant, target_value;  // of biases; the target itself

  std::int64_t positions() const { return std::ssize(prompt); }
  std::int64_t first_error() const { return std::ssize(features); }
  std::int64_t first_token() const { return first_error() + layers * positions(); }
  std::int64_t first_logit() const { return first_token() + positions(); }
  std::int64_t nodes() const { return first_logit() + std::ssize(logit_tokens); }
  std::int64_t targets() const { return std::ssize(rows); }
  std::int64_t node_of_target(std::int64_t target) const {
    return target < std::ssize(features) ? target : first_logit() + target - std::ssize(features);
  }
  Tensor adjacency() const;  // f32 [targets, nodes]
  // The largest |sum of a row + its constants - its target|, and the largest |target|: how exact the graph is.
  double closure() const;
  double largest_target() const;
};

// Throws what Model::run throws; ConfigError for a model whose blocks are of another kind (attention and MLP side by side,
// norms after them, a soft cap of the logits), and ShapeError for transcoders that are not of its width or number of layers.
AttributionGraph attribution_graph(const nn::Model& model, const TranscoderSet& set,
                                   const nn::Tokens& prompt, const AttributionGraphSpec& spec = {});

}  // namespace vitrine::sae
