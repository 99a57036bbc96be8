#include "nn/model/config.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "tensor/files/file.h"
#include "tensor/files/json_reader.h"

namespace vitrine::nn {

std::string_view name_of(Activation a) {
  switch (a) {
    case Activation::gelu_tanh:
      return "gelu_new";
    case Activation::gelu_erf:
      return "gelu";
    case Activation::relu:
      return "relu";
  }
  return "";
}

bool Config::ends_text(int id) const {
  return eos == id || std::find(more_ends.begin(), more_ends.end(), id) != more_ends.end();
}

double Config::attention_scale(int layer) const {
  double scale = scale_attention ? 1.0 / std::sqrt(static_cast<double>(d_head())) : 1.0;
  if (scale_by_layer) scale /= layer + 1;
  return scale;
}

std::int64_t Config::parameter_count() const {
  const std::int64_t d = d_model, m = d_mlp, v = vocabulary;
  const std::int64_t block = 4 * d + (3 * d * d + 3 * d) + (d * d + d) + (d * m + m) + (m * d + d);
  return v * d + context * d + layers * block + 2 * d + (tied ? 0 : v * d);
}

namespace {

constexpr std::int64_t kLargest = 1 << 30;

int positive(const JsonReader& field) { return static_cast<int>(field.whole(1, kLargest)); }

int positive(const JsonReader& json, std::string_view field) {
  const JsonReader value = json.at(field);
  if (!value.given()) value.reject("a positive whole number", "a GPT-2 needs it");
  return positive(value);
}

// A field that transformers knows by two names (its attribute_map).
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

int token_id(const JsonReader& field, std::string_view expected) {
  const auto id = field.value().whole();
  if (!id || *id < 0 || *id > kLargest) field.reject(expected);
  return static_cast<int>(*id);
}
std::optional<int> token(const JsonReader& field) {
  if (!field.given()) return std::nullopt;
  return token_id(field, "a token id or null");
}

// One id, or a list of them.
std::vector<int> tokens(const JsonReader& field) {
  if (!field.given()) return {};
  if (!field.is_list()) return {token_id(field, "a token id, a list of them, or null")};
  std::vector<int> ids;
  for (const JsonReader& id : field.list()) ids.push_back(token_id(id, "a token id"));
  return ids;
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

Activation activation_of(const JsonReader& field) {
  if (!field.given()) return Activation::gelu_tanh;
  // transformers has several spellings of one function.
  for (const std::string_view same :
       {"gelu_new", "gelu_pytorch_tanh", "gelu_python_tanh", "gelu_fast", "gelu_accurate"}) {
    if (field.is_text(same)) return Activation::gelu_tanh;
  }
  if (field.is_text("gelu") || field.is_text("gelu_python")) return Activation::gelu_erf;
  if (field.is_text("relu")) return Activation::relu;
  field.reject("a function that is supported",
               "supported are gelu_new, gelu_pytorch_tanh, gelu_fast and gelu_accurate (the same), "
               "gelu, gelu_python (the same) and relu");
}

void set_ends(Config& c, const std::vector<int>& ids) {
  c.eos.reset();
  c.more_ends.clear();
  if (ids.empty()) return;
  c.eos = ids[0];
  c.more_ends.assign(ids.begin() + 1, ids.end());
}

// No token is written as null, because HuggingFace takes 50256 for one that is not named.
JsonValue ends_json(const Config& c) {
  if (c.more_ends.empty()) return c.eos;
  JsonValue ids = JsonValue::list({*c.eos});
  for (const int id : c.more_ends) ids.push_back(id);
  return ids;
}

}  // namespace

Config parse_config(std::string_view text, std::string_view name) {
  const auto r =
      JsonReader::object(text, std::string(name),
                         {.wrong = JsonFault::config, .root = "a HuggingFace GPT-2 config.json"});
  must_be(r.at("model_type"), "gpt2", "only GPT-2 models (\"gpt2\") are supported");
  must_be_off(r.at("add_cross_attention"),
              "cross-attention is not part of the language model and is not supported");
  if (const JsonReader field = r.at("quantization_config"); field.given()) {
    field.reject("null",
                 "quantised weights are not supported: export the model in f32, f16 or bf16");
  }
  if (const JsonReader field = r.at("is_causal"); !boolean(field, true))
    field.reject("true", "attention that also looks at later tokens is not supported");
  must_be_empty(r.at("pruned_heads"), "layers with fewer heads than others are not supported");
  must_be_empty(r.at("per_layer_config"), "layers that differ in their settings are not supported");
  must_be(r.at("transformers_weights"), "model.safetensors",
          "weights are read from model.safetensors alone");
  Config c;
  c.layers = positive_by(r, "n_layer", "num_hidden_layers");
  c.heads = positive_by(r, "n_head", "num_attention_heads");
  c.d_model = positive_by(r, "n_embd", "hidden_size");
  c.vocabulary = positive(r, "vocab_size");
  // n_ctx is its name in old files; beside n_positions it means nothing.
  const bool old = !r.has("n_positions") && !r.has("max_position_embeddings");
  c.context = old ? positive(r, "n_ctx") : positive_by(r, "n_positions", "max_position_embeddings");
  if (c.d_model % c.heads != 0)
    r.at("n_embd").reject(fmt::format("a multiple of n_head ({})", c.heads));
  if (static_cast<std::int64_t>(c.d_model) * 4 > std::numeric_limits<int>::max()) {
    r.at("n_embd").reject(fmt::format("at most {}", std::numeric_limits<int>::max() / 4),
                          "it is too large");
  }
  const JsonReader inner = r.at("n_inner");
  c.d_mlp = inner.given() ? positive(inner) : 4 * c.d_model;
  c.activation = activation_of(r.at("activation_function"));
  if (const JsonReader eps = r.at("layer_norm_epsilon"); eps.given()) {
    c.layer_norm_eps = eps.value().number().value_or(0);
    if (!(c.layer_norm_eps > 0) || c.layer_norm_eps > 1)
      eps.reject("a small positive number, at most 1");
  }
  c.scale_attention = boolean(r.at("scale_attn_weights"), true);
  c.scale_by_layer = boolean(r.at("scale_attn_by_inverse_layer_idx"), false);
  // Asks for f32 attention scores: what we compute always.
  boolean(r.at("reorder_and_upcast_attn"), false);
  c.tied = boolean(r.at("tie_word_embeddings"), true);
  c.bos = token(r.at("bos_token_id"));
  set_ends(c, tokens(r.at("eos_token_id")));
  return c;
}

std::string config_json(const Config& c) {
  const JsonValue json = JsonValue::object({{"architectures", JsonValue::list({"GPT2LMHeadModel"})},
                                            {"model_type", "gpt2"},
                                            {"n_layer", c.layers},
                                            {"n_head", c.heads},
                                            {"n_embd", c.d_model},
                                            {"n_inner", c.d_mlp},
                                            {"n_positions", c.context},
                                            {"vocab_size", c.vocabulary},
                                            {"activation_function", name_of(c.activation)},
                                            {"layer_norm_epsilon", c.layer_norm_eps},
                                            {"scale_attn_weights", c.scale_attention},
                                            {"scale_attn_by_inverse_layer_idx", c.scale_by_layer},
                                            {"tie_word_embeddings", c.tied},
                                            {"bos_token_id", c.bos},
                                            {"eos_token_id", ends_json(c)},
                                            {"attn_pdrop", 0.0},
                                            {"embd_pdrop", 0.0},
                                            {"resid_pdrop", 0.0}});
  return json.sorted().indented();
}

Config load_config(const std::filesystem::path& folder) {
  const auto file = folder / "config.json";
  Config config = parse_config(read_text(file), file.string());
  const auto generation = folder / "generation_config.json";
  if (!std::filesystem::exists(generation)) return config;
  const auto ends =
      JsonReader::object(read_text(generation), generation.string(), {.wrong = JsonFault::config})
          .at("eos_token_id");
  if (ends.given()) set_ends(config, tokens(ends));
  return config;
}

}  // namespace vitrine::nn
