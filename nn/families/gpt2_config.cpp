// GPT-2's config.json.
#include <fmt/format.h>

#include <limits>

#include "nn/families/config_fields.h"
#include "nn/families/readers.h"

namespace vitrine::nn {

Config read_gpt2(const JsonReader& r, std::string_view) {
  refuse_what_no_family_has(r);
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
  c.activation = activation_of(r.at("activation_function"), Activation::gelu_tanh);
  c.norm_eps = small_number(r.at("layer_norm_epsilon"), 1e-5);
  c.scale_attention = boolean(r.at("scale_attn_weights"), true);
  c.scale_by_layer = boolean(r.at("scale_attn_by_inverse_layer_idx"), false);
  // Asks for f32 attention scores: what we compute always.
  boolean(r.at("reorder_and_upcast_attn"), false);
  c.tied = boolean(r.at("tie_word_embeddings"), true);
  read_ends(r, c);
  return c;
}

JsonValue write_gpt2(const Config& c) {
  return JsonValue::object({{"architectures", JsonValue::list({"GPT2LMHeadModel"})},
                            {"model_type", "gpt2"},
                            {"n_layer", c.layers},
                            {"n_head", c.heads},
                            {"n_embd", c.d_model},
                            {"n_inner", c.d_mlp},
                            {"n_positions", c.context},
                            {"vocab_size", c.vocabulary},
                            {"activation_function", name_of(c.activation)},
                            {"layer_norm_epsilon", c.norm_eps},
                            {"scale_attn_weights", c.scale_attention},
                            {"scale_attn_by_inverse_layer_idx", c.scale_by_layer},
                            {"tie_word_embeddings", c.tied},
                            {"bos_token_id", c.bos},
                            {"eos_token_id", ends_json(c)},
                            {"attn_pdrop", 0.0},
                            {"embd_pdrop", 0.0},
                            {"resid_pdrop", 0.0}});
}

}  // namespace vitrine::nn
