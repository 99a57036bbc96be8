// Gemma 2 and the text model of Gemma 3 as a graph (Gemma Team 2024, 2025). Beside Llama
// (llama.cpp): what attention and the MLP give is normed again before it joins the stream, gains are
// learnt as gain - 1, embeddings are scaled, layers with a window alternate with layers without,
// and Gemma 2 caps scores and logits.
#include <fmt/format.h>

#include <cmath>

#include "nn/families/parts.h"
#include "nn/families/readers.h"
#include "nn/families/sites.h"

namespace vitrine::nn {
namespace {

// ---- attention ------------------------------------------------------------------------------------
Value attention_of_gemma(const Frame& m, int layer, const Value& stream, const std::string& block,
                         const std::string& sites) {
  const Config& c = m.config;
  const std::string heads = block + "self_attn.";
  const Norm ln1 = read_by_block(
      m, rms_norm(m, stream, block + "input_layernorm", sites + "ln1", Gain::one_plus),
      sites + "ln1");
  Value q = projected(m, layer, ln1, "Q", heads + "q_proj", c.heads);        // [rows, h, e]
  Value k = projected(m, layer, ln1, "K", heads + "k_proj", c.key_heads());  // [rows, g, e]
  const Value v = projected(m, layer, ln1, "V", heads + "v_proj", c.key_heads());
  if (c.norm_heads) {  // Gemma 3
    const auto norm = [&](const Value& x, const char* name, const char* site) {
      return m.b.site(sites + "attn." + site,
                      normed_heads(m, x, heads + name, sites + "attn." + name, Gain::one_plus),
                      kPerHead);
    };
    q = norm(q, "q_norm", "hook_q_normed");
    k = norm(k, "k_norm", "hook_k_normed");
  }
  q = rotated(m, layer, q, site::rot_q(layer));
  k = rotated(m, layer, k, site::rot_k(layer));
  const Value z = mixed(m, layer, q, k, v);  // [rows, h, e]

  const Value out = written(m, layer, z, heads + "o_proj");  // [rows, d]
  const Value whole = m.b.site(sites + "hook_attn_out_before_post_norm", out, kResidual);
  const Norm post =
      rms_norm(m, whole, block + "post_attention_layernorm", sites + "ln1_post", Gain::one_plus);
  return m.b.site(site::attn_out(layer), post.out, kResidual);
}

// ---- MLP ------------------------------------------------------------------------------------------
Value mlp_of_gemma(const Frame& m, int layer, const Value& x, const std::string& block,
                   const std::string& sites) {
  const Value in = m.b.site(site::mlp_in(layer), x, kResidual);
  const Norm ln2 = read_by_block(
      m, rms_norm(m, in, block + "pre_feedforward_layernorm", sites + "ln2", Gain::one_plus),
      sites + "ln2");
  const Value whole = m.b.site(sites + "hook_mlp_out_before_post_norm",
                               gated_mlp(m, layer, ln2.out, block + "mlp."), kResidual);
  const Norm post =
      rms_norm(m, whole, block + "post_feedforward_layernorm", sites + "ln2_post", Gain::one_plus);
  return m.b.site(site::mlp_out(layer), post.out, kResidual);  // [rows, d]
}

// ---- a block --------------------------------------------------------------------------------------
Value block_of_gemma(const Frame& m, int layer, Value x) {
  const auto scope = m.b.scope(fmt::format("blocks.{}", layer));
  const std::string weights = fmt::format("layers.{}.", layer),
                    sites = fmt::format("blocks.{}.", layer);
  x = m.b.site(site::resid_pre(layer), x, kResidual);
  x = m.b.site(site::resid_mid(layer), x + attention_of_gemma(m, layer, x, weights, sites),
               kResidual);
  return m.b.site(site::resid_post(layer), x + mlp_of_gemma(m, layer, x, weights, sites),
                  kResidual);
}

}  // namespace

// ---- the model: tokens in, logits out -------------------------------------------------------------
Graph build_gemma(const Config& c, const BatchSize& size, DType dtype) {
  Builder b;
  const Frame m = begin(b, c, size, dtype);
  const Value w_e = m.weight("embed.W_E", "embed_tokens.weight", {c.vocabulary, c.d_model});
  // Rows of the embedding are scaled as they are read; the unembedding reads them as they are.
  const double scale = std::sqrt(static_cast<double>(c.d_model));
  Value x = b.site(site::embed(), scale * gather_rows(w_e, m.tokens), kResidual);  // [rows, d]
  for (int layer = 0; layer < c.layers; ++layer) x = block_of_gemma(m, layer, x);
  x = rms_norm(m, x, "norm", "ln_final", Gain::one_plus).out;
  Value logits = unembed(m, x, w_e);
  if (c.logit_cap > 0)
    logits = b.site("unembed.hook_capped", softcap(logits, c.logit_cap), kResidual);
  b.output("logits", logits);
  return std::move(b).finish();
}

}  // namespace vitrine::nn
