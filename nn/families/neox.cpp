// GPT-NeoX as a graph (Black et al. 2022): Pythia. Beside GPT-2 (gpt2.cpp), attention and MLP of a
// block both read what enters it, and positions turn a part of each query and key.
#include <fmt/format.h>

#include "nn/families/parts.h"
#include "nn/families/readers.h"
#include "nn/families/sites.h"

namespace vitrine::nn {
namespace {

// ---- attention ------------------------------------------------------------------------------------
Value attention_of_neox(const Frame& m, int layer, const Value& x, const std::string& block,
                        const std::string& sites) {
  const Config& c = m.config;
  const std::int64_t d = c.d_model, h = c.heads, e = c.d_head();
  const Norm ln1 =
      read_by_block(m, layer_norm(m, x, block + "input_layernorm", sites + "ln1"), sites + "ln1");

  // The checkpoint packs the three projections of a head one after the other, [h, 3, e] rows.
  const std::string packed = block + "attention.query_key_value";
  const Value w = reshape(m.parameter(packed + ".weight", {3 * h * e, d}), {h, 3, e, d});
  const auto project = [&](const char* letter, int part) {
    const Value own = reshape(slice(w, 1, part, part + 1), {h * e, d});
    Value bias = m.no_bias(h * e);
    if (c.qkv_bias) {
      const Value all = reshape(m.parameter(packed + ".bias", {3 * h * e}), {h, 3, e});
      bias = reshape(slice(all, 1, part, part + 1), {h * e});
    }
    const std::string label = sites + "attn.";
    return of_heads(m, layer, ln1,
                    {letter, m.named(label + "W_" + letter, transpose(own)),
                     m.named(label + "b_" + letter, bias), c.heads});  // [rows, h, e]
  };
  const Value q = rotated(m, layer, project("Q", 0), site::rot_q(layer));
  const Value k = rotated(m, layer, project("K", 1), site::rot_k(layer));
  const Value z = mixed(m, layer, q, k, project("V", 2));  // [rows, h, e]

  const Value out = written(m, layer, z, block + "attention.dense");  // [rows, d]
  return m.b.site(site::attn_out(layer), out, kResidual);
}

// ---- MLP ------------------------------------------------------------------------------------------
Value mlp_of_neox(const Frame& m, int layer, const Value& x, const std::string& block,
                  const std::string& sites) {
  const std::int64_t d = m.config.d_model, inner = m.config.d_mlp;
  const Value in = m.b.site(site::mlp_in(layer), x, kResidual);
  const Norm ln2 = read_by_block(
      m, layer_norm(m, in, block + "post_attention_layernorm", sites + "ln2"), sites + "ln2");
  const Value pre = m.b.site(
      site::mlp_pre(layer), mlp_linear(m, layer, ln2.out, "in", block + "mlp.dense_h_to_4h", inner),
      kResidual);  // [rows, m]
  const Value post = m.b.site(site::mlp_post(layer), activate(m.config.activation, pre), kResidual);
  return m.b.site(site::mlp_out(layer),
                  mlp_linear(m, layer, post, "out", block + "mlp.dense_4h_to_h", d),
                  kResidual);  // [rows, d]
}

// ---- a block: attention and MLP, side by side or one after the other ------------------------------
Value block_of_neox(const Frame& m, int layer, Value x) {
  const auto scope = m.b.scope(fmt::format("blocks.{}", layer));
  const std::string weights = fmt::format("layers.{}.", layer),
                    sites = fmt::format("blocks.{}.", layer);
  x = m.b.site(site::resid_pre(layer), x, kResidual);
  const Value attended = x + attention_of_neox(m, layer, x, weights, sites);
  if (m.config.parallel) {
    x = attended + mlp_of_neox(m, layer, x, weights, sites);
  } else {
    x = m.b.site(site::resid_mid(layer), attended, kResidual);
    x = x + mlp_of_neox(m, layer, x, weights, sites);
  }
  return m.b.site(site::resid_post(layer), x, kResidual);
}

}  // namespace

// ---- the model: tokens in, logits out -------------------------------------------------------------
Graph build_neox(const Config& c, const BatchSize& size, DType dtype) {
  Builder b;
  const Frame m = begin(b, c, size, dtype);
  const Value w_e = m.weight("embed.W_E", "embed_in.weight", {c.vocabulary, c.d_model});
  Value x = b.site(site::embed(), gather_rows(w_e, m.tokens), kResidual);  // [rows, d]
  for (int layer = 0; layer < c.layers; ++layer) x = block_of_neox(m, layer, x);
  x = layer_norm(m, x, "final_layer_norm", "ln_final").out;
  b.output("logits", unembed(m, x, w_e));
  return std::move(b).finish();
}

}  // namespace vitrine::nn
