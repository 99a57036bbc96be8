#include "nn/model/config.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>

#include "tensor/error.h"
#include "tensor/files/file.h"
#include "tensor/files/strict_json.h"

namespace vitrine::nn {

using Json = nlohmann::json;

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

// One config.json being read: every message names the file and the field.
class Reader {
 public:
  Reader(const Json& json, std::string_view name) : json_(json), name_(name) {}

  [[noreturn]] void reject(std::string_view field, std::string_view what) const {
    throw ConfigError(fmt::format("{}: '{}' is {}; {}", name_, field,
                                  json_.contains(field) ? json_.at(field).dump() : "missing",
                                  what));
  }

  const Json* find(std::string_view field) const {
    const auto it = json_.find(field);
    return it == json_.end() || it->is_null() ? nullptr : &*it;
  }

  int positive(std::string_view field) const {
    const Json* value = find(field);
    if (value == nullptr) reject(field, "a GPT-2 needs it to be a positive whole number");
    return positive(field, *value);
  }
  int positive(std::string_view field, int otherwise) const {
    const Json* value = find(field);
    return value == nullptr ? otherwise : positive(field, *value);
  }
  bool boolean(std::string_view field, bool otherwise) const {
    const Json* value = find(field);
    // null is false for some versions of transformers, and an error for others.
    if (value == nullptr && otherwise && json_.contains(field))
      reject(field, "it must be true or false");
    if (value == nullptr) return otherwise;
    if (!value->is_boolean()) reject(field, "it must be true or false");
    return value->get<bool>();
  }
  std::optional<int> token(std::string_view field) const {
    const Json* value = find(field);
    if (value == nullptr) return std::nullopt;
    if (!value->is_number_integer() || value->get<double>() < 0 ||
        value->get<double>() > kLargest) {
      reject(field, "it must be a token id or null");
    }
    return value->get<int>();
  }
  // One id, or a list of them.
  std::vector<int> tokens(std::string_view field) const {
    const Json* value = find(field);
    if (value == nullptr) return {};
    std::vector<int> ids;
    for (const Json& id : value->is_array() ? *value : Json::array({*value})) {
      if (!id.is_number_integer() || id.get<double>() < 0 || id.get<double>() > kLargest)
        reject(field, "it must be a token id, a list of them, or null");
      ids.push_back(id.get<int>());
    }
    return ids;
  }
  // A field that transformers knows by two names (its attribute_map).
  int positive_by(std::string_view name, std::string_view other) const {
    if (find(name) == nullptr && find(other) != nullptr) return positive(other);
    const int value = positive(name);
    if (positive(other, value) != value)
      reject(other,
             fmt::format("{}, which means the same, is {}: the two must agree", name, value));
    return value;
  }
  void must_be_off(std::string_view field, std::string_view why) const {
    const Json* value = find(field);
    if (value != nullptr && !(value->is_boolean() && !value->get<bool>())) reject(field, why);
  }
  void must_be_empty(std::string_view field, std::string_view why) const {
    const Json* value = find(field);
    if (value != nullptr && !(value->is_structured() && value->empty())) reject(field, why);
  }
  void must_be(std::string_view field, std::string_view text, std::string_view why) const {
    const Json* value = find(field);
    if (value != nullptr && !(value->is_string() && value->get<std::string>() == text))
      reject(field, why);
  }

 private:
  static constexpr double kLargest = 1 << 30;
  int positive(std::string_view field, const Json& value) const {
    if (!value.is_number_integer() || value.get<double>() < 1 || value.get<double>() > kLargest) {
      reject(field, "it must be a positive whole number");
    }
    return value.get<int>();
  }
  const Json& json_;
  std::string_view name_;
};

Activation activation_of(const Reader& r) {
  const Json* value = r.find("activation_function");
  if (value == nullptr) return Activation::gelu_tanh;
  const std::string name = value->is_string() ? value->get<std::string>() : "";
  // transformers has several spellings of one function.
  for (const std::string_view same :
       {"gelu_new", "gelu_pytorch_tanh", "gelu_python_tanh", "gelu_fast", "gelu_accurate"}) {
    if (name == same) return Activation::gelu_tanh;
  }
  if (name == "gelu" || name == "gelu_python") return Activation::gelu_erf;
  if (name == "relu") return Activation::relu;
  r.reject("activation_function",
           "supported are gelu_new, gelu_pytorch_tanh, gelu_fast and gelu_accurate (the same), "
           "gelu, gelu_python (the same) "
           "and relu");
}

// null, because HuggingFace takes 50256 for a token that is not named.
nlohmann::ordered_json token_or_null(const std::optional<int>& token) {
  return token ? nlohmann::ordered_json(*token) : nlohmann::ordered_json();
}

}  // namespace

namespace {

void set_ends(Config& c, const std::vector<int>& ids) {
  c.eos.reset();
  c.more_ends.clear();
  if (ids.empty()) return;
  c.eos = ids[0];
  c.more_ends.assign(ids.begin() + 1, ids.end());
}

nlohmann::ordered_json ends_json(const Config& c) {
  if (c.more_ends.empty()) return token_or_null(c.eos);
  nlohmann::ordered_json ids = {*c.eos};
  for (const int id : c.more_ends) ids.push_back(id);
  return ids;
}

}  // namespace

Config parse_config(std::string_view text, std::string_view name) {
  const Json json = parse_json(text, std::string(name));
  if (!json.is_object())
    throw FileError(
        fmt::format("{}: expected a JSON object, a HuggingFace GPT-2 config.json", name));

  const Reader r(json, name);
  r.must_be("model_type", "gpt2", "only GPT-2 models (\"gpt2\") are supported");
  r.must_be_off("add_cross_attention",
                "cross-attention is not part of the language model and is not supported");
  if (r.find("quantization_config") != nullptr) {
    r.reject("quantization_config",
             "quantised weights are not supported: export the model in f32, f16 or bf16");
  }
  if (!r.boolean("is_causal", true)) {
    r.reject("is_causal", "attention that also looks at later tokens is not supported");
  }
  r.must_be_empty("pruned_heads", "layers with fewer heads than others are not supported");
  r.must_be_empty("per_layer_config", "layers that differ in their settings are not supported");
  r.must_be("transformers_weights", "model.safetensors",
            "weights are read from model.safetensors alone");
  Config c;
  c.layers = r.positive_by("n_layer", "num_hidden_layers");
  c.heads = r.positive_by("n_head", "num_attention_heads");
  c.d_model = r.positive_by("n_embd", "hidden_size");
  c.vocabulary = r.positive("vocab_size");
  // n_ctx is its name in old files; beside n_positions it means nothing.
  const bool old = r.find("n_positions") == nullptr && r.find("max_position_embeddings") == nullptr;
  c.context = old ? r.positive("n_ctx") : r.positive_by("n_positions", "max_position_embeddings");
  if (c.d_model % c.heads != 0) {
    r.reject("n_embd", fmt::format("it must be a multiple of n_head ({})", c.heads));
  }
  if (static_cast<std::int64_t>(c.d_model) * 4 > std::numeric_limits<int>::max())
    r.reject("n_embd", "it is too large");
  c.d_mlp = r.positive("n_inner", 4 * c.d_model);
  c.activation = activation_of(r);
  if (const Json* eps = r.find("layer_norm_epsilon")) {
    if (!eps->is_number() || !(eps->get<double>() > 0) || eps->get<double>() > 1) {
      r.reject("layer_norm_epsilon", "it must be a small positive number");
    }
    c.layer_norm_eps = eps->get<double>();
  }
  c.scale_attention = r.boolean("scale_attn_weights", true);
  c.scale_by_layer = r.boolean("scale_attn_by_inverse_layer_idx", false);
  r.boolean("reorder_and_upcast_attn",
            false);  // asks for f32 attention scores: what we compute always
  c.tied = r.boolean("tie_word_embeddings", true);
  c.bos = r.token("bos_token_id");
  set_ends(c, r.tokens("eos_token_id"));
  return c;
}

std::string config_json(const Config& c) {
  nlohmann::ordered_json json = {{"architectures", {"GPT2LMHeadModel"}},
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
                                 {"bos_token_id", token_or_null(c.bos)},
                                 {"eos_token_id", ends_json(c)},
                                 {"attn_pdrop", 0.0},
                                 {"embd_pdrop", 0.0},
                                 {"resid_pdrop", 0.0}};
  return json_indented(json);
}

Config load_config(const std::filesystem::path& folder) {
  const auto file = folder / "config.json";
  Config config = parse_config(read_text(file), file.string());
  const auto generation = folder / "generation_config.json";
  if (!std::filesystem::exists(generation)) return config;
  const Json json = parse_json(read_text(generation), generation.string());
  expect_object(json, generation.string());
  const std::string name = generation.string();
  const Reader r(json, name);
  if (r.find("eos_token_id") != nullptr) set_ends(config, r.tokens("eos_token_id"));
  return config;
}

}  // namespace vitrine::nn
