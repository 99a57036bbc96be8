// The losses of SAE training, as nodes.
//
// All of them are written once, for two ways of looking at features. Densely, values are [n,
// d_sae]. Sparsely they are [n, capacity] beside a table of the features that may be active (ops.h,
// linear_active): all other features are exactly 0, in value and gradient, so a reconstruction and
// every gradient cost what the active ones do.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "autograd/graph/builder.h"
#include "sae/rules.h"

namespace vitrine::sae {

// The weights as training keeps them: W_enc [d_sae, d_in], a row for each feature, so that what
// belongs to a feature lies together. The rest as in sae.h.
using TrainedShapes = std::vector<std::pair<std::string, Shape>>;
TrainedShapes trained_shapes(const SaeTrainingRules& rules);
// The name of a weight of one dictionary: of a cross-layer transcoder "3.W_dec" [d_sae, (layers - 3) d_out], the rows to
// the outputs from layer 3 on side by side; of any other SAE "W_dec".
std::string weight_name(const SaeTrainingRules& rules, std::int64_t dictionary,
                        std::string_view weight);

// The representation of features in a step: capacity 0 is dense.
struct FeatureView {
  std::int64_t capacity = 0;
  friend auto operator<=>(const FeatureView&, const FeatureView&) = default;
};
// Whether the features of a sample may exceed the capacity: then the step must be done again.
bool may_overflow(const SaeTrainingRules& rules, const FeatureView& view);

// The features of one dictionary in a step.
struct FeatureCodes {
  Value active;    // boolean, in the places of the features
  Value features;  // the codes, in those places
  Value index;     // the table; undefined: dense
};
// The emitted losses. Means are over `batch` samples, of which these are a part.
struct SaeLoss {
  Value total;
  std::map<std::string, Value> parts;  // scalars, by SAELens's names: mse_loss, l1_loss, ...
  std::vector<FeatureCodes> codes;     // of each dictionary
  Value reconstruction;                // [n, all_outputs]
};
// Inputs: x [n, all_inputs]; for a transcoder y [n, all_outputs] and y.weight [dictionaries], 1 / sum over the batch of |y
// - mean y|^2 of each output; dead boolean [all_features]; sparsity f32 [], the coefficient of the penalty at this step.
// With `x`, a value f32 [n, d_in], that takes the place of the input x. In end-to-end training the
// reconstruction error counts as its coefficient `local` says, and `total`, which is what the SAE
// itself adds to the loss, is undefined where that is nothing.
SaeLoss emit_loss(Builder& b, const SaeTrainingRules& rules, const FeatureView& view,
                  std::int64_t rows, std::int64_t batch, const Value& x = {});

}  // namespace vitrine::sae
