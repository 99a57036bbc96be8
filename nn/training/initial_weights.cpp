#include "nn/training/initial_weights.h"

#include <fmt/format.h>

#include <cmath>
#include <numbers>

#include "nn/families/architecture.h"
#include "tensor/error.h"

namespace vitrine::nn {
namespace {

constexpr double kTokens = 1.5;     // of mimetic weights: deviation of token embeddings / range
constexpr double kPositions = 1.5;  // length of position embeddings / of token embeddings
constexpr double kCopies = 2;       // W_O / (W_V transposed / sqrt(2 layers))

// sin and cos of position * w, for w from 1 to about 1 / positions, with root mean square `rms`.
void fill_sinusoids(const Tensor& out, double rms) {
  const std::int64_t positions = out.shape()[0], width = out.shape()[1], half = width / 2;
  float* x = out.data<float>();
  for (std::int64_t i = 0; i < half; ++i) {
    const double w = std::pow(static_cast<double>(positions),
                              -static_cast<double>(i) / static_cast<double>(half));
    for (std::int64_t p = 0; p < positions; ++p) {
      const double angle = static_cast<double>(p) * w;
      x[p * width + i] = static_cast<float>(rms * std::numbers::sqrt2 * std::sin(angle));
      x[p * width + half + i] = static_cast<float>(rms * std::numbers::sqrt2 * std::cos(angle));
    }
  }
}

// c_attn is [d, 3 d]: W_Q, W_K and W_V side by side, each with its heads side by side.
void fill_near_and_same(ThreadPool& pool, random::Key key, const Tensor& c_attn) {
  const std::int64_t d = c_attn.shape()[0];
  const Tensor query = Tensor::zeros({d, d}, DType::f32);
  random::fill_normal(pool, key, query, 0, 1 / std::sqrt(static_cast<double>(d)));
  const float* q = query.data<float>();
  float* x = c_attn.data<float>();
  for (std::int64_t i = 0; i < d; ++i) {
    for (std::int64_t j = 0; j < d; ++j) x[i * 3 * d + j] = x[i * 3 * d + d + j] = q[i * d + j];
  }
}

// c_proj is [d, d], a head's W_O below another's: so W_V transposed as a whole is that of each
// head.
void fill_copies(const Tensor& c_attn, double scale, const Tensor& c_proj) {
  const std::int64_t d = c_attn.shape()[0];
  const float* attn = c_attn.data<float>();
  float* x = c_proj.data<float>();
  for (std::int64_t i = 0; i < d; ++i) {
    for (std::int64_t j = 0; j < d; ++j) {
      x[j * d + i] = static_cast<float>(scale * attn[i * 3 * d + 2 * d + j]);
    }
  }
}

// What differs from GPT-2's weights, but for the deviation of the token embeddings.
void make_mimetic(const Config& config, random::Key key, ThreadPool& pool, double range,
                  const Parameters& weights) {
  const auto of = [&](const std::string& name) { return weights.at(name); };
  fill_sinusoids(of("wpe.weight"), kPositions * kTokens * range);
  fill_near_and_same(pool, key.fold("near and same"), of("h.0.attn.c_attn.weight"));
  for (int layer = 1; layer < config.layers; ++layer) {
    const std::string attention = fmt::format("h.{}.attn.", layer);
    fill_copies(of(attention + "c_attn.weight"), kCopies / std::sqrt(2.0 * config.layers),
                of(attention + "c_proj.weight"));
  }
}

}  // namespace

Parameters initial_weights(const Config& config, random::Key key, ThreadPool& pool, double range,
                           Initializer initializer) {
  const bool mimetic = initializer == Initializer::mimetic;
  if (mimetic && config.model_type != "gpt2") {
    throw Error(ErrorKind::usage,
                "mimetic weights are made for GPT-2 alone: with rotary positions there is no "
                "position embedding to begin with");
  }
  const auto writes_to_stream = [](const std::string& name) {
    for (const char* end : {"c_proj.weight", "o_proj.weight", "down_proj.weight",
                            "attention.dense.weight", "dense_4h_to_h.weight"})
      if (name.ends_with(end)) return true;
    return false;
  };
  const auto deviation = [&](const std::string& name) {
    if (writes_to_stream(name)) return range / std::sqrt(2.0 * config.layers);
    return mimetic && name == "wte.weight" ? kTokens * range : range;
  };
  // Gemma learns gain - 1.
  const double gain = architecture(config).name == "gemma" ? 0 : 1;
  Parameters weights;
  for (const auto& [name, shape] : parameter_shapes(config)) {
    Tensor w = Tensor::zeros(shape, DType::f32);
    if (shape.size() >= 2) {
      random::fill_normal(pool, key.fold(name), w, 0, deviation(name));
    } else if (name.ends_with(".weight")) {
      w = Tensor::full(shape, DType::f32, gain);
    }
    weights[name] = w;
  }
  if (mimetic) make_mimetic(config, key, pool, range, weights);
  return weights;
}

}  // namespace vitrine::nn
