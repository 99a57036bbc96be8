// config.json of Gemma 2 and of the text model of Gemma 3.
#include "nn/families/config_fields.h"
#include "nn/families/readers.h"

namespace vitrine::nn {
namespace {

// Gemma 2 slides in every other layer, Gemma 3 in all but every sixth.
std::vector<int> windows_of_gemma(const JsonReader& r, const Config& c, bool third) {
  const JsonReader field = r.at("sliding_window");
  const int window = field.is_null() ? 0 : positive_or(field, 4096);
  if (const auto stated = windows_of_types(r.at("layer_types"), c.layers, window)) return *stated;
  const JsonReader pattern = r.has("sliding_window_pattern") ? r.at("sliding_window_pattern")
                                                             : r.at("_sliding_window_pattern");
  const int every = third ? positive_or(pattern, 6) : 2;
  std::vector<int> windows;
  for (int l = 0; l < c.layers; ++l) windows.push_back((l + 1) % every != 0 ? window : 0);
  return without_zeros(std::move(windows));
}

}  // namespace

Config read_gemma(const JsonReader& r, std::string_view model_type) {
  const bool third = model_type == "gemma3_text";
  Config c = read_dimensions(r, model_type, 1e-6, true);
  if (!r.has("head_dim")) c.head_width = 256;
  const JsonReader act =
      r.has("hidden_activation") ? r.at("hidden_activation") : r.at("hidden_act");
  c.activation = activation_of(act, Activation::gelu_tanh);
  c.qkv_bias = c.out_bias = boolean(r.at("attention_bias"), false);
  c.norm_heads = third;
  c.query_scalar = positive_number(r.at("query_pre_attn_scalar"), 256);
  c.score_cap = cap(r.at("attn_logit_softcapping"), third ? 0 : 50);
  c.logit_cap = cap(r.at("final_logit_softcapping"), third ? 0 : 30);
  c.windows = windows_of_gemma(r, c, third);
  const JsonReader parameters = r.at("rope_parameters");
  const double base = positive_number(r.at("rope_theta"), third ? 1e6 : 1e4);
  if (!third) {
    c.rope = read_rope(parameters.given() ? parameters : r.at("rope_scaling"), base, c.d_head(),
                       c.context);
    return c;
  }
  const bool by_type = parameters.given() && parameters.has("full_attention");
  c.rope = read_rope(by_type              ? parameters.at("full_attention")
                     : parameters.given() ? parameters
                                          : r.at("rope_scaling"),
                     base, c.d_head(), c.context);
  const double local = positive_number(r.at("rope_local_base_freq"), 1e4);
  c.window_rope = by_type
                      ? read_rope(parameters.at("sliding_attention"), local, c.d_head(), c.context)
                      : Rope{.base = local, .width = c.d_head()};
  return c;
}

JsonValue write_gemma(const Config& c) {
  const bool third = c.model_type == "gemma3_text";
  JsonValue json = common_json(c, third ? "Gemma3ForCausalLM" : "Gemma2ForCausalLM");
  json["num_key_value_heads"] = c.key_heads();
  json["head_dim"] = c.d_head();
  json["hidden_activation"] =
      c.activation == Activation::gelu_tanh ? "gelu_pytorch_tanh" : name_of(c.activation);
  json["rms_norm_eps"] = c.norm_eps;
  json["attention_bias"] = c.qkv_bias;
  json["query_pre_attn_scalar"] = c.query_scalar;
  const auto cap_json = [](double x) { return x > 0 ? JsonValue(x) : JsonValue(nullptr); };
  json["attn_logit_softcapping"] = cap_json(c.score_cap);
  json["final_logit_softcapping"] = cap_json(c.logit_cap);
  int window = 0;
  for (const int w : c.windows) window = std::max(window, w);
  json["sliding_window"] = window > 0 ? JsonValue(window) : JsonValue(nullptr);
  json["layer_types"] = layer_types_json(c);
  json["rope_theta"] = c.rope->base;
  json["rope_scaling"] = rope_json(*c.rope);
  if (c.window_rope) json["rope_local_base_freq"] = c.window_rope->base;
  return json;
}

}  // namespace vitrine::nn
