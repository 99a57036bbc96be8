#include "nn/families/architecture.h"

#include <fmt/format.h>

#include <algorithm>

#include "autograd/ops/op_table.h"
#include "nn/families/parts.h"
#include "nn/families/readers.h"
#include "tensor/error.h"

namespace vitrine::nn {
namespace {

const Architecture kGpt2{.name = "gpt2",
                         .model_types = {"gpt2"},
                         .prefix = "transformer.",
                         .embedding = "wte.weight",
                         .unembedding = "lm_head.weight",
                         .centred = true,
                         .read = read_gpt2,
                         .write = write_gpt2,
                         .build = build_gpt2};
const Architecture kLlama{.name = "llama",
                          .model_types = {"llama", "mistral", "qwen2", "qwen3"},
                          .prefix = "model.",
                          .embedding = "embed_tokens.weight",
                          .unembedding = "lm_head.weight",
                          .centred = false,
                          .read = read_llama,
                          .write = write_llama,
                          .build = build_llama};
const Architecture kNeox{.name = "neox",
                         .model_types = {"gpt_neox"},
                         .prefix = "gpt_neox.",
                         .embedding = "embed_in.weight",
                         .unembedding = "embed_out.weight",
                         .centred = true,
                         .read = read_neox,
                         .write = write_neox,
                         .build = build_neox};
const Architecture kGemma{.name = "gemma",
                          .model_types = {"gemma2", "gemma3_text"},
                          .prefix = "model.",
                          .embedding = "embed_tokens.weight",
                          .unembedding = "lm_head.weight",
                          .centred = false,
                          .read = read_gemma,
                          .write = write_gemma,
                          .build = build_gemma};

}  // namespace

const std::vector<const Architecture*>& architectures() {
  static const std::vector<const Architecture*> all = {&kGpt2, &kLlama, &kNeox, &kGemma};
  return all;
}

const Architecture& architecture(const Config& config) {
  for (const Architecture* a : architectures()) {
    if (std::find(a->model_types.begin(), a->model_types.end(), config.model_type) !=
        a->model_types.end())
      return *a;
  }
  throw ConfigError(fmt::format("there is no model type '{}'", config.model_type));
}

Graph build_model(const Config& config, const BatchSize& size, DType dtype) {
  return architecture(config).build(config, size, dtype);
}

std::vector<std::pair<std::string, Shape>> parameter_shapes(const Config& config) {
  std::vector<std::pair<std::string, Shape>> shapes;
  const Graph graph = build_model(config, {1, 1, 1});
  std::vector<const Node*> nodes;
  for (const Node& n : graph.nodes()) nodes.push_back(&n);
  std::sort(nodes.begin(), nodes.end(), [](const Node* a, const Node* b) { return a->id < b->id; });
  for (const Node* n : nodes) {
    const auto* leaf = std::get_if<LeafName>(&n->attributes);
    if (leaf != nullptr && n->op == &kParameter) shapes.emplace_back(leaf->name, n->type.shape);
  }
  return shapes;
}

Updates cache_updates(const Config& config) {
  Updates updates;
  for (int layer = 0; layer < config.layers; ++layer) {
    for (const char* what : {"k", "v"}) {
      const std::string cache = cache_name(what, layer);
      updates[cache] = cache + ".next";
    }
  }
  return updates;
}

}  // namespace vitrine::nn
