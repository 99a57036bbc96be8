#include "nn/families/config.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numbers>

#include "nn/families/architecture.h"
#include "nn/families/config_fields.h"
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
    case Activation::silu:
      return "silu";
  }
  return "";
}

bool Config::ends_text(int id) const {
  return eos == id || std::find(more_ends.begin(), more_ends.end(), id) != more_ends.end();
}

int Config::window(int layer) const {
  return windows.empty() ? 0 : windows[static_cast<std::size_t>(layer)];
}

const Rope& Config::rope_of(int layer) const {
  return window_rope && window(layer) > 0 ? *window_rope : *rope;
}

double Config::attention_scale(int layer) const {
  if (query_scalar > 0) return 1 / std::sqrt(query_scalar);
  double scale = scale_attention ? 1.0 / std::sqrt(static_cast<double>(d_head())) : 1.0;
  if (scale_by_layer) scale /= layer + 1;
  return scale;
}

std::int64_t Config::parameter_count() const {
  std::int64_t count = 0;
  for (const auto& [name, shape] : parameter_shapes(*this)) count += numel(shape);
  return count;
}

// ---- rotary positions -----------------------------------------------------------------------------
namespace {

// Long waves turn slower by the factor, short ones do not, in between it is mixed (Llama 3).
double llama3_frequency(const Rope& rope, double f) {
  const double wave = 2 * std::numbers::pi / f, context = rope.original_context;
  if (wave < context / rope.high_frequency) return f;
  if (wave > context / rope.low_frequency) return f / rope.factor;
  const double t =
      (context / wave - rope.low_frequency) / (rope.high_frequency - rope.low_frequency);
  return (1 - t) * f / rope.factor + t * f;
}

// Dimensions that turn often within the context keep their frequency, those that turn less than
// once are slowed by the factor, and a ramp lies between (YaRN, Peng et al. 2023).
std::vector<double> yarn_frequencies(const Rope& rope, std::vector<double> f) {
  const double n = rope.width;
  const auto dimension_of = [&](double turns) {
    return n * std::log(rope.original_context / (2 * std::numbers::pi * turns)) /
           (2 * std::log(rope.base));
  };
  double low = dimension_of(rope.beta_fast), high = dimension_of(rope.beta_slow);
  if (rope.truncate) low = std::floor(low), high = std::ceil(high);
  low = std::max(low, 0.0), high = std::min(high, n - 1);
  if (high == low) high += 0.001;
  for (std::size_t i = 0; i < f.size(); ++i) {
    const double slow = std::clamp((static_cast<double>(i) - low) / (high - low), 0.0, 1.0);
    f[i] = slow * f[i] / rope.factor + (1 - slow) * f[i];
  }
  return f;
}

}  // namespace

std::vector<double> Rope::frequencies() const {
  std::vector<double> f;
  for (int i = 0; i < width / 2; ++i) f.push_back(std::pow(base, -2.0 * i / width));
  if (scaling == Scaling::yarn) f = yarn_frequencies(*this, std::move(f));
  for (std::size_t i = 0; i < f.size(); ++i) {
    if (scaling == Scaling::linear) f[i] /= factor;
    if (scaling == Scaling::llama3) f[i] = llama3_frequency(*this, f[i]);
    if (!divisors.empty()) f[i] /= divisors[i];
  }
  return f;
}

double Rope::magnitude() const {
  if (scaling != Scaling::yarn) return 1;
  return attention_factor.value_or(factor <= 1 ? 1 : 0.1 * std::log(factor) + 1);
}

// ---- config.json ----------------------------------------------------------------------------------
Config parse_config(std::string_view text, std::string_view name) {
  const auto json = JsonReader::object(
      text, std::string(name), {.wrong = JsonFault::config, .root = "a HuggingFace config.json"});
  const JsonReader type = json.at("model_type");
  const std::string model_type = type.text_or("gpt2");
  std::vector<std::string_view> known;
  for (const Architecture* a : architectures()) {
    for (const std::string_view t : a->model_types) {
      if (t == model_type) return a->read(json, t);
      known.push_back(t);
    }
  }
  type.reject(alternatives(known), "no other model is supported");
}

std::string config_json(const Config& c) { return architecture(c).write(c).sorted().indented(); }

Config load_config(const std::filesystem::path& folder) {
  const auto file = folder / "config.json";
  Config config = parse_config(read_text(file), file.string());
  const auto generation = folder / "generation_config.json";
  if (!std::filesystem::exists(generation)) return config;
  const auto ends =
      JsonReader::object(read_text(generation), generation.string(), {.wrong = JsonFault::config})
          .at("eos_token_id");
  if (ends.given()) set_ends(config, ends);
  return config;
}

}  // namespace vitrine::nn
