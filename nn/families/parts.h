// What the families' graphs are built from: parameters with names, norms, the KV cache, the ends of
// the model.
//
// In the comments: d = d_model, h = heads, g = key/value heads, e = d_head, m = d_mlp, v = vocabulary.
#pragma once

#include <string>

#include "autograd/graph/builder.h"
#include "autograd/ops/ops.h"
#include "nn/families/architecture.h"

namespace vitrine::nn {

inline const Axes kResidual = {Axis::row, Axis::feature};
inline const Axes kPerHead = {Axis::row, Axis::head, Axis::feature};

// What every part of a model needs to know.
struct Frame {
  Builder& b;
  const Config& config;
  DType dtype;
  Value tokens;    // [rows]
  RowValues rows;  // which token of which prompt each row is
  Value slot;      // where each row goes in the cache; undefined without one
  Tensor zeros;    // of which biases that a family does not have are slices

  Value parameter(const std::string& name, const Shape& shape) const {
    return b.parameter(name, {dtype, shape});
  }
  Value no_bias(std::int64_t n) const { return b.constant(zeros.slice(0, 0, n)); }
  // Gives a weight the name under which explanations find it.
  Value named(const std::string& label, const Value& weight) const {
    b.name_weight(label, weight);
    return weight;
  }
  Value weight(const std::string& label, const std::string& name, const Shape& shape) const {
    return named(label, parameter(name, shape));
  }
};
// The inputs of a model: tokens and row tables.
Frame begin(Builder& b, const Config& config, const BatchSize& size, DType dtype);

// When text is generated token by token, the keys and values of earlier tokens are kept instead of
// computed again. `fresh` [rows, g, e]; what comes back is [key rows, g, e].
std::string cache_name(const char* what, int layer);
Value with_earlier(const Frame& m, const char* what, int layer, const Value& fresh);

// A norm of each row: its weights, and what it gives [rows, d]. Inside: hook_scale, hook_normalized.
struct Norm {
  Value x;           // [rows, d]: what is normed
  Value gain, bias;  // [d]; RMSNorm has no bias
  Value out;         // [rows, d]
};
// LayerNorm: each row shifted and scaled to mean 0 and variance 1, then times a learnt gain, plus a
// learnt bias.
Norm layer_norm(const Frame& m, const Value& x, const std::string& weights,
                const std::string& sites, SourceLine line = SourceLine::here());
// RMSNorm: each row scaled to mean square 1, then times a learnt gain; gemma learns gain - 1.
enum class Gain { plain, one_plus };
Norm rms_norm(const Frame& m, const Value& x, const std::string& weights, const std::string& sites,
              Gain gain = Gain::plain, SourceLine line = SourceLine::here());

// RMSNorm of each head by itself, [rows, heads, e], with one gain [e] for all heads.
Value normed_heads(const Frame& m, const Value& x, const std::string& weights,
                   const std::string& sites, Gain gain = Gain::plain,
                   SourceLine line = SourceLine::here());
// The norm before attention or the MLP, whose result is a site of its own, SITES.hook_out: what the
// projections read, after gain and bias.
Norm read_by_block(const Frame& m, Norm norm, const std::string& sites);

Value activate(Activation a, const Value& x);

// ---- projections whose weights lie as [out, in]: y = x W^T + b -----------------------------------
// A matrix under the name that explanations know, as [in, out].
Value matrix(const Frame& m, const std::string& label, const std::string& name, std::int64_t out,
             std::int64_t in);
// Its bias [n]. Zeros where the model has none: some gauges put something there.
Value bias_of(const Frame& m, const std::string& label, const std::string& name, bool there,
              std::int64_t n);

// ---- attention --------------------------------------------------------------------------------------
// One of the three projections of each token, for each head.
struct Projection {
  const char* letter;  // Q, K or V
  Value w, b;          // [d, heads * e], [heads * e]
  int heads;
};
Value of_heads(const Frame& m, int layer, const Norm& ln1, const Projection& p,
               SourceLine line = SourceLine::here());  // [rows, heads, e]
// The same of weights [heads * e, d].
Value projected(const Frame& m, int layer, const Norm& ln1, const char* letter,
                const std::string& weights, int heads, SourceLine line = SourceLine::here());
// What all heads write, summed: z [rows, h, e] -> [rows, d]. Inside: hook_result [rows, h, d].
Value written(const Frame& m, int layer, const Value& z, const std::string& weights,
              SourceLine line = SourceLine::here());
// Queries and keys turned by their positions; the site hook_rot_q or hook_rot_k.
Value rotated(const Frame& m, int layer, const Value& x, const Site& site,
              SourceLine line = SourceLine::here());
// Each query meets the keys of its own prompt up to its own position, in some layers only the last
// few of them; softmax turns the scores into a pattern, weights that sum to 1; z is the weighted
// mean of the values, [rows, h, e]. Inside: hook_attn_scores and hook_pattern [rows, h, keys].
Value mixed(const Frame& m, int layer, const Value& q, const Value& k, const Value& v,
            SourceLine line = SourceLine::here());

// ---- MLP --------------------------------------------------------------------------------------------
// x W^T + b of an MLP, [rows, out]: W_PART and b_PART of the layer.
Value mlp_linear(const Frame& m, int layer, const Value& x, const char* part,
                 const std::string& weights, std::int64_t out);
// A gated MLP: act(gate(u)) * up(u), then down; weights BLOCK.{gate,up,down}_proj. u [rows, d].
Value gated_mlp(const Frame& m, int layer, const Value& u, const std::string& block);

// The ends. W_U is W_E transposed, or a matrix [v, d] of its own.
Value unembed(const Frame& m, const Value& x, const Value& w_e,
              SourceLine line = SourceLine::here());  // -> [rows, v]

}  // namespace vitrine::nn
