// Loads and saves the weights of a model in a HuggingFace folder.
#pragma once

#include <filesystem>
#include <map>
#include <set>
#include <string>

#include "autograd/compile/plan.h"
#include "nn/families/architecture.h"

namespace vitrine::nn {

// What becomes of matrices that are stored in fewer bits than f32 (f16, bf16, GGUF's blocks).
enum class Weights {
  stored,  // they stay as their file has them, mapped, where dtype is f32
  widened  // they become dtype, as training needs them
};

// `folder` may be one file of weights too. Reads model.safetensors or the shards that
// model.safetensors.index.json lists, else pytorch_model.bin or the shards of
// pytorch_model.bin.index.json; f32, f16 and bf16 become `dtype`, or stay stored. Weights that are
// stored as `dtype` stay mapped from the file, too. Throws FileError when files are missing or
// malformed and CheckpointError when tensors are missing, superfluous or of a wrong shape (naming
// the first and counting the rest), or when the unembedding differs from the embedding although the
// configuration ties them; NumericError, naming the parameter, for NaN and infinities. Tied weights
// may be there under either name; heads beside the language model's are passed over.
Parameters load_checkpoint(const std::filesystem::path& folder, const Config& config,
                           DType dtype = DType::f32, Weights weights = Weights::widened);

// What parameters are made of: tensors by HuggingFace's names without the prefix.
using TensorsByName = std::map<std::string, Tensor, std::less<>>;
struct WeightSource {
  std::string where, config;     // for messages: the folder or file, and what its shapes are from
  std::set<std::string> others;  // tensors that were passed over
};
// Tensors by the names of a checkpoint, as HuggingFace gives them in memory, by the family's own: without its prefix, and
// without other heads, which are named in `others`. Throws CheckpointError for a name that is there with and without it.
TensorsByName own_names(TensorsByName tensors, const Config& config, std::set<std::string>& others);
// The checks of load_checkpoint, for tensors that come from elsewhere.
Parameters parameters_of(TensorsByName tensors, const Config& config, DType dtype, Weights weights,
                         const WeightSource& from);

// Writes config.json and model.safetensors, as load_checkpoint and HuggingFace read them; weights
// are stored as `stored` (f32, f16 or bf16). Throws SaveError; a file that was there stays then.
void save_checkpoint(const std::filesystem::path& folder, const Config& config,
                     const Parameters& parameters, DType stored = DType::f32);

}  // namespace vitrine::nn
