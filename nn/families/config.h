// A model's configuration, as HuggingFace's config.json states it, for every family. Every field
// that changes the maths is honoured or rejected; none is ignored.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace vitrine::nn {

enum class Activation { gelu_tanh, gelu_erf, relu, silu };
std::string_view name_of(Activation a);  // as config.json writes it: gelu_new, gelu, relu, silu

// Rotary positions (Su et al. 2021): pairs of a head's dimensions turn by position * frequency.
struct Rope {
  enum class Scaling { none, linear, llama3, yarn };
  double base = 10000;  // rope_theta: frequency i is base^(-2i / width)
  int width = 0;        // the dimensions that turn, the first of each head
  Scaling scaling = Scaling::none;
  double factor = 1;                             // of linear, llama3, yarn
  double low_frequency = 1, high_frequency = 4;  // of llama3
  double beta_fast = 32, beta_slow = 1;          // of yarn
  std::optional<double> attention_factor;        // of yarn: multiplies cos and sin
  bool truncate = true;                          // of yarn: whole dimensions bound the ramp
  double original_context = 0;                   // of llama3 and yarn
  std::vector<double> divisors;                  // each frequency's own, as GGUF has them
  friend bool operator==(const Rope&, const Rope&) = default;

  std::vector<double> frequencies() const;  // radians per position, [width / 2]
  double magnitude() const;                 // multiplies cos and sin
};

struct Config {
  std::string model_type = "gpt2";                // decides the family: see families/architecture.h
  int layers = 12;                                // n_layer
  int heads = 12;                                 // n_head
  int d_model = 768;                              // n_embd
  int d_mlp = 3072;                               // n_inner; null there means 4 n_embd
  int context = 1024;                             // n_positions (n_ctx in old files)
  int vocabulary = 50257;                         // vocab_size
  Activation activation = Activation::gelu_tanh;  // activation_function
  double norm_eps = 1e-5;                         // layer_norm_epsilon, rms_norm_eps
  bool tied = true;                               // tie_word_embeddings: W_U = W_E transposed
  std::optional<int> bos, eos;                    // bos_token_id, eos_token_id
  std::vector<int> more_ends;                     // eos_token_id may be a list: the others of it

  // GPT-2 alone.
  bool scale_attention = true;  // scale_attn_weights: scores / sqrt(d_head)
  bool scale_by_layer = false;  // scale_attn_by_inverse_layer_idx: scores / (layer + 1) as well

  // The other families.
  int kv_heads = 0;                     // num_key_value_heads; 0: as many as heads
  int head_width = 0;                   // head_dim; 0: d_model / heads
  std::optional<Rope> rope;             // rotary positions; none: learnt ones
  std::optional<Rope> window_rope;      // of layers with a window, where it differs (gemma3)
  std::vector<int> windows;             // by layer, keys that a query sees; 0: all. Empty: all zero
  bool qkv_bias = false;                // of the projections to queries, keys and values
  bool out_bias = false;                // of the projection out of attention
  bool mlp_bias = false;                // of the MLP's projections
  bool norm_heads = false;              // queries and keys are normed, each head by itself
  bool parallel = false;                // neox: attention and MLP both read the block's input
  double query_scalar = 0;              // gemma: scores / sqrt(this); 0: / sqrt(d_head)
  double score_cap = 0, logit_cap = 0;  // gemma2: c tanh(x / c); 0: none

  bool ends_text(int id) const;  // whether generation stops at this token
  int d_head() const { return head_width > 0 ? head_width : d_model / heads; }
  int key_heads() const { return kv_heads > 0 ? kv_heads : heads; }
  int key_head(int head) const { return head / (heads / key_heads()); }  // that a query head reads
  int window(int layer) const;                                           // 0: none
  const Rope& rope_of(int layer) const;     // of a family with rotary positions
  double attention_scale(int layer) const;  // what multiplies q . k in this layer
  std::int64_t parameter_count() const;
  friend bool operator==(const Config&, const Config&) = default;
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
