// A model's weight matrices (W_Q, W_K, W_V, W_O, ...) as values of its graph. They are read off the
// graph itself, so that an explanation uses the same weights as the model, in any gauge
// (model/reweight.h).
//
//   Builder b(model.build({.batch = 1, .tokens = 5}));
//   nn::WeightValues w = nn::weights_of(b, model.config());
//   b.output("ov", matmul(w.layers[2].w_v, w.layers[2].w_o));
//
// d = d_model, h = heads, e = d / h, m = d_mlp, v = vocabulary.
#pragma once

#include <string_view>
#include <vector>

#include "autograd/graph/builder.h"
#include "nn/model/model.h"

namespace vitrine::nn {

struct LayerWeights {
  Value ln1_gain, ln1_bias;            // [d]
  Value w_q, w_k, w_v, b_q, b_k, b_v;  // [d, h * e], [h * e]: head i has columns i e to (i+1) e
  Value w_o, b_o;                      // [h * e, d], [d]
  Value ln2_gain, ln2_bias;            // [d]
  Value w_in, b_in, w_out, b_out;      // [d, m], [m], [m, d], [d]
};
struct WeightValues {
  Value w_e, w_pos;  // [v, d], [context, d]
  std::vector<LayerWeights> layers;
  Value ln_final_gain, ln_final_bias;  // [d]
  Value w_u;                           // [v, d]: a row for each token
  Value b_u;                           // [v]; undefined when there is none
};
// Throws GraphError when a weight cannot be read off the graph: composites may be there whole
// only, so it is asked before gradient and edits.
WeightValues weights_of(Builder& b, const Config& config);

// logits [rows, v] of what the final LayerNorm gives, [rows, d].
Value unembedded(const WeightValues& w, const Value& x);
// A projection of all heads, [d, h * e], as [h, d, e].
Value by_head(const Value& w, std::int64_t heads);

// The same as tensors, under TransformerLens's names and in its shapes: embed.W_E [v, d],
// pos_embed.W_pos [context, d], blocks.L.attn.W_Q [h, d, e], .b_Q [h, e] (likewise K and V), .W_O
// [h, e, d], .b_O [d], blocks.L.mlp.W_in [d, m], .b_in, .W_out [m, d], .b_out, blocks.L.ln1.w [d],
// .b, blocks.L.ln2.w, .b, ln_final.w, .b, unembed.W_U [d, v], unembed.b_U [v]. `patterns` choose
// some of them: "blocks.*.attn.W_O". Throws GraphError for a pattern that matches nothing.
Parameters weights(const Model& model, std::string_view patterns = "*");

}  // namespace vitrine::nn
