#include "nn/families/config_fields.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

namespace vitrine::nn {
namespace {

constexpr std::int64_t kLargest = 1 << 30;

int token_id(const JsonReader& field, std::string_view expected) {
  const auto id = field.value().whole();
  if (!id || *id < 0 || *id > kLargest) field.reject(expected);
  return static_cast<int>(*id);
}
// One id, or a list of them.
std::vector<int> token_ids(const JsonReader& field) {
  if (!field.given()) return {};
  if (!field.is_list()) return {token_id(field, "a token id, a list of them, or null")};
  std::vector<int> ids;
  for (const JsonReader& id : field.list()) ids.push_back(token_id(id, "a token id"));
  return ids;
}

constexpr std::string_view kScalings[] = {"default", "linear", "llama3", "yarn"};

// DeepSeek's way to state yarn's factor on cos and sin.
double yarn_scale(double factor, double m) {
  return factor <= 1 ? 1 : 0.1 * m * std::log(factor) + 1;
}

}  // namespace

int positive(const JsonReader& field) { return static_cast<int>(field.whole(1, kLargest)); }

int positive(const JsonReader& json, std::string_view field) {
  const JsonReader value = json.at(field);
  if (!value.given()) value.reject("a positive whole number", "a model needs it");
  return positive(value);
}

int positive_or(const JsonReader& field, int otherwise) {
  return field.given() ? positive(field) : otherwise;
}

int positive_by(const JsonReader& json, std::string_view name, std::string_view other) {
  const JsonReader second = json.at(other);
  if (!json.has(name) && second.given()) return positive(second);
  const int value = positive(json, name);
  if (second.given() && positive(second) != value) {
    second.reject(fmt::format("{}", value),
                  fmt::format("{}, which means the same, is {}: the two must agree", name, value));
  }
  return value;
}

bool boolean(const JsonReader& field, bool otherwise) {
  // null is false for some versions of transformers, and an error for others.
  return field.is_null() && otherwise ? field.flag() : field.flag_or(otherwise);
}

double small_number(const JsonReader& field, double otherwise) {
  if (!field.given()) return otherwise;
  const double x = field.value().number().value_or(0);
  if (!(x > 0) || x > 1) field.reject("a small positive number, at most 1");
  return x;
}

double positive_number(const JsonReader& field, double otherwise) {
  if (!field.given()) return otherwise;
  const double x = field.value().number().value_or(0);
  if (!(x > 0) || x > 1e30) field.reject("a number above 0");
  return x;
}

double cap(const JsonReader& field, double otherwise) {
  return field.is_null() ? 0 : positive_number(field, otherwise);
}

Activation activation_of(const JsonReader& field, Activation otherwise) {
  if (!field.given()) return otherwise;
  // transformers has several spellings of one function.
  for (const std::string_view same :
       {"gelu_new", "gelu_pytorch_tanh", "gelu_python_tanh", "gelu_fast", "gelu_accurate"}) {
    if (field.is_text(same)) return Activation::gelu_tanh;
  }
  if (field.is_text("gelu") || field.is_text("gelu_python")) return Activation::gelu_erf;
  if (field.is_text("relu")) return Activation::relu;
  if (field.is_text("silu") || field.is_text("swish")) return Activation::silu;
  field.reject("a function that is supported",
               "supported are gelu_new, gelu_pytorch_tanh, gelu_fast and gelu_accurate (the same), "
               "gelu, gelu_python (the same), silu, swish (the same) and relu");
}

void must_be_off(const JsonReader& field, std::string_view why) {
  if (field.given() && !field.is_flag(false)) field.reject("false", why);
}
void must_be_empty(const JsonReader& field, std::string_view why) {
  if (field.given() && !((field.is_list() || field.is_object()) && field.size() == 0))
    field.reject("nothing in it", why);
}
void must_be(const JsonReader& field, std::string_view text, std::string_view why) {
  if (field.given() && !field.is_text(text)) field.reject(JsonValue(text).line(), why);
}

void refuse_what_no_family_has(const JsonReader& json) {
  must_be_off(json.at("add_cross_attention"),
              "cross-attention is not part of the language model and is not supported");
  if (const JsonReader field = json.at("quantization_config"); field.given()) {
    field.reject("null",
                 "weights quantised this way are not supported: export the model in f32, f16 or "
                 "bf16, or as a GGUF file");
  }
  if (const JsonReader field = json.at("is_causal"); !boolean(field, true))
    field.reject("true", "attention that also looks at later tokens is not supported");
  must_be_off(json.at("use_bidirectional_attention"),
              "attention that also looks at later tokens is not supported");
  must_be_empty(json.at("pruned_heads"), "layers with fewer heads than others are not supported");
  must_be_empty(json.at("per_layer_config"),
                "layers that differ in their settings are not supported");
  must_be(json.at("transformers_weights"), "model.safetensors",
          "weights are read from model.safetensors alone");
}

void set_ends(Config& c, const JsonReader& eos) {
  const std::vector<int> ids = token_ids(eos);
  c.eos.reset();
  c.more_ends.clear();
  if (ids.empty()) return;
  c.eos = ids[0];
  c.more_ends.assign(ids.begin() + 1, ids.end());
}

void read_ends(const JsonReader& json, Config& c) {
  if (const JsonReader bos = json.at("bos_token_id"); bos.given())
    c.bos = token_id(bos, "a token id or null");
  set_ends(c, json.at("eos_token_id"));
}

// No token is written as null, because HuggingFace takes the family's own for one that is not named.
JsonValue ends_json(const Config& c) {
  if (c.more_ends.empty()) return c.eos;
  JsonValue ids = JsonValue::list({*c.eos});
  for (const int id : c.more_ends) ids.push_back(id);
  return ids;
}

Config read_dimensions(const JsonReader& r, std::string_view model_type, double eps, bool tied) {
  refuse_what_no_family_has(r);
  Config c;
  c.model_type = model_type;
  c.layers = positive(r, "num_hidden_layers");
  c.heads = positive(r, "num_attention_heads");
  c.d_model = positive(r, "hidden_size");
  c.d_mlp = positive(r, "intermediate_size");
  c.vocabulary = positive(r, "vocab_size");
  c.context = positive(r, "max_position_embeddings");
  c.norm_eps =
      small_number(r.at(model_type == "gpt_neox" ? "layer_norm_eps" : "rms_norm_eps"), eps);
  c.tied = boolean(r.at("tie_word_embeddings"), tied);
  c.kv_heads = positive_or(r.at("num_key_value_heads"), c.heads);
  if (c.heads % c.kv_heads != 0)
    r.at("num_key_value_heads")
        .reject(fmt::format("a divisor of num_attention_heads ({})", c.heads));
  const JsonReader width = r.at("head_dim");
  if (!width.given() && c.d_model % c.heads != 0) {
    r.at("hidden_size")
        .reject(fmt::format("a multiple of num_attention_heads ({})", c.heads),
                "there is no head_dim");
  }
  c.head_width = positive_or(width, c.d_model / c.heads);
  const std::int64_t widest = std::max<std::int64_t>(
      {std::int64_t{c.heads} * c.head_width, std::int64_t{c.d_model} * 4, c.d_mlp});
  if (widest > std::numeric_limits<int>::max()) r.fail("its matrices are too large");
  read_ends(r, c);
  return c;
}

Rope read_rope(const JsonReader& p, double base, int width, int context) {
  Rope rope;
  rope.base = base;
  rope.width = width;
  if (!p.given()) return rope;
  p.expect_object("it says how positions turn");
  rope.base = positive_number(p.at("rope_theta"), base);
  // The oldest name of it is "type".
  const JsonReader type = p.has("rope_type") ? p.at("rope_type") : p.at("type");
  if (type.given()) {
    const auto known = std::find(std::begin(kScalings), std::end(kScalings), type.text());
    if (known == std::end(kScalings)) {
      type.unsupported("default, linear, llama3 or yarn",
                       "no other way to scale rotary positions is supported");
    }
    rope.scaling = static_cast<Rope::Scaling>(known - std::begin(kScalings));
  }
  if (rope.scaling == Rope::Scaling::none) return rope;
  const JsonReader factor = p.at("factor");
  if (!factor.given()) factor.reject("a number above 0", "this scaling of positions needs it");
  rope.factor = positive_number(factor, 1);
  if (rope.scaling == Rope::Scaling::linear) return rope;
  rope.original_context = positive_or(p.at("original_max_position_embeddings"), context);
  if (rope.scaling == Rope::Scaling::llama3) {
    rope.low_frequency = positive_number(p.at("low_freq_factor"), 1);
    rope.high_frequency = positive_number(p.at("high_freq_factor"), 4);
    if (rope.high_frequency <= rope.low_frequency)
      p.at("high_freq_factor")
          .reject(fmt::format("more than low_freq_factor ({})", rope.low_frequency));
    return rope;
  }
  rope.beta_fast = positive_number(p.at("beta_fast"), 32);
  rope.beta_slow = positive_number(p.at("beta_slow"), 1);
  rope.truncate = boolean(p.at("truncate"), true);
  if (const JsonReader given = p.at("attention_factor"); given.given()) {
    rope.attention_factor = positive_number(given, 1);
  } else if (p.has("mscale") && p.has("mscale_all_dim")) {
    rope.attention_factor = yarn_scale(rope.factor, positive_number(p.at("mscale"), 1)) /
                            yarn_scale(rope.factor, positive_number(p.at("mscale_all_dim"), 1));
  }
  return rope;
}

JsonValue rope_json(const Rope& rope) {
  if (rope.scaling == Rope::Scaling::none) return nullptr;
  JsonValue json = JsonValue::object(
      {{"rope_type", kScalings[static_cast<int>(rope.scaling)]}, {"factor", rope.factor}});
  if (rope.scaling == Rope::Scaling::linear) return json;
  json["original_max_position_embeddings"] = static_cast<std::int64_t>(rope.original_context);
  if (rope.scaling == Rope::Scaling::llama3) {
    json["low_freq_factor"] = rope.low_frequency;
    json["high_freq_factor"] = rope.high_frequency;
    return json;
  }
  json["beta_fast"] = rope.beta_fast;
  json["beta_slow"] = rope.beta_slow;
  if (!rope.truncate) json["truncate"] = false;
  if (rope.attention_factor) json["attention_factor"] = *rope.attention_factor;
  return json;
}

std::vector<int> without_zeros(std::vector<int> windows) {
  const bool some = std::any_of(windows.begin(), windows.end(), [](int w) { return w > 0; });
  return some ? std::move(windows) : std::vector<int>();
}

std::optional<std::vector<int>> windows_of_types(const JsonReader& types, int layers, int window) {
  if (!types.given()) return std::nullopt;
  std::vector<int> windows;
  for (const JsonReader& type : types.list(layers)) {
    if (!type.is_text("full_attention") && !type.is_text("sliding_attention")) {
      type.unsupported("\"full_attention\" or \"sliding_attention\"",
                       "no other kind of layer is supported");
    }
    const bool sliding = type.is_text("sliding_attention");
    if (sliding && window == 0)
      type.reject("\"full_attention\"", "no sliding_window says how far this layer sees");
    windows.push_back(sliding ? window : 0);
  }
  return without_zeros(std::move(windows));
}

JsonValue layer_types_json(const Config& c) {
  JsonValue types = JsonValue::list();
  for (int l = 0; l < c.layers; ++l)
    types.push_back(c.window(l) > 0 ? "sliding_attention" : "full_attention");
  return types;
}

JsonValue common_json(const Config& c, std::string_view architecture) {
  return JsonValue::object({{"architectures", JsonValue::list({architecture})},
                            {"model_type", c.model_type},
                            {"num_hidden_layers", c.layers},
                            {"num_attention_heads", c.heads},
                            {"hidden_size", c.d_model},
                            {"intermediate_size", c.d_mlp},
                            {"vocab_size", c.vocabulary},
                            {"max_position_embeddings", c.context},
                            {"tie_word_embeddings", c.tied},
                            {"bos_token_id", c.bos},
                            {"eos_token_id", ends_json(c)}});
}

}  // namespace vitrine::nn
