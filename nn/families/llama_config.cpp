// config.json of Llama, Mistral, Qwen2 and Qwen3.
#include "nn/families/config_fields.h"
#include "nn/families/readers.h"

namespace vitrine::nn {
namespace {

// Mistral slides in every layer; Qwen in the last ones, if it is told to.
std::vector<int> windows_of(const JsonReader& r, const Config& c) {
  const bool mistral = c.model_type == "mistral";
  if (!mistral && !c.model_type.starts_with("qwen")) return {};
  const JsonReader field = r.at("sliding_window");
  const bool used = mistral || boolean(r.at("use_sliding_window"), false);
  const int window = !used || field.is_null() ? 0 : positive_or(field, 4096);
  if (const auto stated = windows_of_types(r.at("layer_types"), c.layers, window)) return *stated;
  if (window == 0) return {};
  const JsonReader first = r.at("max_window_layers");
  const std::int64_t begin = mistral ? 0 : first.whole_or(28, 0, 1 << 30);
  std::vector<int> windows;
  for (int l = 0; l < c.layers; ++l) windows.push_back(l >= begin ? window : 0);
  return without_zeros(std::move(windows));
}

}  // namespace

Config read_llama(const JsonReader& r, std::string_view model_type) {
  Config c = read_dimensions(r, model_type, 1e-6, false);
  const bool qwen2 = model_type == "qwen2", qwen3 = model_type == "qwen3",
             llama = model_type == "llama";
  if (qwen3 && !r.has("head_dim")) c.head_width = 128;
  c.activation = activation_of(r.at("hidden_act"), Activation::silu);
  if (qwen2) {
    c.qkv_bias = true;
  } else if (llama || qwen3) {
    c.qkv_bias = c.out_bias = boolean(r.at("attention_bias"), false);
  }
  if (llama) c.mlp_bias = boolean(r.at("mlp_bias"), false);
  c.norm_heads = qwen3;
  c.windows = windows_of(r, c);
  const double base = positive_number(r.at("rope_theta"), 10000);
  c.rope = read_rope(r.has("rope_parameters") ? r.at("rope_parameters") : r.at("rope_scaling"),
                     base, c.d_head(), c.context);
  if (c.d_head() % 2 != 0)
    r.at("head_dim").reject("an even number", "rotary positions turn pairs of dimensions");
  return c;
}

JsonValue write_llama(const Config& c) {
  const bool qwen = c.model_type.starts_with("qwen");
  JsonValue json = common_json(c, c.model_type == "llama"     ? "LlamaForCausalLM"
                                  : c.model_type == "mistral" ? "MistralForCausalLM"
                                  : c.model_type == "qwen2"   ? "Qwen2ForCausalLM"
                                                              : "Qwen3ForCausalLM");
  json["num_key_value_heads"] = c.key_heads();
  json["head_dim"] = c.d_head();
  json["hidden_act"] = name_of(c.activation);
  json["rms_norm_eps"] = c.norm_eps;
  json["rope_theta"] = c.rope->base;
  json["rope_scaling"] = rope_json(*c.rope);
  if (c.model_type == "llama" || c.model_type == "qwen3") json["attention_bias"] = c.qkv_bias;
  if (c.model_type == "llama") json["mlp_bias"] = c.mlp_bias;
  int window = 0;
  for (const int w : c.windows) window = std::max(window, w);
  if (c.model_type != "llama")
    json["sliding_window"] = window > 0 ? JsonValue(window) : JsonValue(nullptr);
  if (qwen) json["use_sliding_window"] = window > 0;
  if (window > 0) json["layer_types"] = layer_types_json(c);
  return json;
}

}  // namespace vitrine::nn
