// config.json of the families beyond GPT-2: defaults, both spellings, refusals.
#include <fmt/format.h>
#include <gmock/gmock.h>

#include <cmath>

#include "nn/families/architecture.h"
#include "nn/families/config.h"
#include "tensor/error.h"
#include "tests/tensor/expect_error.h"

namespace vitrine::nn {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

Config family(const std::string& model_type, const std::string& more = "") {
  return parse_config(
      fmt::format(R"({{"model_type": "{}", "num_hidden_layers": 4, "num_attention_heads": 4,
          "hidden_size": 32, "intermediate_size": 48, "vocab_size": 50,
          "max_position_embeddings": 64{}}})",
                  model_type, more),
      "config.json");
}

TEST(FamilyConfig, DefaultsAreTheFamilys) {
  const Config llama = family("llama");
  EXPECT_EQ(llama.key_heads(), 4);
  EXPECT_EQ(llama.d_head(), 8);
  EXPECT_EQ(llama.norm_eps, 1e-6);
  EXPECT_EQ(llama.rope->base, 10000);
  EXPECT_FALSE(llama.tied);
  EXPECT_FALSE(llama.qkv_bias);
  EXPECT_EQ(llama.activation, Activation::silu);
  EXPECT_THAT(llama.windows, IsEmpty());
  EXPECT_THAT(family("mistral").windows, ElementsAre(4096, 4096, 4096, 4096));
  EXPECT_THAT(family("mistral", R"(, "sliding_window": null)").windows, IsEmpty());
  EXPECT_TRUE(family("qwen2").qkv_bias);
  EXPECT_FALSE(family("qwen2").out_bias);
  EXPECT_EQ(family("qwen3").d_head(), 128);
  EXPECT_TRUE(family("qwen3").norm_heads);
  const Config neox = family("gpt_neox");
  EXPECT_EQ(neox.rope->width, 2);
  EXPECT_TRUE(neox.parallel);
  EXPECT_TRUE(neox.qkv_bias && neox.out_bias && neox.mlp_bias);
  EXPECT_EQ(neox.activation, Activation::gelu_erf);
  const Config gemma2 = family("gemma2");
  EXPECT_EQ(gemma2.d_head(), 256);
  EXPECT_TRUE(gemma2.tied);
  EXPECT_EQ(gemma2.score_cap, 50);
  EXPECT_EQ(gemma2.logit_cap, 30);
  EXPECT_EQ(family("gemma2", R"(, "attn_logit_softcapping": null)").score_cap, 0);
  EXPECT_THAT(gemma2.windows, ElementsAre(4096, 0, 4096, 0));
  const Config gemma3 = family("gemma3_text", R"(, "sliding_window_pattern": 3)");
  EXPECT_THAT(gemma3.windows, ElementsAre(4096, 4096, 0, 4096));
  EXPECT_EQ(gemma3.rope_of(0).base, 1e4);
  EXPECT_EQ(gemma3.rope_of(2).base, 1e6);
  EXPECT_EQ(gemma3.score_cap, 0);
}

TEST(FamilyConfig, QwenSlidesWhereItIsToldTo) {
  const std::string on = R"(, "use_sliding_window": true, "sliding_window": 7)";
  EXPECT_THAT(family("qwen2", on + R"(, "max_window_layers": 3)").windows, ElementsAre(0, 0, 0, 7));
  EXPECT_THAT(family("qwen2", on).windows, IsEmpty());  // from layer 28 on
  EXPECT_THAT(family("qwen2", R"(, "sliding_window": 7, "max_window_layers": 0)").windows,
              IsEmpty());
  EXPECT_THAT(family("qwen3", on + R"(, "layer_types": ["full_attention", "sliding_attention",
                                       "full_attention", "full_attention"])")
                  .windows,
              ElementsAre(0, 7, 0, 0));
}

TEST(FamilyConfig, BothSpellingsOfRotaryPositions) {
  const std::string scaling = R"({"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0,
      "high_freq_factor": 4.0, "original_max_position_embeddings": 32, "rope_theta": 5000.0})";
  const Config published = family("llama", R"(, "rope_theta": 5000.0, "rope_scaling": )" + scaling);
  EXPECT_EQ(published, family("llama", R"(, "rope_parameters": )" + scaling));
  EXPECT_EQ(published.rope->scaling, Rope::Scaling::llama3);
  const Config old = family("llama", R"(, "rope_scaling": {"type": "linear", "factor": 2})");
  EXPECT_DOUBLE_EQ(old.rope->frequencies()[1], std::pow(10000, -0.25) / 2);
}

TEST(FamilyConfig, YarnByHand) {
  Rope rope{.base = 10000, .width = 8, .scaling = Rope::Scaling::yarn, .factor = 4};
  rope.original_context = 64;
  // dim(rot) = 8 ln(64 / (2 pi rot)) / (2 ln 10000): below 0 for 32, 1.0 for 1, so the ramp ends at 2.
  const std::vector<double> f = rope.frequencies();
  EXPECT_DOUBLE_EQ(f[0], 1);
  EXPECT_DOUBLE_EQ(f[1], 0.5 * 0.1 / 4 + 0.5 * 0.1);
  EXPECT_DOUBLE_EQ(f[2], 0.01 / 4);
  EXPECT_DOUBLE_EQ(rope.magnitude(), 0.1 * std::log(4) + 1);
}

TEST(FamilyConfig, WhatIsWrittenReadsTheSame) {
  for (const Config& c :
       {family("llama", R"(, "attention_bias": true, "mlp_bias": true, "eos_token_id": [1, 2])"),
        family("llama", R"(, "rope_scaling": {"type": "yarn", "factor": 4, "beta_fast": 16})"),
        family("mistral", R"(, "sliding_window": 9, "num_key_value_heads": 2)"),
        family("qwen2", R"(, "tie_word_embeddings": true, "bos_token_id": 3)"),
        family("qwen3", R"(, "head_dim": 6)"),
        family("gpt_neox", R"(, "rotary_pct": 0.5, "use_parallel_residual": false)"),
        family("gemma2", R"(, "query_pre_attn_scalar": 10, "final_logit_softcapping": null)"),
        family("gemma3_text", R"(, "sliding_window": 5, "rope_local_base_freq": 500)")}) {
    EXPECT_EQ(parse_config(config_json(c), "config.json"), c) << config_json(c);
  }
}

TEST(FamilyConfig, Refusals) {
  EXPECT_ERROR(ConfigError, R"(rope_scaling.rope_type: expected default, linear, llama3 or yarn)",
               family("llama", R"(, "rope_scaling": {"rope_type": "longrope", "factor": 2})"));
  EXPECT_ERROR(ConfigError, "rope_scaling.factor: expected a number above 0",
               family("llama", R"(, "rope_scaling": {"type": "linear"})"));
  EXPECT_ERROR(ConfigError, R"(hidden_act: expected a function that is supported, found "mish")",
               family("llama", R"(, "hidden_act": "mish")"));
  for (const char* mixture : {"mixtral", "qwen2_moe", "gemma3", "gpt_neo"})
    EXPECT_ERROR(ConfigError, "no other model is supported", family(mixture));
  EXPECT_ERROR(ConfigError, "num_key_value_heads: expected a divisor of num_attention_heads (4)",
               family("llama", R"(, "num_key_value_heads": 3)"));
  EXPECT_ERROR(ConfigError, "layer_types[1]: expected \"full_attention\" or \"sliding_attention\"",
               family("qwen3", R"(, "layer_types": ["full_attention", "chunked_attention",
                                    "full_attention", "full_attention"])"));
  EXPECT_ERROR(ConfigError, "use_bidirectional_attention: expected false",
               family("gemma2", R"(, "use_bidirectional_attention": true)"));
  EXPECT_ERROR(ConfigError, "rotary_pct", family("gpt_neox", R"(, "rotary_pct": 0.4)"));
  EXPECT_ERROR(ConfigError, "intermediate_size: expected a positive whole number",
               parse_config(R"({"model_type": "llama", "num_hidden_layers": 1,
                                "num_attention_heads": 1, "hidden_size": 8})",
                            "config.json"));
}

}  // namespace
}  // namespace vitrine::nn
