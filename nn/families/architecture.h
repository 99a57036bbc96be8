// Architecture: what the rest of the code knows of a family of models. Each family is one file here
// that reads from top to bottom, gpt2.cpp first, built from what parts.h shares.
//
//   Graph g = build_model(config, {.rows = 15, .sequences = 1, .positions = 15});
//   architecture(config).name;   // "llama"
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "autograd/compile/plan.h"
#include "autograd/graph/graph.h"
#include "nn/families/config.h"

namespace vitrine::nn {

// How many packed rows a graph is built for. All prompts of a batch lie one after the other,
// without padding.
struct BatchSize {
  std::int64_t rows = 0;       // tokens of all prompts together
  std::int64_t sequences = 1;  // prompts
  std::int64_t positions = 0;  // tokens of the longest prompt; with a cache, its capacity
  bool cached = false;         // keys and values of earlier rows are kept between runs
  friend auto operator<=>(const BatchSize&, const BatchSize&) = default;
};

}  // namespace vitrine::nn

namespace vitrine {
class JsonReader;
class JsonValue;
}  // namespace vitrine

namespace vitrine::nn {

// One row a family, as OpDef is one row an op.
struct Architecture {
  std::string_view name;                      // "llama"
  std::vector<std::string_view> model_types;  // of config.json: llama, mistral, qwen2, qwen3
  std::string_view prefix;  // of the names in its files, but for the unembedding's: "model."
  std::string_view embedding, unembedding;  // their names, without the prefix
  bool centred;                             // norms are LayerNorms: what they read may be centred
  Config (*read)(const JsonReader& config_json, std::string_view model_type);
  JsonValue (*write)(const Config& config);
  // Inputs, all i32: tokens [rows]; rows.sequence [rows], rows.position [rows], rows.keys
  // [sequences, positions] (see autograd/README.md). Parameters: HuggingFace's names and shapes,
  // without the prefix. Output: logits [rows, vocabulary]. Sites and weights have TransformerLens's
  // names. dtype is f32, or f64 for checks.
  Graph (*build)(const Config& config, const BatchSize& size, DType dtype);
};

// The family of a model. Throws ConfigError naming the model types that there are.
const Architecture& architecture(const Config& config);
const std::vector<const Architecture*>& architectures();

Graph build_model(const Config& config, const BatchSize& size, DType dtype = DType::f32);

// The names and shapes of every parameter of a model, HuggingFace's without the prefix, in the order
// in which its graph asks for them.
std::vector<std::pair<std::string, Shape>> parameter_shapes(const Config& config);

// The KV cache. With size.cached the model reads and extends cached keys and values: parameters
// cache.k.LAYER and cache.v.LAYER [positions, g, e] (keys after their rotation), which
// cache_updates(config) writes after each run; the input rows.slot [rows] says where each row goes,
// and rows.keys which slots hold which positions.
Updates cache_updates(const Config& config);

}  // namespace vitrine::nn
