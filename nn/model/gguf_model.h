// Models in GGUF files: configuration and weights. Llama, Qwen2 and Qwen3 are read; other
// architectures are refused by name.
#pragma once

#include "autograd/compile/plan.h"
#include "nn/families/config.h"
#include "nn/model/checkpoint.h"
#include "tensor/files/gguf.h"

namespace vitrine::nn {

// Throws FileError naming the key for metadata that is missing or wrong, ConfigError for what would
// change the numbers and is not supported.
Config gguf_config(const Gguf& file);

// Weights under HuggingFace's names, without the prefix, stored or widened to `dtype`; rows of
// queries and keys, which llama.cpp turns in neighbouring pairs, come back in HuggingFace's order.
// Throws what load_checkpoint throws.
Parameters gguf_parameters(const Gguf& file, const Config& config, DType dtype = DType::f32,
                           Weights weights = Weights::widened);

}  // namespace vitrine::nn
