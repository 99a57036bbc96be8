// SAEs of other libraries, from safetensors files.
//
// The names of the tensors tell the library:
//   sparsify             encoder.weight [d_sae, d_in], encoder.bias, W_dec [d_sae, d_in], b_dec
//   dictionary_learning
//     AutoEncoder            encoder.weight, encoder.bias, decoder.weight [d_in, d_sae], bias
//     AutoEncoderNew         encoder.weight, encoder.bias, decoder.weight, decoder.bias; nothing is
//                            taken from the input
//     AutoEncoderTopK        encoder.weight, encoder.bias, decoder.weight, b_dec, k, threshold
//     BatchTopKSAE           the same: a jumprelu with one threshold for all
//     MatryoshkaBatchTopKSAE W_enc, b_enc, W_dec, b_dec, k, threshold, group_sizes: the same
//     JumpReluAutoEncoder    W_enc, b_enc, W_dec, b_dec, threshold [d_sae]; b_dec is not taken from
//                            the input
//     GatedAutoEncoder       encoder.weight, decoder.weight, decoder_bias, gate_bias, mag_bias,
//                            r_mag
//   openai               encoder.weight, decoder.weight, pre_bias, latent_bias
// What they do not say is read from what stands beside the file: sparsify's cfg.json (k, whether it
// is a transcoder), dictionary_learning's config.json (trainer.dict_class).
#pragma once

#include <filesystem>
#include <string_view>

#include "sae/sae.h"

namespace vitrine::sae {

// A safetensors file of another library, or a folder with one. `k` is for files that do not say it:
// above 0 it makes the SAE topk; messages call it `k_name`. What else is to be known, such as the site, is for the caller to
// fill in. Throws FileError, also for a pickle (.pt, .pth, .bin), which is never read; ConfigError
// for a setting that is not supported and for a k that contradicts the files; CheckpointError for a
// file of none of these kinds, and for tensors that are missing, superfluous or of another shape.
Sae import_weights(const std::filesystem::path& file, std::int64_t k,
                   std::string_view k_name = "k");

}  // namespace vitrine::sae
