// The SAE or cross-layer transcoder that a training step has made so far.
#include "sae/folder.h"
#include "sae/training_step.h"

namespace vitrine::sae {
namespace {

// SAELens's layout: W_enc [d_in, d_sae].
Tensor as_saelens(const std::string& name, const Tensor& t) {
  return name == "W_enc" ? t.transpose(0, 1).contiguous().clone() : t.contiguous().clone();
}

SaeArchitecture architecture_of(Kind kind) {
  switch (kind) {
    case Kind::standard:
      return SaeArchitecture::standard;
    case Kind::topk:
      return SaeArchitecture::topk;
    case Kind::gated:
      return SaeArchitecture::gated;
    case Kind::matching_pursuit:
      return SaeArchitecture::matching_pursuit;
    default:
      return SaeArchitecture::jumprelu;
  }
}

}  // namespace

Sae SaeTrainingStep::finished(double in_scale, double out_scale) const {
  Sae sae;
  SaeConfig& c = sae.config;
  c.architecture = architecture_of(rules_.kind);
  c.d_in = rules_.d_in;
  c.d_sae = rules_.d_sae;
  c.d_out = rules_.out_width();
  c.transcoder = rules_.transcoder;
  c.skip = rules_.skip;
  c.apply_b_dec_to_input = rules_.apply_b_dec_to_input && !rules_.transcoder;
  c.normalise = rules_.normalise == Normalisation::expected_average_only_in ? Normalisation::none
                                                                            : rules_.normalise;
  if (rules_.kind == Kind::topk) {
    c.k = static_cast<std::int64_t>(rules_.k);
    c.rescale_by_decoder_norm = rules_.rescale_by_decoder_norm;
  }
  if (rules_.kind == Kind::matching_pursuit) {
    c.pursuit = {rules_.residual_threshold, static_cast<std::int64_t>(rules_.k),
                 rules_.stop_on_duplicate_support};
  }
  for (const auto& [name, tensor] : weights_) sae.weights[name] = as_saelens(name, tensor);
  if (rules_.kind == Kind::topk && rules_.rescale_by_decoder_norm) {
    sae = fold_decoder_norm(sae);
    sae.config.rescale_by_decoder_norm = true;  // by norms of 1
  }
  if (rules_.whole_batch()) {
    // The threshold is on the features that competed: h_j |W_dec[j]| with rescaling. With norms
    // folded these are the pre-activations.
    if (rules_.rescale_by_decoder_norm) {
      c.architecture = SaeArchitecture::standard;  // no threshold to fold yet
      sae = fold_decoder_norm(sae);
      sae.config.architecture = SaeArchitecture::jumprelu;
    }
    sae.weights["threshold"] = Tensor::full({rules_.d_sae}, DType::f32, thresholds_[0]);
  }
  sae.sparsity = sparsity();
  if (in_scale == 1 && out_scale == 1) return sae;
  // This keeps h, so thresholds on h stay. Where norms were folded they are again: thresholds go
  // with h.
  const Sae out = fold_scale(sae, in_scale, out_scale);
  return rules_.whole_batch() && rules_.rescale_by_decoder_norm ? fold_decoder_norm(out) : out;
}

namespace {

// A copy of t, times `factor`.
Tensor scaled(const Tensor& t, double factor) {
  Tensor out = t.contiguous().clone();
  if (factor == 1) return out;
  for (std::int64_t i = 0; i < out.numel(); ++i)
    out.data<float>()[i] = static_cast<float>(out.data<float>()[i] * factor);
  return out;
}

TranscoderActivation activation_of(Kind kind) {
  if (kind == Kind::standard) return TranscoderActivation::relu;
  return kind == Kind::topk ? TranscoderActivation::topk : TranscoderActivation::jumprelu;
}

}  // namespace

TranscoderSet SaeTrainingStep::finished_layers(const std::vector<double>& in_scales,
                                               const std::vector<double>& out_scales) const {
  TranscoderSet set{.activation = activation_of(rules_.kind), .cross_layer = true};
  if (rules_.kind == Kind::topk) set.k = static_cast<std::int64_t>(rules_.k);
  const std::int64_t d = rules_.out_width();
  for (std::int64_t l = 0; l < rules_.layers; ++l) {
    const auto weight = [&](const char* name) { return weights_.at(weight_name(rules_, l, name)); };
    const auto at = static_cast<std::size_t>(l);
    TranscoderLayer t;
    t.w_enc = scaled(weight("W_enc"), in_scales[at]);
    t.b_enc = scaled(weight("b_enc"), 1);
    t.b_dec = scaled(weight("b_dec"), 1 / out_scales[at]);
    if (rules_.kind == Kind::jumprelu) t.threshold = scaled(weight("threshold"), 1);
    if (rules_.whole_batch())
      t.threshold = Tensor::full({rules_.d_sae}, DType::f32, thresholds_[at]);
    for (std::int64_t to = l; to < rules_.layers; ++to)
      t.w_dec.push_back(scaled(weight("W_dec").slice(1, (to - l) * d, (to - l + 1) * d),
                               1 / out_scales[static_cast<std::size_t>(to)]));
    set.layers.push_back(std::move(t));
  }
  return set;
}

}  // namespace vitrine::sae
