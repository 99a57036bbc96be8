// Llama as a graph (Touvron et al. 2023), and its relatives Mistral, Qwen2 and Qwen3: the whole
// model, to be read from top to bottom. Beside GPT-2 (gpt2.cpp) there are four changes: RMSNorm for
// LayerNorm, positions that turn queries and keys instead of a vector that is added, keys and values
// that groups of query heads share, and neurons with gates. parts.h has what families share: projected (a
// matrix product, cut into heads), rotated, mixed (scores, mask, softmax, mean of the values), written
// (the heads' results, added up), gated_mlp.
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
  const std::string heads = block + "self_attn.";
  const Norm ln1 = read_by_block(m, rms_norm(m, stream, block + "input_layernorm", sites + "ln1"),
                                 sites + "ln1");

  // A query, a key and a value of each token; fewer heads of keys and values than of queries.
  Value q = projected(m, layer, ln1, "Q", heads + "q_proj", c.heads);        // [rows, h, e]
  Value k = projected(m, layer, ln1, "K", heads + "k_proj", c.key_heads());  // [rows, g, e]
  const Value v = projected(m, layer, ln1, "V", heads + "v_proj", c.key_heads());
  if (c.norm_heads) {  // Qwen3
    const auto norm = [&](const Value& x, const char* name, const char* site) {
      return m.b.site(sites + "attn." + site,
                      normed_heads(m, x, heads + name, sites + "attn." + name), kPerHead);
    };
    q = norm(q, "q_norm", "hook_q_normed");
    k = norm(k, "k_norm", "hook_k_normed");
  }
  // What a query and a key say of their distance: both turn by their own position, so that their
  // product turns by the difference.
  q = rotated(m, layer, q, site::rot_q(layer));
  k = rotated(m, layer, k, site::rot_k(layer));
  const Value z = mixed(m, layer, q, k, v);  // [rows, h, e]

  const Value out = written(m, layer, z, heads + "o_proj");  // [rows, d]
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
