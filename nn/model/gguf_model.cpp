#include "nn/model/gguf_model.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <optional>
#include <utility>

#include "nn/model/checkpoint.h"
#include "tensor/error.h"

namespace vitrine::nn {
namespace {

constexpr std::string_view kArchitectures[] = {"llama", "qwen2", "qwen3"};
constexpr std::int64_t kLargest = 1 << 30;

// The metadata of one architecture, whose keys begin with its name.
class Keys {
 public:
  explicit Keys(const Gguf& file)
      : file_(file), architecture_(file.metadata().text("general.architecture")) {
    if (std::find(std::begin(kArchitectures), std::end(kArchitectures), architecture_) ==
        std::end(kArchitectures)) {
      throw ConfigError(
          fmt::format("{}: general.architecture: expected llama, qwen2 or qwen3, found '{}'; GGUF "
                      "files of other "
                      "architectures are not supported: give the model as a HuggingFace folder",
                      file.file(), architecture_));
    }
  }
  const std::string& architecture() const { return architecture_; }
  std::string key(std::string_view name) const { return fmt::format("{}.{}", architecture_, name); }
  bool has(std::string_view name) const { return file_.metadata().has(key(name)); }

  int positive(std::string_view name) const {
    return check(name, file_.metadata().integer(key(name)));
  }
  int positive(std::string_view name, int otherwise) const {
    return check(name, file_.metadata().integer(key(name), otherwise));
  }
  std::int64_t integer(std::string_view name) const {
    return file_.metadata().integer(key(name), 0);
  }
  double number(std::string_view name, double otherwise) const {
    const double x = file_.metadata().real(key(name), otherwise);
    if (!(x > 0)) refuse(name, "a number above 0");
    return x;
  }
  double number(std::string_view name) const {
    file_.metadata().real(key(name));  // which says that it is missing
    return number(name, 1);
  }
  std::string text(std::string_view name, std::string_view otherwise) const {
    return std::string(file_.metadata().text(key(name), otherwise));
  }
  [[noreturn]] void refuse(std::string_view name, std::string_view expected) const {
    throw ConfigError(fmt::format("{}: {}: expected {}, found {}", file_.file(), key(name),
                                  expected, file_.metadata().describe(key(name))));
  }

 private:
  int check(std::string_view name, std::int64_t value) const {
    if (value < 1 || value > kLargest) refuse(name, "a positive whole number");
    return static_cast<int>(value);
  }

  const Gguf& file_;
  std::string architecture_;
};

std::optional<int> token_of(const Gguf& file, const char* key) {
  if (!file.metadata().has(key)) return std::nullopt;
  const std::int64_t id = file.metadata().integer(key);
  // llama.cpp writes -1, or 2^32 - 1, for none.
  return id < 0 || id > kLargest ? std::nullopt : std::optional(static_cast<int>(id));
}

// GGUF states llama3's scaling by what each frequency is divided by. The rule behind it, if it is
// one that models have.
std::optional<Rope> llama3_rule(const Rope& given) {
  Rope rule = given;
  rule.divisors.clear();
  rule.scaling = Rope::Scaling::llama3;
  rule.factor = *std::max_element(given.divisors.begin(), given.divisors.end());
  const std::vector<double> wanted = given.frequencies();
  for (rule.original_context = 16; rule.original_context <= 1 << 20; rule.original_context *= 2) {
    const std::vector<double> f = rule.frequencies();
    bool same = true;
    for (std::size_t i = 0; same && i < f.size(); ++i)
      same = std::abs(f[i] - wanted[i]) <= 1e-6 * wanted[i];
    if (same) return rule;
  }
  return std::nullopt;
}

Rope rope_of(const Gguf& file, const Keys& keys, const Config& c) {
  Rope rope{.base = keys.number("rope.freq_base", 10000),
            .width = keys.positive("rope.dimension_count", c.d_head())};
  if (rope.width % 2 != 0 || rope.width > c.d_head())
    keys.refuse("rope.dimension_count", fmt::format("an even number up to {}", c.d_head()));
  const std::string scaling = keys.text("rope.scaling.type", "none");
  if (scaling == "linear") {
    rope.scaling = Rope::Scaling::linear;
    rope.factor = keys.number("rope.scaling.factor");
  } else if (scaling != "none") {
    keys.refuse("rope.scaling.type", "none or linear (others are not supported in GGUF files)");
  } else if (keys.has("rope.scale_linear") && keys.number("rope.scale_linear") != 1) {
    keys.refuse("rope.scale_linear", "1");
  }
  if (file.contains("rope_freqs.weight")) {  // how llama3's scaling is written
    rope.divisors = file.at("rope_freqs.weight").to(DType::f64).to_vector<double>();
    if (static_cast<int>(rope.divisors.size()) != rope.width / 2 ||
        std::any_of(rope.divisors.begin(), rope.divisors.end(),
                    [](double x) { return !(x > 0); })) {
      throw FileError(fmt::format("{}: rope_freqs.weight: expected {} numbers above 0", file.file(),
                                  rope.width / 2));
    }
    if (const auto rule = llama3_rule(rope)) return *rule;
  }
  return rope;
}

// What would change the numbers and has no place in these families.
void refuse_others(const Keys& keys) {
  for (const char* name : {"expert_count", "expert_used_count", "attention.sliding_window"}) {
    if (keys.integer(name) != 0) keys.refuse(name, "0, or no such key");
  }
}

// HuggingFace's names of a layer's tensors.
constexpr std::pair<std::string_view, std::string_view> kNames[] = {
    {"attn_norm", "input_layernorm"},    {"attn_q", "self_attn.q_proj"},
    {"attn_k", "self_attn.k_proj"},      {"attn_v", "self_attn.v_proj"},
    {"attn_q_norm", "self_attn.q_norm"}, {"attn_k_norm", "self_attn.k_norm"},
    {"attn_output", "self_attn.o_proj"}, {"ffn_norm", "post_attention_layernorm"},
    {"ffn_gate", "mlp.gate_proj"},       {"ffn_up", "mlp.up_proj"},
    {"ffn_down", "mlp.down_proj"}};

// Of "blk.3.attn_q.weight": layers.3.self_attn.q_proj.weight; of others themselves.
std::string their_name(std::string_view name) {
  if (name == "token_embd.weight") return "embed_tokens.weight";
  if (name == "output_norm.weight") return "norm.weight";
  if (name == "output.weight") return "lm_head.weight";
  if (!name.starts_with("blk.")) return std::string(name);
  const std::size_t layer_end = name.find('.', 4), part_end = name.rfind('.');
  if (layer_end == std::string_view::npos || part_end <= layer_end) return std::string(name);
  const std::string_view part = name.substr(layer_end + 1, part_end - layer_end - 1);
  for (const auto& [own, theirs] : kNames) {
    if (own == part)
      return fmt::format("layers.{}.{}{}", name.substr(4, layer_end - 4), theirs,
                         name.substr(part_end));
  }
  return std::string(name);
}

// Rows (head, i, half) in HuggingFace's order, (head, half, i): [heads * e, ...].
Tensor unpermuted(const Tensor& rows, std::int64_t heads, const std::string& where) {
  if (rows.dim(0) % (2 * heads) != 0) {
    throw CheckpointError(
        fmt::format("{}: {} rows are not {} heads of an even width", where, rows.dim(0), heads));
  }
  const std::int64_t half = rows.dim(0) / heads / 2;
  const std::int64_t bytes = rows.bytes() / rows.dim(0);
  const Tensor in = rows.contiguous(), out = Tensor::empty(rows.shape(), rows.dtype());
  for (std::int64_t head = 0; head < heads; ++head) {
    for (std::int64_t i = 0; i < half; ++i) {
      for (std::int64_t side = 0; side < 2; ++side) {
        std::memcpy(out.view().data + ((head * 2 + side) * half + i) * bytes,
                    in.view().data + ((head * half + i) * 2 + side) * bytes,
                    static_cast<std::size_t>(bytes));
      }
    }
  }
  return out;
}

}  // namespace

Config gguf_config(const Gguf& file) {
  const Keys keys(file);
  refuse_others(keys);
  Config c;
  c.model_type = keys.architecture();
  c.layers = keys.positive("block_count");
  c.heads = keys.positive("attention.head_count");
  c.kv_heads = keys.positive("attention.head_count_kv", c.heads);
  c.d_model = keys.positive("embedding_length");
  c.d_mlp = keys.positive("feed_forward_length");
  c.context = keys.positive("context_length");
  if (c.heads % c.kv_heads != 0)
    keys.refuse("attention.head_count_kv", fmt::format("a divisor of {}", c.heads));
  if (!keys.has("attention.key_length") && c.d_model % c.heads != 0)
    keys.refuse("embedding_length", fmt::format("a multiple of {}, the heads", c.heads));
  c.head_width = keys.positive("attention.key_length", c.d_model / c.heads);
  if (keys.positive("attention.value_length", c.head_width) != c.head_width)
    keys.refuse("attention.value_length", fmt::format("{}, as keys have", c.head_width));
  if (!file.contains("token_embd.weight") || file.shape("token_embd.weight").size() != 2)
    throw FileError(fmt::format("{}: there is no token_embd.weight of two axes", file.file()));
  c.vocabulary = static_cast<int>(file.shape("token_embd.weight")[0]);
  c.norm_eps = keys.number("attention.layer_norm_rms_epsilon");
  c.activation = Activation::silu;
  c.tied = !file.contains("output.weight");
  c.qkv_bias = file.contains("blk.0.attn_q.bias");
  c.out_bias = file.contains("blk.0.attn_output.bias");
  c.mlp_bias = file.contains("blk.0.ffn_gate.bias");
  c.norm_heads = file.contains("blk.0.attn_q_norm.weight");
  c.rope = rope_of(file, keys, c);
  c.bos = token_of(file, "tokenizer.ggml.bos_token_id");
  c.eos = token_of(file, "tokenizer.ggml.eos_token_id");
  if (const auto turn = token_of(file, "tokenizer.ggml.eot_token_id"); turn && turn != c.eos)
    (c.eos ? c.more_ends.push_back(*turn) : void(c.eos = turn));
  return c;
}

Parameters gguf_parameters(const Gguf& file, const Config& config, DType dtype, Weights weights) {
  const bool permuted = file.metadata().text("general.architecture") == "llama";
  TensorsByName tensors;
  for (const std::string& name : file.names()) {
    if (name == "rope_freqs.weight") continue;  // see rope_of
    Tensor tensor = file.at(name);
    const std::string where = fmt::format("{}: {}", file.file(), name);
    if (permuted && name.find(".attn_q.") != std::string::npos)
      tensor = unpermuted(tensor, config.heads, where);
    if (permuted && name.find(".attn_k.") != std::string::npos)
      tensor = unpermuted(tensor, config.key_heads(), where);
    tensors.emplace(their_name(name), std::move(tensor));
  }
  return parameters_of(std::move(tensors), config, dtype, weights,
                       {file.file(), "its metadata", {}});
}

}  // namespace vitrine::nn
