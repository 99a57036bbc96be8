// A GPT-2's configuration, as HuggingFace's config.json states it. Every field that changes the
// maths is honoured or rejected; none is ignored.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace vitrine::nn {

enum class Activation { gelu_tanh, gelu_erf, relu };
std::string_view name_of(Activation a);  // as config.json writes it: gelu_new, gelu, relu

struct Config {
  int layers = 12;                                // n_layer
  int heads = 12;                                 // n_head
  int d_model = 768;                              // n_embd
  int d_mlp = 3072;                               // n_inner; null there means 4 n_embd
  int context = 1024;                             // n_positions (n_ctx in old files)
  int vocabulary = 50257;                         // vocab_size
  Activation activation = Activation::gelu_tanh;  // activation_function
  double layer_norm_eps = 1e-5;                   // layer_norm_epsilon
  bool scale_attention = true;                    // scale_attn_weights: scores / sqrt(d_head)
  bool scale_by_layer = false;  // scale_attn_by_inverse_layer_idx: scores / (layer + 1) as well
  bool tied = true;             // tie_word_embeddings: W_U = W_E transposed
  std::optional<int> bos, eos;  // bos_token_id, eos_token_id
  std::vector<int> more_ends;   // eos_token_id may be a list: the others of it

  bool ends_text(int id) const;  // whether generation stops at this token
  int d_head() const { return d_model / heads; }
  friend bool operator==(const Config&, const Config&) = default;
  double attention_scale(int layer) const;  // what multiplies q . k in this layer
  std::int64_t parameter_count() const;
};

// Throws ConfigError naming `name` (the file), the field, what it holds and what is supported;
// FileError when it is not JSON.
Config parse_config(std::string_view json, std::string_view name);
// What parse_config reads: HuggingFace's config.json of this model.
std::string config_json(const Config& config);
// Reads folder/config.json, and of folder/generation_config.json, where there is one, the tokens
// that end a text: HuggingFace's generate stops at those.
Config load_config(const std::filesystem::path& folder);

}  // namespace vitrine::nn
