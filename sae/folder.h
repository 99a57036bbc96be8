// SAEs in SAELens's folders, read and written. Those of other libraries: other_libraries.h.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "sae/sae.h"
#include "tensor/error.h"

namespace vitrine::sae {

// A folder of another library, for import_weights (other_libraries.h).
class OtherLibraryError : public ConfigError {
 public:
  using ConfigError::ConfigError;
};

// A folder with cfg.json and sae_weights.safetensors (and sparsity.safetensors, if there), as
// SAELens 6 writes it. A cfg.json without a version of at least 6 is read as the older format.
// Weights of any float type become f32. Throws FileError for a file that is missing or malformed,
// ConfigError for an architecture or setting that is not supported (named, with what is), and among
// these OtherLibraryError for a folder of sparsify,
// CheckpointError for weights that do not fit, NumericError for those that are not finite.
Sae load(const std::filesystem::path& folder);
// Whether there is a cfg.json of SAELens in it, well formed or not.
bool is_saelens_folder(const std::filesystem::path& folder);
// The configuration alone.
SaeConfig load_config(const std::filesystem::path& folder);

// The weight processing of the model when the SAE was trained, by TransformerLens's names (fold_ln,
// center_writing_weights, ...), as far as the metadata of its folder say.
std::vector<std::string> weight_rewrites(const Sae& sae);

// SAELens's SAE.load_from_disk reads what this writes; weights are stored as `stored` (f32, f16 or
// bf16) and computed with in f32. Throws SaveError; files that were there stay then.
void save(const Sae& sae, const std::filesystem::path& folder, DType stored = DType::f32);

// Moves the decoder's norms into the encoder, so that every decoder row has norm 1 and features
// give their true size: W_enc[:, j] n_j, b_enc n_j, threshold n_j, W_dec[j] / n_j. Of rows with
// norm 0 nothing changes. Gated SAEs: W_enc and both biases. Throws ConfigError for a topk SAE that
// does not rank its features by these norms: others would be chosen.
Sae fold_decoder_norm(const Sae& sae);

// SAEs of activations that were scaled by s while training, for unscaled ones: W_enc s, W_dec / s,
// b_dec / s. Of a transcoder what it gives has a scale of its own.
Sae fold_scale(const Sae& sae, double in, double out);
inline Sae fold_scale(const Sae& sae, double scale) { return fold_scale(sae, scale, scale); }

}  // namespace vitrine::sae
