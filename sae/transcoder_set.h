// A transcoder for every MLP of a model: per layer, or cross-layer, whose features write to the outputs of all MLPs from
// their own layer on (Ameisen et al. 2025, "Circuit tracing").
//
//   TranscoderSet set = load_transcoders("folder");      // circuit-tracer's folder
//   ThreadPool pool;
//   Tensor x = Tensor::zeros({5, set.width()}, DType::f32);   // what MLP 2 reads
//   Tensor h = pre_activations(set, 2, x, pool);         // [rows, features]
//   Tensor a = activations(set, 2, h);
//
// All read what the norm before the MLP gives, with its gain and bias (TransformerLens's mlp.hook_in) or without, and give
// hook_mlp_out:
//
//   h = W_enc x + b_enc,  a = f(h),  out_l = sum over layers j <= l of a_j W_dec[j, l] + b_dec_l (+ W_skip_l x)
#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "sae/sae.h"
#include "tensor/tensor.h"
#include "tensor/thread_pool.h"

namespace vitrine::sae {

enum class TranscoderActivation {
  relu,      // max(h, 0)
  jumprelu,  // h where h > threshold, of each feature
  topk       // max(h, 0) of the k largest h of each row
};
std::string_view name_of(TranscoderActivation activation);

struct TranscoderLayer {
  Tensor w_enc, b_enc;  // f32 [features, d], [features]
  Tensor threshold;     // f32 [features], of jumprelu
  // f32 [features, d] each: to this layer, the next one, ...; one alone where it is not cross-layer.
  std::vector<Tensor> w_dec;
  Tensor b_dec;   // f32 [d]
  Tensor w_skip;  // f32 [d, d]: x W_skip^T is added to what is decoded; undefined without
  bool reads_normalised = false;  // what it reads is without the norm's gain and bias
  std::int64_t features() const { return w_enc.dim(0); }
};

struct TranscoderSet {
  std::string name;  // the folder
  TranscoderActivation activation = TranscoderActivation::relu;
  std::int64_t k = 0;  // of topk
  bool cross_layer = false;
  std::vector<TranscoderLayer> layers;
  // What is known of where it comes from: the model, and the site that each layer reads and gives.
  std::string model_name;
  std::vector<std::string> inputs, outputs;
  std::string metadata = "{}";                                      // of its training, JSON
  std::int64_t width() const { return layers.at(0).w_enc.dim(1); }  // d
};

// Reads circuit-tracer's folder: layer_L.safetensors of each layer, or W_enc_L and W_dec_L.safetensors of a cross-layer
// transcoder, from layer 0 on. A cfg.json beside them says the activation and k; else it is jumprelu where there are
// thresholds, and relu where there are none. Throws FileError for files that are missing or malformed, ConfigError for what
// cfg.json says that is not supported, CheckpointError for weights that do not fit each other (naming them), NumericError
// for those that are not finite.
//
// Or a folder of SAELens folders, as `vitrine sae train` makes of several sites: what transcoder_set takes.
TranscoderSet load_transcoders(const std::filesystem::path& folder);

// Whether load_transcoders would find transcoders there.
bool is_transcoder_folder(const std::filesystem::path& folder);
// The transcoder of one layer as an SAE, for what looks at one at a time (feature_contexts.h, Encoder): its decoder row is
// what the feature writes to all later layers together. Needs to know the site that it reads; throws ConfigError.
Sae layer_as_sae(const TranscoderSet& set, std::size_t layer);

// Writes circuit-tracer's folder, with our cfg.json beside what it has (activation, k, sites, metadata). Weights are
// held as f32, f16 or bf16. Every file is replaced all or nothing. Throws SaveError.
void save_transcoders(const TranscoderSet& set, const std::filesystem::path& folder,
                      DType stored = DType::f32);
// The files of such a folder.
std::vector<std::string> transcoder_files(bool cross_layer, int layers);

// A set of transcoders of one layer each: SAELens's from blocks.L.ln2.hook_normalized to blocks.L.hook_mlp_out, one for each
// layer L from 0 on. Throws ConfigError, naming it, for one that is no transcoder, that reads or gives another site, or that
// has another activation than the first.
TranscoderSet transcoder_set(std::vector<Sae> layers);

// h [rows, features] of x [rows, d], f32. Throws ShapeError for another width.
Tensor pre_activations(const TranscoderSet& set, std::size_t layer, const Tensor& x,
                       ThreadPool& pool);
Tensor activations(const TranscoderSet& set, std::size_t layer, const Tensor& h);

}  // namespace vitrine::sae
