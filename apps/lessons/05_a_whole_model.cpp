// Lesson 5. A whole GPT-2, step by step, until its logits are the library's; then the four changes
// that make it a Llama.
#include <map>

#include "apps/lessons/lesson.h"
#include "autograd/compile/plan.h"
#include "autograd/ops/ops.h"
#include "nn/model/model.h"

namespace {

using namespace vitrine;
using namespace vitrine::lesson;

struct Parts {  // what every part of a model needs
  Builder& b;
  const nn::Config& c;

  // A weight of the checkpoint, under HuggingFace's name.
  Value weight(const std::string& name, const Shape& shape) const {
    return b.parameter(name, {DType::f32, shape});
  }
  // x w + bias.
  Value project(const Value& x, const std::string& name, std::int64_t out) const {
    return matmul(x, weight(name + ".weight", {x.dim(1), out})) + weight(name + ".bias", {out});
  }
  // x w^T: Llama keeps its matrices as [out, in], and has no biases.
  Value turned(const Value& x, const std::string& name, std::int64_t out) const {
    return matmul(x, transpose(weight(name + ".weight", {out, x.dim(1)})));
  }
};

// [snippet heads]
// [rows, heads * e] -> [heads, rows, e], and back.
Value split(const Value& x, std::int64_t heads) {
  return permute(reshape(x, {x.dim(0), heads, -1}), {1, 0, 2});
}
Value join(const Value& z) { return reshape(permute(z, {1, 0, 2}), {z.dim(1), -1}); }

// Lesson 3 for all heads at once: q, k, v [heads, rows, e] -> [rows, heads * e].
Value attend(const Value& q, const Value& k, const Value& v) {
  const Value scores = matmul(q, transpose(k)) / std::sqrt(static_cast<double>(q.dim(2)));
  return join(matmul(softmax(mask(scores, 1, 2)), v));
}
// [/snippet heads]

// ---- GPT-2 ----------------------------------------------------------------------------------------
// [snippet layer_norm]
// Each row shifted to mean 0 and scaled to variance 1; then a gain and a bias that were learnt.
Value norm_of_gpt2(const Parts& m, const Value& x, const std::string& name) {
  const Value centred = x - mean(x, {-1}, true);
  const Value normalised = centred * rsqrt(mean(square(centred), {-1}, true) + m.c.norm_eps);
  const Shape d{m.c.d_model};
  return normalised * m.weight(name + ".weight", d) + m.weight(name + ".bias", d);
}
// [/snippet layer_norm]

// [snippet gelu]
// The neurons' bend: near 0 for x below -3, near x above 3 (Hendrycks & Gimpel 2016).
Value gelu(const Value& x) {
  return 0.5 * x * (1.0 + tanh(0.7978845608 * (x + 0.044715 * x * x * x)));
}
// [/snippet gelu]

// [snippet gpt2]
Graph build_gpt2(const nn::Config& c, std::int64_t rows) {
  Builder b;
  const Parts m{b, c};
  const std::int64_t d = c.d_model;
  const Value table = m.weight("wte.weight", {c.vocabulary, d});
  const Value places = m.weight("wpe.weight", {c.context, d});
  Value x = gather_rows(table, b.input("tokens", {DType::i32, {rows}})) + slice(places, 0, 0, rows);
  b.output("blocks.0.hook_resid_pre", x);

  for (int layer = 0; layer < c.layers; ++layer) {
    const std::string h = fmt::format("h.{}.", layer);
    // Attention reads the stream and adds to it.
    const Value qkv = m.project(norm_of_gpt2(m, x, h + "ln_1"), h + "attn.c_attn", 3 * d);
    const auto part = [&](int i) { return split(slice(qkv, 1, i * d, (i + 1) * d), c.heads); };
    x = x + m.project(attend(part(0), part(1), part(2)), h + "attn.c_proj", d);
    b.output(fmt::format("blocks.{}.hook_resid_mid", layer), x);
    // The MLP reads the stream and adds to it.
    const Value neurons = gelu(m.project(norm_of_gpt2(m, x, h + "ln_2"), h + "mlp.c_fc", c.d_mlp));
    x = x + m.project(neurons, h + "mlp.c_proj", d);
    b.output(fmt::format("blocks.{}.hook_resid_post", layer), x);
  }

  b.output("unembed.hook_out", matmul(norm_of_gpt2(m, x, "ln_f"), transpose(table)));
  return std::move(b).finish();
}
// [/snippet gpt2]

// ---- the four changes -----------------------------------------------------------------------------
// [snippet rms_norm]
// 1. RMSNorm: no mean is taken, nothing is added.
Value norm_of_llama(const Parts& m, const Value& x, const std::string& name) {
  const Value scale = rsqrt(mean(square(x), {-1}, true) + m.c.norm_eps);
  return x * scale * m.weight(name + ".weight", {m.c.d_model});
}
// [/snippet rms_norm]

// [snippet rotary]
// 2. Rotary positions: entries i and i + e/2 of each query and key turn, as the hands of a clock, by
// position * frequency i. x [heads, rows, e].
Value rotate(const Parts& m, const Value& x) {
  const std::int64_t rows = x.dim(1), half = x.dim(2) / 2;
  std::vector<float> angles;
  for (std::int64_t position = 0; position < rows; ++position)
    for (std::int64_t i = 0; i < half; ++i)
      angles.push_back(static_cast<float>(
          static_cast<double>(position) *
          std::pow(m.c.rope->base, -static_cast<double>(i) / static_cast<double>(half))));
  const Value angle = m.b.constant(Tensor::of({rows, half}, angles));
  const Value u = slice(x, 2, 0, half), v = slice(x, 2, half, 2 * half);
  return concat({u * cos(angle) - v * sin(angle), v * cos(angle) + u * sin(angle)}, 2);
}
// [/snippet rotary]

// [snippet grouped]
// 3. Grouped heads: fewer heads of keys and values than of queries; neighbours share one.
Value shared(const Parts& m, const Value& k) {
  std::vector<int> reads;  // query head h reads key head h / group
  for (int h = 0; h < m.c.heads; ++h) reads.push_back(m.c.key_head(h));
  return gather_rows(k, m.b.constant(Tensor::of({m.c.heads}, reads)));
}
// [/snippet grouped]

// [snippet swiglu]
// 4. Gated neurons (SwiGLU): one matrix finds what to pass on, another says how much of it passes.
Value gated(const Parts& m, const Value& x, const std::string& name) {
  const Value gate = m.turned(x, name + "gate_proj", m.c.d_mlp);
  const Value passes = gate * sigmoid(gate);
  return m.turned(passes * m.turned(x, name + "up_proj", m.c.d_mlp), name + "down_proj",
                  m.c.d_model);
}
// [/snippet swiglu]

// [snippet llama]
Graph build_llama(const nn::Config& c, std::int64_t rows) {
  Builder b;
  const Parts m{b, c};
  const Value table = m.weight("embed_tokens.weight", {c.vocabulary, c.d_model});
  Value x = gather_rows(table, b.input("tokens", {DType::i32, {rows}}));  // no places are added
  b.output("blocks.0.hook_resid_pre", x);
  for (int layer = 0; layer < c.layers; ++layer) {
    const std::string name = fmt::format("layers.{}.", layer), a = name + "self_attn.";
    const Value read = norm_of_llama(m, x, name + "input_layernorm");
    const auto project = [&](const char* which, int heads) {
      return split(m.turned(read, a + which, heads * c.d_head()), heads);
    };
    const Value q = rotate(m, project("q_proj", c.heads));
    const Value k = rotate(m, project("k_proj", c.key_heads()));
    const Value z = attend(q, shared(m, k), shared(m, project("v_proj", c.key_heads())));
    x = x + m.turned(z, a + "o_proj", c.d_model);
    b.output(fmt::format("blocks.{}.hook_resid_mid", layer), x);
    x = x + gated(m, norm_of_llama(m, x, name + "post_attention_layernorm"), name + "mlp.");
    b.output(fmt::format("blocks.{}.hook_resid_post", layer), x);
  }
  const Value out = m.weight("lm_head.weight", {c.vocabulary, c.d_model});
  b.output("unembed.hook_out", matmul(norm_of_llama(m, x, "norm"), transpose(out)));
  return std::move(b).finish();
}
// [/snippet llama]

// [snippet compare]
// Runs our graph and the library's on the same tokens. Our outputs are called as the library's sites.
void compare(const nn::Model& m, const Graph& graph, const nn::Tokens& tokens) {
  std::map<NodeId, std::string> steps;  // in the order of the model
  for (const auto& [name, node] : graph.outputs()) steps[node] = name;
  Fetch wanted;
  for (const auto& [node, name] : steps) wanted.wants.push_back(value(name));
  const Tensor ids = Tensor::of({static_cast<std::int64_t>(tokens.size())}, tokens);
  const Results mine = compile(graph, wanted).run({{"tokens", ids}}, m.parameters());
  const nn::Run library = m.run(tokens, sites("blocks.*.hook_resid_*,unembed.hook_out"));
  std::vector<Row> rows;
  double largest = 0;
  for (const auto& [node, name] : steps) {
    const double differs = max_abs_difference(mine[name], library[name].select(0, 0));
    rows.push_back(
        {name, fmt::format("{:.1f}", max_abs(mine[name])), fmt::format("{:.1e}", differs)});
    largest = std::max(largest, differs);
  }
  // [/snippet compare]
  table({"step", "largest number", "differs by"}, rows);
  expect("largest difference of all", largest, at_most(1e-4));
}

}  // namespace

int main() {
  section("A GPT-2, rebuilt");
  const nn::Model gpt2 = nn::load_model("", {.weights = nn::Weights::widened});
  const nn::Tokens prompt = gpt2.tokens("The capital of Texas is");
  compare(gpt2, build_gpt2(gpt2.config(), 5), prompt);

  section("A Llama: four changes");
  const nn::Model llama = nn::load_model(VITRINE_TEST_DATA "/families/llama");
  compare(llama, build_llama(llama.config(), 8), {5, 17, 42, 3, 96, 17, 42, 8});
}
