// Weight processing (LayerNorm folding, weight centring): rewrites a model's weights without
// changing its function, so that they are easier to interpret (Elhage et al. 2021;
// TransformerLens's process_weights_). We call each form of the weights a gauge.
//
//   rewrite                 formula
//   fold_ln                 gain and bias of each norm that reads the stream move into the weights
//                           behind it: b += ln.b W, W = ln.w W, and, where the norm is a LayerNorm,
//                           W -= its mean over d_model, which a centred input does not see
//   center_writing_weights  all writes to the stream have mean 0: LayerNorms subtract the mean, so
//                           that this has a meaning in families with LayerNorms alone
//   center_unembed          W_U and b_U -= their mean over the vocabulary: all logits of a position
//                           move by the same number; log-probabilities and differences stay.
//                           Not where a soft cap follows
//   fold_value_biases       b_O += sum_h b_V[h] W_O[h], b_V = 0: patterns sum to 1
//
// Ablations and shares of single logits depend on the gauge, so it is printed beside them.
#pragma once

#include <string>
#include <string_view>

#include "autograd/graph/graph.h"
#include "nn/families/config.h"

namespace vitrine::nn {

struct Gauge {
  bool fold_ln = false, center_writing_weights = false, center_unembed = false,
       fold_value_biases = false;
  static Gauge raw() { return {}; }
  static Gauge processed() { return {true, true, true, true}; }  // TransformerLens's default
  bool is_raw() const { return *this == raw(); }
  friend bool operator==(const Gauge&, const Gauge&) = default;
};
std::string name_of(const Gauge& gauge);  // "raw", "processed", or the rewrites with commas
// Parses "raw", "processed", or rewrites separated by commas. Throws Error (usage) naming the
// words.
Gauge parse_gauge(std::string_view text);

// What of a gauge has a meaning for a model. `processed` means all of that; a rewrite that is asked
// for by its name and has none is a ConfigError.
Gauge gauge_of(const Config& config, const Gauge& wanted);

// Replaces the weights in a graph of build_model by those of the gauge: nodes that are computed from
// the original parameters, which stay and still receive gradients. W_E and W_U are no longer tied.
// Rewrites are made in the order of the table. Each new weight is an output "reweighted.NAME", NAME
// being the weight's in the graph (model/weights.h), for fold() to compute once.
Graph reweight(const Graph& graph, const Config& config, const Gauge& gauge);
// The names of these outputs.
std::vector<std::string> reweighted_names(const Graph& reweighted);

}  // namespace vitrine::nn
