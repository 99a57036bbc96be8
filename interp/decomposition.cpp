#include "interp/decomposition.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "autograd/ops/ops.h"
#include "interp/lens.h"
#include "nn/families/sites.h"
#include "nn/model/weights.h"

namespace vitrine::interp {
namespace {

using Kind = Part::Kind;

// Emits the shares of one row of a run.
class Shares {
 public:
  Shares(Builder& b, const nn::Config& config, const DecomposeSpec& spec)
      : b_(b), config_(config), spec_(spec), w_(nn::weights_of(b, config)) {}

  void emit() {
    row_ = b_.input("decompose.row", {DType::i32, {1}});
    const Value u = of_answer(w_.w_u);                           // [1, d]
    const Value scale = at_row(b_.at(site::final_scale()));      // [1, 1]
    direction_ = nn::folded(w_.ln_final, transpose(u)) / scale;  // [d, 1]
    put("scale", scale);
    put("logit", transpose(of_answer(transpose(at_row(b_.at(site::unembed_out()))))));
    put("embed", share(at_row(b_.at(site::embed()))));
    if (w_.w_pos.defined()) put("pos_embed", share(at_row(b_.at(site::pos_embed()))));

    std::vector<Value> heads, attn_biases, mlps, neurons, mlp_biases;
    for (int l = 0; l < config_.layers; ++l) {
      const nn::LayerWeights& w = w_.layers[static_cast<std::size_t>(l)];
      const std::int64_t h = config_.heads;
      // Head i wrote z[i] W_O[i]: its share is z[i] . (W_O[i] u), with no [head, d] in between.
      const Value z = reshape(at_row(b_.at(site::z(l))), {h, config_.d_head()});
      const Value of_attn = before(w.ln1_post, site::ln1_post_scale(l)),
                  of_mlp = before(w.ln2_post, site::ln2_post_scale(l));  // [d, 1]
      const Value read = reshape(matmul(w.w_o, of_attn), {h, config_.d_head()});
      heads.push_back(reshape(sum(z * read, {1}), {1, h}));
      attn_biases.push_back(matmul(reshape(w.b_o, {1, w.b_o.dim(0)}), of_attn));
      mlps.push_back(share(at_row(b_.at(site::mlp_out(l)))));
      // Neuron i wrote post[i] W_out[i].
      neurons.push_back(at_row(b_.at(site::mlp_post(l))) *
                        transpose(matmul(w.w_out, of_mlp)));  // [1, m]
      mlp_biases.push_back(matmul(reshape(w.b_out, {1, w.b_out.dim(0)}), of_mlp));
    }
    put("heads", concat(heads, 0));  // [layer, head]
    put("attn_biases", concat(attn_biases, 0));
    put("mlps", concat(mlps, 0));
    put("neurons", concat(neurons, 0));  // [layer, m]
    put("mlp_biases", concat(mlp_biases, 0));
    if (w_.ln_final.centred)
      put("final_bias", matmul(u, reshape(w_.ln_final.bias, {w_.ln_final.bias.dim(0), 1})));
    if (w_.b_u.defined()) put("unembed_bias", of_answer(w_.b_u));
  }

  const Fetch& wanted() const { return wanted_; }

 private:
  void put(const char* name, const Value& v) {
    b_.output(fmt::format("decompose.{}", name), v);
    wanted_.wants.push_back(value(fmt::format("decompose.{}", name)));
  }
  Value at_row(const Value& x) { return gather_rows(x, row_); }
  Value share(const Value& x) { return matmul(x, direction_); }  // [1, d] -> [1, 1]
  // The direction as one of what stands before a norm that writes to the stream.
  Value before(const nn::NormWeights& norm, const Site& scale) {
    return norm.defined() ? nn::before_norm(direction_, norm, at_row(b_.at(scale))) : direction_;
  }
  Value of_answer(const Value& table) const {
    return row_of_answer(table, spec_.answer, spec_.wrong);
  }

  Builder& b_;
  const nn::Config& config_;
  const DecomposeSpec& spec_;
  nn::WeightValues w_;
  Value row_, direction_;
  Fetch wanted_;
};

}  // namespace

std::string Part::name() const {
  switch (kind) {
    case Kind::embed:
      return "embed";
    case Kind::pos_embed:
      return "pos_embed";
    case Kind::head:
      return fmt::format("L{}H{}", layer, index);
    case Kind::mlp:
      return fmt::format("{}_mlp_out", layer);
    case Kind::attn_bias:
      return fmt::format("{}_attn_b_O", layer);
    case Kind::final_bias:
      return "ln_final.b";
    case Kind::unembed_bias:
      return "unembed.b_U";
  }
  return {};
}

double Decomposition::total() const {
  double sum = 0;
  for (const Part& p : parts) sum += p.value;
  return sum;
}
double Decomposition::magnitude() const {
  double sum = 0;
  for (const Part& p : parts) sum += std::abs(p.value);
  return sum;
}
bool Decomposition::closes() const {
  return std::abs(residual()) <= 1e-5 * std::max(1.0, magnitude());
}

Decomposition decompose(const nn::Model& model, const nn::Tokens& prompt,
                        const DecomposeSpec& spec) {
  nn::check_prompts({prompt}, model.config());
  check_token(model, spec.answer, "the answer");
  if (spec.wrong) check_token(model, *spec.wrong, "the wrong answer");
  const std::int64_t row = spec.position.value_or(std::ssize(prompt) - 1);
  check_position(prompt, row);

  Builder b(model.build(nn::Model::Uniform{1, std::ssize(prompt)}));
  Shares shares(b, model.config(), spec);
  shares.emit();
  const Feeds feeds = {{"decompose.row", Tensor::of({1}, std::vector<std::int32_t>{
                                                             static_cast<std::int32_t>(row)})}};
  const nn::Run run = model.run_graph(std::move(b).finish(), {prompt}, shares.wanted(), feeds);

  const auto of = [&](const char* name) {
    return run.results.raw(fmt::format("decompose.{}", name)).to(DType::f64);
  };
  const auto one = [&](const char* name) { return of(name).item<double>(); };
  Decomposition d;
  d.neurons = of("neurons");
  d.mlp_biases = of("mlp_biases").reshape({model.config().layers});
  d.logit = one("logit");
  d.scale = one("scale");
  const auto has = [&](const char* name) {
    return run.results.contains(fmt::format("decompose.{}", name));
  };
  d.parts = {{Kind::embed, -1, -1, one("embed")}};
  if (has("pos_embed")) d.parts.push_back({Kind::pos_embed, -1, -1, one("pos_embed")});
  const auto heads = of("heads").to_vector<double>(),
             biases = of("attn_biases").to_vector<double>(), mlps = of("mlps").to_vector<double>();
  std::size_t next = 0;
  for (int l = 0; l < model.config().layers; ++l) {
    for (int h = 0; h < model.config().heads; ++h)
      d.parts.push_back({Kind::head, l, h, heads[next++]});
    d.parts.push_back({Kind::attn_bias, l, -1, biases[static_cast<std::size_t>(l)]});
    d.parts.push_back({Kind::mlp, l, -1, mlps[static_cast<std::size_t>(l)]});
  }
  if (has("final_bias")) d.parts.push_back({Kind::final_bias, -1, -1, one("final_bias")});
  if (has("unembed_bias")) d.parts.push_back({Kind::unembed_bias, -1, -1, one("unembed_bias")});
  return d;
}

// ---- views --------------------------------------------------------------------------------------
Tensor by_layer(const Decomposition& d, int layers) {
  const Tensor sums = Tensor::zeros({layers, 2}, DType::f64);
  for (const Part& p : d.parts) {
    if (p.layer < 0) continue;
    sums.data<double>()[2 * p.layer + (p.kind == Kind::mlp ? 1 : 0)] += p.value;
  }
  return sums;
}

std::vector<NeuronShare> top_neurons(const Decomposition& d, int count, std::optional<int> layer) {
  std::vector<NeuronShare> all;
  const auto m = d.neurons.dim(1);
  const double* x = d.neurons.data<double>();
  for (std::int64_t i = 0; i < d.neurons.numel(); ++i) {
    const auto l = static_cast<int>(i / m);
    if (layer && l != *layer) continue;
    all.push_back({l, static_cast<int>(i % m), x[i]});
  }
  const auto kept = std::min(all.size(), static_cast<std::size_t>(std::max(count, 0)));
  std::partial_sort(all.begin(), all.begin() + static_cast<std::ptrdiff_t>(kept), all.end(),
                    [](const NeuronShare& a, const NeuronShare& b) {
                      if (std::abs(a.value) != std::abs(b.value))
                        return std::abs(a.value) > std::abs(b.value);
                      return std::pair(a.layer, a.neuron) < std::pair(b.layer, b.neuron);
                    });
  all.resize(kept);
  return all;
}

}  // namespace vitrine::interp
