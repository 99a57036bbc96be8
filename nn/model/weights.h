// A model's weight matrices (W_Q, W_K, W_V, W_O, ...) as values of its graph, by the names that its
// builder gave them. An explanation so uses the same weights as the model, in any gauge
// (model/reweight.h).
//
//   Builder b(model.build({.batch = 1, .tokens = 5}));
//   nn::WeightValues w = nn::weights_of(b, model.config());
//   b.output("ov", matmul(w.layers[2].w_v, w.layers[2].w_o));
//
// d = d_model, h = heads, g = key/value heads, e = d_head, m = d_mlp, v = vocabulary.
#pragma once

#include <string_view>
#include <utility>
#include <vector>

#include "autograd/graph/builder.h"
#include "nn/model/model.h"

namespace vitrine::nn {

// A norm of the stream: LayerNorm, or RMSNorm, which does not centre and has no bias.
struct NormWeights {
  Value gain, bias;  // [d]; the bias is zeros where the family has none
  bool centred = true;
  double eps = 1e-5;
  bool defined() const { return gain.defined(); }
};
// The norm of x [..., d], as the model computes it.
Value normed(const Value& x, const NormWeights& norm);
// The same with a given scale [..., 1] and without the bias, which makes it linear in x: what a
// part of the stream becomes where the norm of the whole is held.
Value normed(const Value& x, const NormWeights& norm, const Value& scale);
// The same without the scale: x centred, where the norm does that, times the gain.
Value unscaled(const Value& x, const NormWeights& norm);
// A direction [d, 1] of the stream, as one of what stands before a norm that writes to the stream
// (ln1_post, ln2_post) whose scale [1, 1] is held; itself where there is no such norm.
Value before_norm(const Value& direction, const NormWeights& norm, const Value& scale);
// A matrix [d, n] that reads what the norm gives, as one that reads x / scale: with the gain in it,
// and without what a centred input does not see.
Value folded(const NormWeights& norm, const Value& w);

struct LayerWeights {
  NormWeights ln1;                     // what attention reads through
  Value w_q, w_k, w_v, b_q, b_k, b_v;  // [d, h e], [h e]: head i has columns i e to (i+1) e; keys
                                       // and values have g heads
  Value w_o, b_o;                      // [h e, d], [d]
  NormWeights ln2;                     // what the MLP reads through
  Value w_in, b_in, w_out, b_out;      // [d, m], [m], [m, d], [d]
  Value w_gate, b_gate;                // [d, m], [m]; undefined unless neurons are gated
  // Between what attention or the MLP gives and the stream; undefined in most families.
  NormWeights ln1_post, ln2_post;
};
struct WeightValues {
  Value w_e, w_pos;  // [v, d], [context, d]; w_pos is undefined where positions are rotary
  std::vector<LayerWeights> layers;
  NormWeights ln_final;
  Value w_u;  // [v, d]: a row for each token
  Value b_u;  // [v]; undefined when there is none
};
// Throws GraphError for a graph whose weights have no names.
WeightValues weights_of(Builder& b, const Config& config);

// Every weight that is defined with its name in the graph; a projection is [d, h e] as above.
// unembed.W_U is given as w_u, [v, d].
std::vector<std::pair<std::string, Value>> by_name(const WeightValues& w);

// Logits [rows, v] of what the final norm gives, [rows, d], before the soft cap that some families
// have; and after it.
Value unembedded(const WeightValues& w, const Value& x);
Value capped(const Value& logits, const Config& config);
// A projection of all heads, [d, h * e], as [h, d, e].
Value by_head(const Value& w, std::int64_t heads);
// The same of a projection to key/value heads, [d, g * e], once for each query head that reads it:
// [d, h * e].
Value for_query_heads(const Value& w, std::int64_t groups, std::int64_t heads);

// The same as tensors, under TransformerLens's names and in its shapes: embed.W_E [v, d],
// pos_embed.W_pos [context, d], blocks.L.attn.W_Q [h, d, e], .b_Q [h, e] (likewise K and V, [g, ...]),
// .W_O [h, e, d], .b_O [d], blocks.L.mlp.W_in [d, m], .b_in, .W_gate, .W_out [m, d], .b_out,
// blocks.L.ln1.w [d], .b, blocks.L.ln2.w, .b, ln_final.w, .b, unembed.W_U [d, v], unembed.b_U [v];
// what a family does not have is not there. `patterns` choose some of them: "blocks.*.attn.W_O".
// Throws GraphError for a pattern that matches nothing.
Parameters weights(const Model& model, std::string_view patterns = "*");

}  // namespace vitrine::nn
