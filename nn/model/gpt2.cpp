#include "nn/model/gpt2.h"

#include <fmt/format.h>

#include "autograd/ops/ops.h"
#include "nn/model/sites.h"

namespace vitrine::nn {
namespace {

// A transformer is a stack of blocks that read from and write to one shared memory, the residual
// stream: a vector of d numbers for each token. Attention is the only part that moves information
// between tokens; everything else works on each token alone, so the tokens of all prompts are
// simply rows of one matrix x [rows, d].
//
// In the comments: d = d_model, h = heads, e = d / h (the width of a head), m = d_mlp, v =
// vocabulary.

const Axes kResidual = {Axis::row, Axis::feature};
const Axes kPerHead = {Axis::row, Axis::head, Axis::feature};

// What every part of the model needs to know.
struct Gpt2 {
  Builder& b;
  const Config& config;
  DType dtype;
  RowValues rows;  // which token of which prompt each row is
  Value slot;      // where each row goes in the cache; undefined without one

  Value parameter(const std::string& name, const Shape& shape) const {
    return b.parameter(name, {dtype, shape});
  }
};

// LayerNorm: each row shifted and scaled to mean 0 and variance 1, then times a learnt gain, plus a
// learnt bias.
struct Norm {
  Value gain, bias;  // [d]
  Value out;         // [rows, d]
};
Norm layer_norm(const Gpt2& m, const Value& x, const std::string& weights,
                const std::string& sites) {
  const Shape d{m.config.d_model};
  const Value gain = m.parameter(weights + ".weight", d), bias = m.parameter(weights + ".bias", d);
  return {gain, bias, vitrine::layer_norm(x, gain, bias, m.config.layer_norm_eps, sites)};
}

// When text is generated token by token, the keys and values of earlier tokens are kept instead of
// computed again.
std::string cache_name(const char* what, int layer) {
  return fmt::format("cache.{}.{}", what, layer);
}
std::string next_name(const std::string& cache) { return cache + ".next"; }

Value with_earlier(const Gpt2& m, const char* what, int layer,
                   const Value& fresh) {  // fresh [rows, h, e]
  if (!m.slot.defined()) return fresh;
  const std::string name = cache_name(what, layer);
  const Value cache =
      m.parameter(name, {m.rows.keys.dim(1), fresh.dim(1), fresh.dim(2)});  // [positions, h, e]
  const Value all = write_rows(cache, fresh, m.slot);
  m.b.output(next_name(name), all);
  return all;
}

// ---- attention: each token looks at earlier tokens and copies something from them -------------
Value attention(const Gpt2& m, int layer, const Value& x, const std::string& block,
                const std::string& sites) {
  const Config& c = m.config;
  const int d = c.d_model, h = c.heads;
  const Norm ln1 = layer_norm(m, x, block + "ln_1", sites + "ln1");
  const NormedInput input{ln1.out, x, ln1.gain, ln1.bias, c.layer_norm_eps};

  // Three projections of each token, for each head: a query (what am I looking for?), a key (what
  // do I offer?) and a value (what do I hand over?). The checkpoint packs their weights side by
  // side: [d, 3d].
  const Value w = m.parameter(block + "attn.c_attn.weight", {d, 3 * d});
  const Value bias = m.parameter(block + "attn.c_attn.bias", {3 * d});
  const auto project = [&](int part, const Site& copies, const Site& result) {
    const Value w_part = slice(w, 1, part * d, (part + 1) * d);  // [d, h * e]
    const Value b_part = slice(bias, 0, part * d, (part + 1) * d);
    return m.b.site(result, heads_in(input, w_part, b_part, h, copies.name),
                    kPerHead);  // [rows, h, e]
  };
  const Value q = project(0, site::q_input(layer), site::q(layer));
  const Value k = with_earlier(m, "k", layer, project(1, site::k_input(layer), site::k(layer)));
  const Value v = with_earlier(m, "v", layer, project(2, site::v_input(layer), site::v(layer)));

  // Each query meets the keys of its own prompt up to its own position; softmax turns the scores
  // into a pattern, weights that sum to 1; z is the weighted mean of the values. Inside:
  // hook_attn_scores and hook_pattern [rows, h, keys].
  Value z = vitrine::attention(q, k, v, m.rows, c.attention_scale(layer),
                               sites + "attn");  // [rows, h, e]
  z = m.b.site(site::z(layer), z, kPerHead);

  // Each head writes its share back into the residual stream; the shares add up. Inside:
  // hook_result [rows, h, d].
  const Value w_out = m.parameter(block + "attn.c_proj.weight", {d, d});  // [h * e, d]
  const Value b_out = m.parameter(block + "attn.c_proj.bias", {d});
  const Value out = heads_out(z, w_out, b_out, site::result(layer).name);  // [rows, d]
  return m.b.site(site::attn_out(layer), out, kResidual);
}

// ---- MLP: each token on its own is looked up in a table of m patterns, the neurons ------------
Value activate(Activation a, const Value& x) {
  switch (a) {
    case Activation::gelu_tanh:
      return gelu_tanh(x);
    case Activation::gelu_erf:
      return gelu_erf(x);
    case Activation::relu:
      return relu(x);
  }
  return x;
}

Value mlp(const Gpt2& m, int layer, const Value& x, const std::string& block,
          const std::string& sites) {
  const int d = m.config.d_model, inner = m.config.d_mlp;
  const Value in = m.b.site(site::mlp_in(layer), x, kResidual);
  const Norm ln2 = layer_norm(m, in, block + "ln_2", sites + "ln2");

  // Row i of W_in says what neuron i looks for, row i of W_out what it writes when it finds it.
  const Value w_in = m.parameter(block + "mlp.c_fc.weight", {d, inner});
  const Value b_in = m.parameter(block + "mlp.c_fc.bias", {inner});
  const Value pre =
      m.b.site(site::mlp_pre(layer), linear(ln2.out, w_in, b_in), kResidual);  // [rows, m]
  const Value post =
      m.b.site(site::mlp_post(layer), activate(m.config.activation, pre), kResidual);  // [rows, m]

  const Value w_out = m.parameter(block + "mlp.c_proj.weight", {inner, d});
  const Value b_out = m.parameter(block + "mlp.c_proj.bias", {d});
  return m.b.site(site::mlp_out(layer), linear(post, w_out, b_out), kResidual);  // [rows, d]
}

// ---- a block: attention, then the MLP; each adds to the stream --------------------------------
Value block(const Gpt2& m, int layer, Value x) {
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
  const auto table = [&](const char* name, const Shape& shape) {
    return b.input(name, {DType::i32, shape});
  };
  const Value tokens = table("tokens", {size.rows});
  const RowValues rows{table("rows.sequence", {size.rows}), table("rows.position", {size.rows}),
                       table("rows.keys", {size.sequences, size.positions})};
  b.rows(rows.sequence, rows.position, rows.keys);
  const Gpt2 m{b, c, dtype, rows, size.cached ? table("rows.slot", {size.rows}) : Value()};

  // A token enters as the sum of two vectors: what it is, and where it stands.
  const Value w_e = m.parameter("wte.weight", {c.vocabulary, c.d_model});
  const Value w_pos = m.parameter("wpe.weight", {c.context, c.d_model});
  const Value embed = b.site(site::embed(), gather_rows(w_e, tokens), kResidual);  // [rows, d]
  const Value pos_embed =
      b.site(site::pos_embed(), gather_rows(w_pos, rows.position), kResidual);  // [rows, d]
  Value x = embed + pos_embed;

  for (int layer = 0; layer < c.layers; ++layer) x = block(m, layer, x);

  // What the stream says in the end is compared with every word of the vocabulary: logits, the
  // log-odds of the next token up to a constant. Unless the checkpoint says otherwise, words are
  // read with the vectors they were written with.
  x = layer_norm(m, x, "ln_f", "ln_final").out;
  x = b.site(site::unembed_in(), x, kResidual);  // [rows, d]
  const Value w_u = c.tied ? w_e : m.parameter("lm_head.weight", {c.vocabulary, c.d_model});
  const Value logits =
      b.site(site::unembed_out(), matmul(x, transpose(w_u)), kResidual);  // [rows, v]
  b.output("logits", logits);
  return std::move(b).finish();
}

Updates cache_updates(const Config& config) {
  Updates updates;
  for (int layer = 0; layer < config.layers; ++layer) {
    for (const char* what : {"k", "v"})
      updates[cache_name(what, layer)] = next_name(cache_name(what, layer));
  }
  return updates;
}

}  // namespace vitrine::nn
