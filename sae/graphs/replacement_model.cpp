#include "sae/graphs/replacement_model.h"

#include <fmt/format.h>

#include <numeric>
#include <string>

#include "nn/families/sites.h"
#include "nn/model/weights.h"

namespace vitrine::sae {

Recorded record(const nn::Model& model, const nn::Tokens& prompt) {
  std::string wanted =
      "hook_embed,ln_final.hook_scale,ln_final.hook_normalized,*.attn.hook_pattern,*.ln1.hook_"
      "scale,*.ln2.hook_scale,"
      "*.ln2.hook_normalized,*.hook_mlp_out";
  if (model.build(nn::BatchSize{1, 1, 1}).find_site(site::pos_embed().name) != nullptr)
    wanted += ",hook_pos_embed";
  return {model.run_batch({prompt}, fetch(sites(wanted), value("logits"))), std::ssize(prompt)};
}

namespace {

LinearBlock::Norm norm_of(const Parameters& weights, const std::string& name, const Tensor& scale) {
  const Tensor gain = weights.at(name + ".w");
  const auto bias = weights.find(name + ".b");
  // What has no bias is an RMSNorm, which does not centre.
  return {gain, bias != weights.end() ? bias->second : Tensor::zeros(gain.shape(), DType::f32),
          scale, bias != weights.end()};
}

Tensor or_zeros(const Parameters& weights, const std::string& name, const Shape& shape) {
  const auto found = weights.find(name);
  return found != weights.end() ? found->second.contiguous().reshape(shape)
                                : Tensor::zeros(shape, DType::f32);
}

}  // namespace

Tensor normed(const LinearBlock::Norm& norm, const Tensor& normalised) {
  const Tensor x = normalised.clone();
  const std::int64_t d = x.dim(1);
  for (std::int64_t i = 0; i < x.numel(); ++i)
    x.data<float>()[i] =
        x.data<float>()[i] * norm.gain.data<float>()[i % d] + norm.bias.data<float>()[i % d];
  return x;
}

LinearModel linear_model(const nn::Model& model, const Recorded& recorded) {
  const nn::Config& c = model.config();
  Parameters weights = nn::weights(model);
  for (auto& [name, tensor] : weights) tensor = tensor.to(DType::f32).contiguous();
  LinearModel linear{.final = norm_of(weights, "ln_final", recorded.at(site::final_scale())),
                     .token = recorded.at(site::embed()),
                     .heads = c.heads,
                     .groups = c.kv_heads > 0 ? c.kv_heads : c.heads};
  if (recorded.run.results.contains(site::pos_embed().name))
    linear.position = recorded.at(site::pos_embed());
  for (int l = 0; l < c.layers; ++l) {
    const auto name = [&](const char* of) { return fmt::format("blocks.{}.{}", l, of); };
    LinearBlock block{.ln1 = norm_of(weights, name("ln1"), recorded.at(site::ln1_scale(l))),
                      .ln2 = norm_of(weights, name("ln2"), recorded.at(site::ln2_scale(l))),
                      .pattern = recorded.at(site::pattern(l))};
    const Tensor v = weights.at(name("attn.W_V")),
                 o = weights.at(name("attn.W_O"));  // [g, d, e], [h, e, d]
    block.w_v = v.permute({1, 0, 2}).contiguous().reshape({v.dim(1), v.dim(0) * v.dim(2)});
    block.b_v = or_zeros(weights, name("attn.b_V"), {v.dim(0) * v.dim(2)});
    block.w_o = o.reshape({o.dim(0) * o.dim(1), o.dim(2)});
    block.b_o = or_zeros(weights, name("attn.b_O"), {o.dim(2)});
    linear.blocks.push_back(std::move(block));
  }
  return linear;
}

Tensor logit_directions(const nn::Model& model, const std::vector<int>& tokens) {
  const Tensor w_u =
      nn::weights(model, "unembed.W_U").begin()->second.to(DType::f32).contiguous();  // [d, v]
  const std::int64_t d = w_u.dim(0), v = w_u.dim(1);
  const Tensor directions = Tensor::empty({std::ssize(tokens), d}, DType::f32);
  for (std::int64_t k = 0; k < d; ++k) {
    const float* row = w_u.data<float>() + k * v;
    const double mean = std::accumulate(row, row + v, 0.0) / static_cast<double>(v);
    for (std::size_t i = 0; i < tokens.size(); ++i)
      directions.data<float>()[static_cast<std::int64_t>(i) * d + k] =
          static_cast<float>(row[tokens[i]] - mean);
  }
  return directions;
}

void read_as_trained(const TranscoderSet& set, LinearModel& linear) {
  for (std::size_t l = 0; l < set.layers.size(); ++l) {
    if (!set.layers[l].reads_normalised) continue;
    LinearBlock::Norm& norm = linear.blocks[l].ln2;
    norm.gain = Tensor::full(norm.gain.shape(), DType::f32, 1);
    norm.bias = Tensor::zeros(norm.bias.shape(), DType::f32);
  }
}

}  // namespace vitrine::sae
