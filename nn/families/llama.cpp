// Llama as a graph (Touvron et al. 2023), and its relatives Mistral, Qwen2 and Qwen3: the whole
// model, to be read from top to bottom. Beside GPT-2 (gpt2.cpp) there are four changes: RMSNorm for
// LayerNorm, positions that turn queries and keys instead of a vector that is added, keys and values
// that groups of query heads share, and neurons with gates.
#include <fmt/format.h>

#include "nn/families/parts.h"
#include "nn/families/readers.h"
#include "nn/families/sites.h"

namespace vitrine::nn {
namespace {

// ---- attention: each token looks at earlier tokens and copies something from them ---------------
Value attention_of_llama(const Frame& m, int layer, const Value& stream, const std::string& block,
                         const std::string& sites) {
  const Config& c = m.config;
  const std::int64_t d = c.d_model, e = c.d_head();
  const Norm ln1 = read_by_block(m, rms_norm(m, stream, block + "input_layernorm", sites + "ln1"),
                                 sites + "ln1");

  // A query, a key and a value of each token; fewer heads of keys and values than of queries.
  const auto project = [&](const char* letter, const char* name, int heads) {
    const std::string weights = block + "self_attn." + name;
    const std::string label = sites + "attn.";
    return of_heads(m, layer, ln1,
                    {letter, matrix(m, label + "W_" + letter, weights, heads * e, d),
                     bias_of(m, label + "b_" + letter, weights, c.qkv_bias, heads * e), heads});
  };
  Value q = project("Q", "q_proj", c.heads);        // [rows, h, e]
  Value k = project("K", "k_proj", c.key_heads());  // [rows, g, e]
  const Value v = project("V", "v_proj", c.key_heads());
  if (c.norm_heads) {  // Qwen3
    const auto norm = [&](const Value& x, const char* name, const char* site) {
      return m.b.site(sites + "attn." + site,
                      normed_heads(m, x, block + "self_attn." + name, sites + "attn." + name),
                      kPerHead);
    };
    q = norm(q, "q_norm", "hook_q_normed");
    k = norm(k, "k_norm", "hook_k_normed");
  }
  // What a query and a key say of their distance: both turn by their own position, so that their
  // product turns by the difference.
  q = rotated(m, layer, q, site::rot_q(layer));
  k = rotated(m, layer, k, site::rot_k(layer));
  const Value z = mixed(m, layer, q, k, v);  // [rows, h, e]

  const std::string weights = block + "self_attn.o_proj";
  const Value w_out = matrix(m, sites + "attn.W_O", weights, d, c.heads * e);  // [h * e, d]
  const Value b_out = bias_of(m, sites + "attn.b_O", weights, c.out_bias, d);
  const Value out = heads_out(z, w_out, b_out, site::result(layer).name);  // [rows, d]
  return m.b.site(site::attn_out(layer), out, kResidual);
}

// ---- MLP: neurons with gates ----------------------------------------------------------------------
Value mlp_of_llama(const Frame& m, int layer, const Value& x, const std::string& block,
                   const std::string& sites) {
  const Value in = m.b.site(site::mlp_in(layer), x, kResidual);
  const Norm ln2 = read_by_block(
      m, rms_norm(m, in, block + "post_attention_layernorm", sites + "ln2"), sites + "ln2");
  return m.b.site(site::mlp_out(layer), gated_mlp(m, layer, ln2.out, block + "mlp."),
                  kResidual);  // [rows, d]
}

// ---- a block: attention, then the MLP; each adds to the stream ------------------------------------
Value block_of_llama(const Frame& m, int layer, Value x) {
  const auto scope = m.b.scope(fmt::format("blocks.{}", layer));
  const std::string weights = fmt::format("layers.{}.", layer),
                    sites = fmt::format("blocks.{}.", layer);
  x = m.b.site(site::resid_pre(layer), x, kResidual);
  x = m.b.site(site::resid_mid(layer), x + attention_of_llama(m, layer, x, weights, sites),
               kResidual);
  x = m.b.site(site::resid_post(layer), x + mlp_of_llama(m, layer, x, weights, sites), kResidual);
  return x;
}

}  // namespace

// ---- the model: tokens in, logits out -------------------------------------------------------------
Graph build_llama(const Config& c, const BatchSize& size, DType dtype) {
  Builder b;
  const Frame m = begin(b, c, size, dtype);
  const Value w_e = m.weight("embed.W_E", "embed_tokens.weight", {c.vocabulary, c.d_model});
  Value x = b.site(site::embed(), gather_rows(w_e, m.tokens), kResidual);  // [rows, d]
  for (int layer = 0; layer < c.layers; ++layer) x = block_of_llama(m, layer, x);
  x = rms_norm(m, x, "norm", "ln_final").out;
  b.output("logits", unembed(m, x, w_e));
  return std::move(b).finish();
}

}  // namespace vitrine::nn
