// Loads and saves GPT-2 weights in a HuggingFace folder.
#pragma once

#include <filesystem>

#include "autograd/compile/plan.h"
#include "nn/model/config.h"

namespace vitrine::nn {

// The names and shapes of every parameter of a model, HuggingFace's without the prefix
// "transformer.".
std::vector<std::pair<std::string, Shape>> parameter_shapes(const Config& config);

// Reads model.safetensors or the shards that model.safetensors.index.json lists, else
// pytorch_model.bin or the shards of pytorch_model.bin.index.json; f32, f16 and bf16
// become `dtype`. Weights that are stored as `dtype` stay mapped from the file. Throws FileError
// when files are missing or malformed and CheckpointError when tensors are missing, superfluous or
// of a wrong shape (naming the first and counting the rest), or when lm_head.weight differs from
// wte.weight although the configuration ties them; NumericError, naming the parameter, for NaN and
// infinities. Tied weights may be there under either name; heads beside the language model's are
// passed over.
Parameters load_checkpoint(const std::filesystem::path& folder, const Config& config,
                           DType dtype = DType::f32);

// Writes config.json and model.safetensors, as load_checkpoint and HuggingFace read them; weights
// are stored as `stored` (f32, f16 or bf16). Throws SaveError; a file that was there stays then.
void save_checkpoint(const std::filesystem::path& folder, const Config& config,
                     const Parameters& parameters, DType stored = DType::f32);

}  // namespace vitrine::nn
