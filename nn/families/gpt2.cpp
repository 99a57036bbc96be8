// GPT-2 as a graph (Radford et al. 2019): the whole model, to be read from top to bottom.

#include <fmt/format.h>

#include "nn/families/parts.h"
#include "nn/families/readers.h"
#include "nn/families/sites.h"

namespace vitrine::nn {
namespace {

// A transformer is a stack of blocks that read from and write to one shared memory, the residual
// stream: a vector of d numbers for each token. Attention is the only part that moves information
// between tokens; everything else works on each token alone, so the tokens of all prompts are
// simply rows of one matrix x [rows, d].
//
// In the comments: d = d_model, h = heads, e = d / h (the width of a head), m = d_mlp, v =
// vocabulary.

// ---- attention: each token looks at earlier tokens and copies something from them -------------
Value attention(const Frame& m, int layer, const Value& x, const std::string& block,
                const std::string& sites) {
  const Config& c = m.config;
  const int d = c.d_model, h = c.heads;
  const Norm ln1 = layer_norm(m, x, block + "ln_1", sites + "ln1");
  // What the projections read is ln1.out. The rest lets each head have an edited copy of the
  // stream, which is then normed for that head alone.
  const NormedInput input{ln1.out, x, ln1.gain, ln1.bias, c.norm_eps};

  // Three projections of each token, for each head: a query (what am I looking for?), a key (what
  // do I offer?) and a value (what do I hand over?). The checkpoint packs their weights side by
  // side: [d, 3d].
  const Value w = m.parameter(block + "attn.c_attn.weight", {d, 3 * d});
  const Value bias = m.parameter(block + "attn.c_attn.bias", {3 * d});
  const auto project = [&](int part, const char* letter, const Site& copies, const Site& result) {
    const Value w_part = m.named(fmt::format("{}attn.W_{}", sites, letter),
                                 slice(w, 1, part * d, (part + 1) * d));  // [d, h * e]
    const Value b_part = m.named(fmt::format("{}attn.b_{}", sites, letter),
                                 slice(bias, 0, part * d, (part + 1) * d));
    return m.b.site(result, heads_in(input, w_part, b_part, h, copies.name),
                    kPerHead);  // [rows, h, e]
  };
  // While a text is generated, the keys and values of earlier tokens are kept; with_earlier joins
  // them to those of the new ones.
  const Value q = project(0, "Q", site::q_input(layer), site::q(layer));
  const Value k =
      with_earlier(m, "k", layer, project(1, "K", site::k_input(layer), site::k(layer)));
  const Value v =
      with_earlier(m, "v", layer, project(2, "V", site::v_input(layer), site::v(layer)));

  // Each query meets the keys of its own prompt up to its own position; softmax turns the scores
  // into a pattern, weights that sum to 1; z is the weighted mean of the values. Inside:
  // hook_attn_scores and hook_pattern [rows, h, keys].
  Value z = vitrine::attention(q, k, v, m.rows, c.attention_scale(layer),
                               sites + "attn");  // [rows, h, e]
  z = m.b.site(site::z(layer), z, kPerHead);

  // Each head writes its share back into the residual stream; the shares add up. Inside:
  // hook_result [rows, h, d].
  const Value w_out =
      m.weight(sites + "attn.W_O", block + "attn.c_proj.weight", {d, d});  // [h * e, d]
  const Value b_out = m.weight(sites + "attn.b_O", block + "attn.c_proj.bias", {d});
  const Value out = heads_out(z, w_out, b_out, site::result(layer).name);  // [rows, d]
  return m.b.site(site::attn_out(layer), out, kResidual);
}

// ---- MLP: each token on its own is looked up in a table of m patterns, the neurons ------------
Value mlp(const Frame& m, int layer, const Value& x, const std::string& block,
          const std::string& sites) {
  const int d = m.config.d_model, inner = m.config.d_mlp;
  const Value in = m.b.site(site::mlp_in(layer), x, kResidual);
  const Norm ln2 = layer_norm(m, in, block + "ln_2", sites + "ln2");

  // Row i of W_in says what neuron i looks for, row i of W_out what it writes when it finds it.
  const Value w_in = m.weight(sites + "mlp.W_in", block + "mlp.c_fc.weight", {d, inner});
  const Value b_in = m.weight(sites + "mlp.b_in", block + "mlp.c_fc.bias", {inner});
  const Value pre =
      m.b.site(site::mlp_pre(layer), linear(ln2.out, w_in, b_in), kResidual);  // [rows, m]
  const Value post =
      m.b.site(site::mlp_post(layer), activate(m.config.activation, pre), kResidual);  // [rows, m]

  const Value w_out = m.weight(sites + "mlp.W_out", block + "mlp.c_proj.weight", {inner, d});
  const Value b_out = m.weight(sites + "mlp.b_out", block + "mlp.c_proj.bias", {d});
  return m.b.site(site::mlp_out(layer), linear(post, w_out, b_out), kResidual);  // [rows, d]
}

// ---- a block: attention, then the MLP; each adds to the stream --------------------------------
Value block(const Frame& m, int layer, Value x) {
  const auto scope = m.b.scope(fmt::format("blocks.{}", layer));
  const std::string weights = fmt::format("h.{}.", layer), sites = fmt::format("blocks.{}.", layer);
  x = m.b.site(site::resid_pre(layer), x, kResidual);
  x = m.b.site(site::resid_mid(layer), x + attention(m, layer, x, weights, sites), kResidual);
  x = m.b.site(site::resid_post(layer), x + mlp(m, layer, x, weights, sites), kResidual);
  return x;
}

}  // namespace

// ---- the model: tokens in, logits out ---------------------------------------------------------
Graph build_gpt2(const Config& c, const BatchSize& size, DType dtype) {
  Builder b;
  const Frame m = begin(b, c, size, dtype);

  // A token enters as the sum of two vectors: what it is, and where it stands.
  const Value w_e = m.weight("embed.W_E", "wte.weight", {c.vocabulary, c.d_model});
  const Value w_pos = m.weight("pos_embed.W_pos", "wpe.weight", {c.context, c.d_model});
  const Value embed = b.site(site::embed(), gather_rows(w_e, m.tokens), kResidual);  // [rows, d]
  const Value pos_embed =
      b.site(site::pos_embed(), gather_rows(w_pos, m.rows.position), kResidual);  // [rows, d]
  Value x = embed + pos_embed;

  for (int layer = 0; layer < c.layers; ++layer) x = block(m, layer, x);

  // What the stream says in the end is compared with every word of the vocabulary: logits, the
  // log-odds of the next token up to a constant. Unless the checkpoint says otherwise, words are
  // read with the vectors they were written with.
  x = layer_norm(m, x, "ln_f", "ln_final").out;
  b.output("logits", unembed(m, x, w_e));
  return std::move(b).finish();
}

}  // namespace vitrine::nn
