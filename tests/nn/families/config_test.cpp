#include "nn/families/config.h"

#include <fmt/format.h>

#include "nn/model/checkpoint.h"
#include "nn/model/model.h"
#include "tensor/files/file.h"
#include "tensor/random.h"
#include "tests/support.h"
#include "tests/tensor/expect_error.h"
#include "tests/tensor/temporary_folder.h"

namespace vitrine::nn {
namespace {

constexpr const char* kSmall =
    R"("n_layer": 2, "n_head": 3, "n_embd": 12, "vocab_size": 20, "n_positions": 8)";
Config with(const std::string& more) {
  return parse_config(fmt::format("{{{}{}}}", kSmall, more), "config.json");
}

TEST(Config, Defaults) {
  const Config c = with("");
  EXPECT_EQ(c.layers, 2);
  EXPECT_EQ(c.d_mlp, 48);
  EXPECT_EQ(c.d_head(), 4);
  EXPECT_EQ(c.activation, Activation::gelu_tanh);
  EXPECT_DOUBLE_EQ(c.norm_eps, 1e-5);
  EXPECT_TRUE(c.tied);
  EXPECT_DOUBLE_EQ(c.attention_scale(1), 0.5);
  EXPECT_EQ(with(R"(, "n_inner": null)").d_mlp, 48);
  EXPECT_EQ(with(R"(, "n_inner": 7)").d_mlp, 7);
}

TEST(Config, Gpt2SmallHas124439808Parameters) {
  EXPECT_EQ(Config{}.parameter_count(), 124'439'808);
}

TEST(Config, OldFilesSayContext) {
  EXPECT_EQ(
      parse_config(R"({"n_layer": 1, "n_head": 1, "n_embd": 4, "vocab_size": 5, "n_ctx": 6})", "c")
          .context,
      6);
  EXPECT_EQ(with(R"(, "n_ctx": 9)").context, 8);  // beside n_positions it means nothing
}

// The names that transformers has for the same fields of all models.
TEST(Config, CanonicalNames) {
  const Config c = parse_config(
      R"({"num_hidden_layers": 3, "num_attention_heads": 2, "hidden_size": 4, "vocab_size": 5,
          "max_position_embeddings": 6})",
      "c");
  EXPECT_EQ(c.layers, 3);
  EXPECT_EQ(c.heads, 2);
  EXPECT_EQ(c.d_model, 4);
  EXPECT_EQ(c.context, 6);
  EXPECT_ERROR(ConfigError,
               "num_hidden_layers: expected 2, found 7; n_layer, which means the same, is 2: the "
               "two must agree",
               with(R"(, "num_hidden_layers": 7)"));
}

TEST(Config, EndsOfATextMayBeSeveral) {
  const Config c = with(R"(, "eos_token_id": [0, 5])");
  EXPECT_EQ(c.eos, 0);
  EXPECT_TRUE(c.ends_text(0));
  EXPECT_TRUE(c.ends_text(5));
  EXPECT_FALSE(c.ends_text(1));
  EXPECT_EQ(parse_config(config_json(c), "c"), c);
  EXPECT_FALSE(with(R"(, "eos_token_id": [])").eos.has_value());
  EXPECT_ERROR(ConfigError, "config.json: eos_token_id[1]: expected a token id, found -1",
               with(R"(, "eos_token_id": [0, -1])"));
  test::TemporaryFolder folder;
  write_text(folder / "config.json", config_json(c));
  EXPECT_EQ(load_config(folder.path()), c);
  write_text(folder / "generation_config.json", R"({"eos_token_id": 3, "do_sample": true})");
  EXPECT_TRUE(load_config(folder.path()).ends_text(3));
  EXPECT_FALSE(load_config(folder.path()).ends_text(5));
  write_text(folder / "generation_config.json", R"({"eos_token_id": "x"})");
  EXPECT_ERROR(ConfigError,
               "generation_config.json: eos_token_id: expected a token id, a list of them, or null",
               load_config(folder.path()));
}

TEST(Config, ScalesOfAttention) {
  EXPECT_DOUBLE_EQ(with(R"(, "scale_attn_weights": false)").attention_scale(1), 1.0);
  EXPECT_DOUBLE_EQ(with(R"(, "scale_attn_by_inverse_layer_idx": true)").attention_scale(1), 0.25);
  EXPECT_NO_THROW(with(R"(, "reorder_and_upcast_attn": true)"));
}

TEST(Config, Activations) {
  EXPECT_EQ(with(R"(, "activation_function": "gelu")").activation, Activation::gelu_erf);
  EXPECT_EQ(with(R"(, "activation_function": "gelu_pytorch_tanh")").activation,
            Activation::gelu_tanh);
  for (const char* same : {"gelu_new", "gelu_fast", "gelu_accurate", "gelu_python_tanh"}) {
    EXPECT_EQ(with(fmt::format(R"(, "activation_function": "{}")", same)).activation,
              Activation::gelu_tanh);
  }
  EXPECT_EQ(with(R"(, "activation_function": "gelu_python")").activation, Activation::gelu_erf);
  EXPECT_EQ(with(R"(, "activation_function": "relu")").activation, Activation::relu);
  EXPECT_EQ(with(R"(, "activation_function": "swish")").activation, Activation::silu);
  EXPECT_ERROR(
      ConfigError,
      R"(config.json: activation_function: expected a function that is supported, found "mish"; supported are gelu_new,)",
      with(R"(, "activation_function": "mish")"));
  EXPECT_ERROR(ConfigError, "activation_function: expected a function that is supported, found 3",
               with(R"(, "activation_function": 3)"));
}

TEST(Config, RejectsWhatWouldChangeTheMaths) {
  EXPECT_ERROR(ConfigError, "cross-attention", with(R"(, "add_cross_attention": true)"));
  EXPECT_ERROR(ConfigError, "weights quantised this way are not supported",
               with(R"(, "quantization_config": {"bits": 4})"));
  EXPECT_ERROR(ConfigError,
               "is_causal: expected true, found false; attention that also looks at later tokens",
               with(R"(, "is_causal": false)"));
  EXPECT_ERROR(ConfigError,
               "pruned_heads: expected nothing in it, found an object of 1 field; layers",
               with(R"(, "pruned_heads": {"0": [1]})"));
  EXPECT_ERROR(ConfigError, "per_layer_config: expected nothing in it, found an object",
               with(R"(, "per_layer_config": {"0": {"n_inner": 3}})"));
  EXPECT_ERROR(ConfigError,
               R"(transformers_weights: expected "model.safetensors", found "other.safetensors")",
               with(R"(, "transformers_weights": "other.safetensors")"));
  EXPECT_ERROR(ConfigError, "scale_attn_weights: expected true or false, found null",
               with(R"(, "scale_attn_weights": null)"));
  EXPECT_EQ(
      with(
          R"(, "is_causal": true, "pruned_heads": {}, "per_layer_config": null, "reorder_and_upcast_attn": null)"),
      with(""));
  EXPECT_ERROR(ConfigError,
               "model_type: expected gpt2, llama, mistral, qwen2, qwen3, gpt_neox, gemma2 or "
               "gemma3_text, found \"bloom\"; no other model is supported",
               with(R"(, "model_type": "bloom")"));
}

TEST(Config, RejectsWrongValues) {
  EXPECT_ERROR(ConfigError,
               "config.json: n_layer: expected a positive whole number, found no such field; a "
               "model needs it",
               parse_config("{}", "config.json"));
  EXPECT_ERROR(
      ConfigError, "n_embd: expected a multiple of n_head (3), found 13",
      parse_config(R"({"n_layer":1,"n_head":3,"n_embd":13,"vocab_size":5,"n_positions":6})",
                   "config.json"));
  for (const char* bad : {"0", "-1", "1.5", "\"4\"", "true", "1e30", "[]"}) {
    EXPECT_ERROR(ConfigError, "n_inner: expected a whole number from 1 to 1073741824, found",
                 with(fmt::format(R"(, "n_inner": {})", bad)));
  }
  EXPECT_ERROR(ConfigError, "tie_word_embeddings: expected true or false, found 1",
               with(R"(, "tie_word_embeddings": 1)"));
  EXPECT_ERROR(ConfigError, "small positive number", with(R"(, "layer_norm_epsilon": 0)"));
  EXPECT_ERROR(ConfigError, "token id or null", with(R"(, "bos_token_id": "x")"));
  EXPECT_ERROR(FileError, "config.json: not valid JSON",
               parse_config("{\"n_layer\": ", "config.json"));
  EXPECT_ERROR(FileError,
               "config.json: expected an object, a HuggingFace config.json, found a list of 1 item",
               parse_config("[1]", "config.json"));
  EXPECT_ERROR(FileError, "config.json: not valid JSON",
               parse_config(R"({"n_layer": 1e999})", "config.json"));
  EXPECT_ERROR(FileError, "occurs twice", with(R"(, "n_layer": 3)"));
}

// The settings reach the numbers: a model computed from the formula in plain loops.
class Variants : public ::testing::TestWithParam<const char*> {};

double activation(Activation a, double x) {
  switch (a) {
    case Activation::gelu_tanh:
      return 0.5 * x * (1 + std::tanh(std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
    case Activation::gelu_erf:
      return 0.5 * x * (1 + std::erf(x / std::sqrt(2.0)));
    case Activation::relu:
      return std::max(0.0, x);
    case Activation::silu:
      return x / (1 + std::exp(-x));
  }
  return x;
}

using Row = std::vector<double>;
Row matvec(const Row& x, const Tensor& w, const Tensor& b) {
  Row y = b.to_vector<double>();
  for (std::int64_t i = 0; i < w.dim(0); ++i) {
    for (std::int64_t j = 0; j < w.dim(1); ++j)
      y[static_cast<std::size_t>(j)] += x[static_cast<std::size_t>(i)] * w.at<double>({i, j});
  }
  return y;
}
Row norm(const Row& x, const Tensor& gain, const Tensor& bias, double eps) {
  double mean = 0, var = 0;
  for (const double v : x) mean += v / static_cast<double>(x.size());
  for (const double v : x) var += (v - mean) * (v - mean) / static_cast<double>(x.size());
  Row y;
  for (std::size_t i = 0; i < x.size(); ++i) {
    const auto at = static_cast<std::int64_t>(i);
    y.push_back((x[i] - mean) / std::sqrt(var + eps) * gain.at<double>({at}) +
                bias.at<double>({at}));
  }
  return y;
}

std::vector<Row> plain_gpt2(const Config& c, const Parameters& p, const Tokens& tokens) {
  const auto d = static_cast<std::size_t>(c.d_model), e = static_cast<std::size_t>(c.d_head());
  std::vector<Row> x;
  for (std::size_t t = 0; t < tokens.size(); ++t) {
    Row row(d);
    for (std::size_t i = 0; i < d; ++i) {
      row[i] = p.at("wte.weight").at<double>({tokens[t], static_cast<std::int64_t>(i)}) +
               p.at("wpe.weight")
                   .at<double>({static_cast<std::int64_t>(t), static_cast<std::int64_t>(i)});
    }
    x.push_back(row);
  }
  for (int layer = 0; layer < c.layers; ++layer) {
    const auto w = [&](const char* name) { return p.at(fmt::format("h.{}.{}", layer, name)); };
    std::vector<Row> qkv;
    for (const Row& row : x) {
      qkv.push_back(matvec(norm(row, w("ln_1.weight"), w("ln_1.bias"), c.norm_eps),
                           w("attn.c_attn.weight"), w("attn.c_attn.bias")));
    }
    for (std::size_t t = 0; t < x.size(); ++t) {
      Row z(d, 0.0);
      for (std::size_t h = 0; h < static_cast<std::size_t>(c.heads); ++h) {
        Row score;
        double total = 0;
        for (std::size_t s = 0; s <= t; ++s) {
          double dot = 0;
          for (std::size_t i = 0; i < e; ++i) dot += qkv[t][h * e + i] * qkv[s][d + h * e + i];
          score.push_back(std::exp(dot * c.attention_scale(layer)));
          total += score.back();
        }
        for (std::size_t s = 0; s <= t; ++s) {
          for (std::size_t i = 0; i < e; ++i)
            z[h * e + i] += score[s] / total * qkv[s][2 * d + h * e + i];
        }
      }
      const Row out = matvec(z, w("attn.c_proj.weight"), w("attn.c_proj.bias"));
      for (std::size_t i = 0; i < d; ++i) x[t][i] += out[i];
      Row hidden = matvec(norm(x[t], w("ln_2.weight"), w("ln_2.bias"), c.norm_eps),
                          w("mlp.c_fc.weight"), w("mlp.c_fc.bias"));
      for (double& v : hidden) v = activation(c.activation, v);
      const Row mlp = matvec(hidden, w("mlp.c_proj.weight"), w("mlp.c_proj.bias"));
      for (std::size_t i = 0; i < d; ++i) x[t][i] += mlp[i];
    }
  }
  const Tensor w_u = p.at(c.tied ? "wte.weight" : "lm_head.weight").permute({1, 0});
  std::vector<Row> logits;
  for (const Row& row : x) {
    logits.push_back(matvec(norm(row, p.at("ln_f.weight"), p.at("ln_f.bias"), c.norm_eps), w_u,
                            Tensor::zeros({c.vocabulary}, DType::f64)));
  }
  return logits;
}

TEST_P(Variants, EqualThePlainLoops) {
  const Config c = with(GetParam());
  Parameters parameters;
  ThreadPool pool(1);
  for (const auto& [name, shape] : parameter_shapes(c)) {
    parameters[name] = Tensor::empty(shape, DType::f64);
    random::fill_normal(pool, random::Key{1}.fold(name), parameters[name],
                        name.find("ln_") != std::string::npos ? 1 : 0, 0.5);
  }
  const Model model(c, parameters, std::nullopt, {.dtype = DType::f64, .threads = 1});
  const Tokens tokens = {3, 19, 0, 7, 7};
  const Tensor got = model.run(tokens).logits();
  const auto want = plain_gpt2(c, parameters, tokens);
  for (std::size_t t = 0; t < want.size(); ++t) {
    for (std::size_t i = 0; i < want[t].size(); ++i) {
      EXPECT_NEAR(got.at<double>({0, static_cast<std::int64_t>(t), static_cast<std::int64_t>(i)}),
                  want[t][i], 1e-9 * std::max(1.0, std::abs(want[t][i])));
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Settings, Variants,
                         ::testing::Values("", R"(, "activation_function": "gelu")",
                                           R"(, "activation_function": "relu")",
                                           R"(, "activation_function": "silu")",
                                           R"(, "scale_attn_weights": false)", R"(, "n_inner": 5)",
                                           R"(, "scale_attn_by_inverse_layer_idx": true)",
                                           R"(, "tie_word_embeddings": false)",
                                           R"(, "layer_norm_epsilon": 0.1)"));

// ---- writing ------------------------------------------------------------------------------------
TEST(Config, ComesBackFromJson) {
  const auto back = [](const Config& c) { return parse_config(config_json(c), "config.json"); };
  EXPECT_EQ(back(Config{}), Config{});
  Config c;
  c.layers = 3;
  c.heads = 5;
  c.d_model = 35;
  c.d_mlp = 11;
  c.context = 13;
  c.vocabulary = 17;
  c.norm_eps = 1.0 / 3;
  c.scale_attention = false;
  c.scale_by_layer = true;
  c.tied = false;
  c.bos = 0;
  c.eos = 16;
  for (const Activation a : {Activation::gelu_tanh, Activation::gelu_erf, Activation::relu}) {
    c.activation = a;
    EXPECT_EQ(back(c), c);
  }
  c.eos = std::nullopt;
  EXPECT_EQ(back(c), c);
}

// HuggingFace takes 50256 where nothing is said.
TEST(Config, SaysThatThereIsNoBeginningOrEnd) {
  const std::string json = config_json(Config{});
  EXPECT_NE(json.find(R"("bos_token_id": null)"), std::string::npos) << json;
  EXPECT_NE(json.find(R"("eos_token_id": null)"), std::string::npos) << json;
}

}  // namespace
}  // namespace vitrine::nn
