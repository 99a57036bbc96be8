#include "nn/families/parts.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>

#include "nn/families/sites.h"

namespace vitrine::nn {

Frame begin(Builder& b, const Config& config, const BatchSize& size, DType dtype) {
  const auto table = [&](const char* name, const Shape& shape) {
    return b.input(name, {DType::i32, shape});
  };
  const Value tokens = table("tokens", {size.rows});
  const RowValues rows{table("rows.sequence", {size.rows}), table("rows.position", {size.rows}),
                       table("rows.keys", {size.sequences, size.positions})};
  b.rows(rows.sequence, rows.position, rows.keys);
  const std::int64_t widest = std::max({std::int64_t{config.d_model}, std::int64_t{config.d_mlp},
                                        std::int64_t{config.heads} * config.d_head()});
  return {b,
          config,
          dtype,
          tokens,
          rows,
          size.cached ? table("rows.slot", {size.rows}) : Value(),
          Tensor::zeros({widest}, dtype)};
}

std::string cache_name(const char* what, int layer) {
  return fmt::format("cache.{}.{}", what, layer);
}

Value with_earlier(const Frame& m, const char* what, int layer, const Value& fresh) {
  if (!m.slot.defined()) return fresh;
  const std::string name = cache_name(what, layer);
  const Value cache = m.b.parameter(
      name,
      {fresh.dtype(), {m.rows.keys.dim(1), fresh.dim(1), fresh.dim(2)}});  // [positions, g, e]
  const Value all = write_rows(cache, fresh, m.slot);
  m.b.output(name + ".next", all);
  return all;
}

Norm layer_norm(const Frame& m, const Value& x, const std::string& weights,
                const std::string& sites, SourceLine line) {
  const Shape d{m.config.d_model};
  const Value gain = m.weight(sites + ".w", weights + ".weight", d),
              bias = m.weight(sites + ".b", weights + ".bias", d);
  return {x, gain, bias, vitrine::layer_norm(x, gain, bias, m.config.norm_eps, sites, line)};
}

Norm read_by_block(const Frame& m, Norm norm, const std::string& sites) {
  norm.out = m.b.site(sites + ".hook_out", norm.out, kResidual);
  return norm;
}

Norm rms_norm(const Frame& m, const Value& x, const std::string& weights, const std::string& sites,
              Gain how, SourceLine line) {
  Value gain = m.parameter(weights + ".weight", {m.config.d_model});
  if (how == Gain::one_plus) gain = 1 + gain;
  m.named(sites + ".w", gain);
  return {x, gain, Value(), vitrine::rms_norm(x, gain, m.config.norm_eps, sites, line)};
}

Value activate(Activation a, const Value& x) {
  switch (a) {
    case Activation::gelu_tanh:
      return gelu_tanh(x);
    case Activation::gelu_erf:
      return gelu_erf(x);
    case Activation::relu:
      return relu(x);
    case Activation::silu:
      return silu(x);
  }
  return x;
}

Value normed_heads(const Frame& m, const Value& x, const std::string& weights,
                   const std::string& sites, Gain how, SourceLine line) {
  Value gain = m.parameter(weights + ".weight", {m.config.d_head()});
  if (how == Gain::one_plus) gain = 1 + gain;
  return vitrine::rms_norm(x, gain, m.config.norm_eps, sites, line);
}

// ---- projections ----------------------------------------------------------------------------------
Value matrix(const Frame& m, const std::string& label, const std::string& name, std::int64_t out,
             std::int64_t in) {
  return m.named(label, transpose(m.parameter(name + ".weight", {out, in})));
}

Value bias_of(const Frame& m, const std::string& label, const std::string& name, bool there,
              std::int64_t n) {
  return m.named(label, there ? m.parameter(name + ".bias", {n}) : m.no_bias(n));
}

// ---- attention --------------------------------------------------------------------------------------
Value of_heads(const Frame& m, int layer, const Norm& ln1, const Projection& p, SourceLine line) {
  const std::string sites = fmt::format("blocks.{}.attn.", layer);
  const char lower = static_cast<char>(std::tolower(*p.letter));
  const NormedInput input{ln1.out,
                          ln1.x,
                          ln1.gain,
                          ln1.bias,
                          m.config.norm_eps,
                          {},
                          false,
                          ln1.bias.defined() ? NormKind::layer_norm : NormKind::rms_norm};
  return m.b.site(fmt::format("{}hook_{}", sites, lower),
                  heads_in(input, p.w, p.b, p.heads,
                           fmt::format("blocks.{}.hook_{}_input", layer, lower), line),
                  kPerHead);
}

Value projected(const Frame& m, int layer, const Norm& ln1, const char* letter,
                const std::string& weights, int heads, SourceLine line) {
  const std::string label = fmt::format("blocks.{}.attn.", layer);
  const std::int64_t out = heads * m.config.d_head();
  return of_heads(m, layer, ln1,
                  {letter, matrix(m, label + "W_" + letter, weights, out, m.config.d_model),
                   bias_of(m, label + "b_" + letter, weights, m.config.qkv_bias, out), heads},
                  line);
}

Value written(const Frame& m, int layer, const Value& z, const std::string& weights,
              SourceLine line) {
  const Config& c = m.config;
  const std::string label = fmt::format("blocks.{}.attn.", layer);
  const Value w = matrix(m, label + "W_O", weights, c.d_model, c.heads * c.d_head());  // [h * e, d]
  const Value b = bias_of(m, label + "b_O", weights, c.out_bias, c.d_model);
  return heads_out(z, w, b, site::result(layer).name, line);
}

Value rotated(const Frame& m, int layer, const Value& x, const Site& site, SourceLine line) {
  const Rope& rope = m.config.rope_of(layer);
  return m.b.site(site, rotary(x, m.rows.position, {rope.frequencies(), rope.magnitude()}, line),
                  kPerHead);
}

Value mixed(const Frame& m, int layer, const Value& q, const Value& k, const Value& v,
            SourceLine line) {
  const Config& c = m.config;
  AttentionOptions rule;
  rule.scale = c.attention_scale(layer);
  rule.window = c.window(layer);
  rule.softcap = c.score_cap;
  const Value z =
      vitrine::attention(q, with_earlier(m, "k", layer, k), with_earlier(m, "v", layer, v), m.rows,
                         rule, fmt::format("blocks.{}.attn", layer), line);
  return m.b.site(site::z(layer), z, kPerHead);
}

// ---- MLP --------------------------------------------------------------------------------------------
Value mlp_linear(const Frame& m, int layer, const Value& x, const char* part,
                 const std::string& weights, std::int64_t out) {
  const std::string sites = fmt::format("blocks.{}.mlp.", layer);
  return linear(x, matrix(m, sites + "W_" + part, weights, out, x.dim(1)),
                bias_of(m, sites + "b_" + part, weights, m.config.mlp_bias, out));
}

Value gated_mlp(const Frame& m, int layer, const Value& u, const std::string& block) {
  const Config& c = m.config;
  const std::int64_t d = c.d_model, inner = c.d_mlp;
  // The gate says how much of what the neuron's other row reads passes.
  const Value gate =
      m.b.site(site::mlp_pre(layer), mlp_linear(m, layer, u, "gate", block + "gate_proj", inner),
               kResidual);  // [rows, m]
  const Value up =
      m.b.site(site::mlp_pre_linear(layer), mlp_linear(m, layer, u, "in", block + "up_proj", inner),
               kResidual);  // [rows, m]
  const Value post =
      m.b.site(site::mlp_post(layer), activate(c.activation, gate) * up, kResidual);  // [rows, m]
  return mlp_linear(m, layer, post, "out", block + "down_proj", d);                   // [rows, d]
}

Value unembed(const Frame& m, const Value& x, const Value& w_e, SourceLine line) {
  const Config& c = m.config;
  const Value w_u =
      c.tied ? w_e
             : m.parameter(std::string(architecture(c).unembedding), {c.vocabulary, c.d_model});
  const Value in = m.b.site(site::unembed_in(), x, kResidual);  // [rows, d]
  return m.b.site(site::unembed_out(), matmul(in, m.named("unembed.W_U", transpose(w_u)), line),
                  kResidual);  // [rows, v]
}

}  // namespace vitrine::nn
