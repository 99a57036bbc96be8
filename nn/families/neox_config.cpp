// config.json of GPT-NeoX: Pythia.
#include <fmt/format.h>

#include "nn/families/config_fields.h"
#include "nn/families/readers.h"

namespace vitrine::nn {

Config read_neox(const JsonReader& r, std::string_view model_type) {
  Config c = read_dimensions(r, model_type, 1e-5, false);
  c.activation = activation_of(r.at("hidden_act"), Activation::gelu_erf);
  c.qkv_bias = c.out_bias = boolean(r.at("attention_bias"), true);
  c.mlp_bias = true;
  c.parallel = boolean(r.at("use_parallel_residual"), true);
  // rope_parameters states what rotary_pct, rotary_emb_base and rope_scaling state in older files.
  const JsonReader parameters = r.at("rope_parameters");
  const JsonReader part = parameters.given() && parameters.has("partial_rotary_factor")
                              ? parameters.at("partial_rotary_factor")
                              : r.at("rotary_pct");
  const double share = part.given() ? part.number(0, 1) : 0.25;
  const int width = static_cast<int>(c.d_head() * share);
  if (width < 2 || width % 2 != 0) {
    part.reject(fmt::format("a share of the {} dimensions of a head that is an even number of them",
                            c.d_head()));
  }
  const double base = positive_number(
      r.has("rotary_emb_base") ? r.at("rotary_emb_base") : r.at("rope_theta"), 10000);
  c.rope =
      read_rope(parameters.given() ? parameters : r.at("rope_scaling"), base, width, c.context);
  return c;
}

JsonValue write_neox(const Config& c) {
  JsonValue json = common_json(c, "GPTNeoXForCausalLM");
  json["hidden_act"] = name_of(c.activation);
  json["layer_norm_eps"] = c.norm_eps;
  json["attention_bias"] = c.qkv_bias;
  json["use_parallel_residual"] = c.parallel;
  json["rotary_pct"] = static_cast<double>(c.rope->width) / c.d_head();
  json["rotary_emb_base"] = c.rope->base;
  json["rope_scaling"] = rope_json(*c.rope);
  return json;
}

}  // namespace vitrine::nn
