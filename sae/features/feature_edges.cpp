#include "sae/features/feature_edges.h"

#include <fmt/format.h>

#include "autograd/ops/ops.h"
#include "tensor/error.h"

namespace vitrine::sae {
namespace {

void check(const Sae& sae, const std::vector<std::int64_t>& features) {
  const SaeConfig& c = sae.config;
  const char* why = nullptr;
  if (c.transcoder) why = "is a transcoder: it does not reconstruct the site that it reads";
  else if (c.normalise == Normalisation::layer_norm ||
           c.normalise == Normalisation::constant_norm_rescale)
    why = "scales what it gives by each token's norm, so that features do not add up";
  else if (c.head || c.join_heads) why = "reads heads, not what is added to the residual stream";
  if (why != nullptr) {
    throw ConfigError(fmt::format(
        "{} {}; features are nodes of a circuit for an SAE of hook_mlp_out without normalisation "
        "or with a constant one",
        sae.name, why));
  }
  for (const std::int64_t j : features) {
    if (j >= 0 && j < c.d_sae) continue;
    throw ConfigError(fmt::format("{}: there is no feature {}: it has {} (0 to {})", sae.name, j,
                                  c.d_sae, c.d_sae - 1));
  }
}

Value index_of(Builder& b, const std::vector<std::int64_t>& features) {
  Tensor t = Tensor::empty({std::ssize(features)}, DType::i32);
  for (std::size_t i = 0; i < features.size(); ++i)
    t.data<std::int32_t>()[i] = static_cast<std::int32_t>(features[i]);
  return b.constant(t);
}

}  // namespace

EdgeSenders feature_senders(const Sae& sae, const std::string& name, const std::string& node,
                            const std::vector<std::int64_t>& features) {
  check(sae, features);
  EdgeSenders senders;
  for (const std::int64_t j : features) senders.names.push_back(fmt::format("{}.f{}", node, j));
  senders.names.push_back(node + ".error");
  const std::string site = trained_site(sae);
  const Shape decoder{sae.config.d_sae, sae.config.d_out};
  const bool rescaled =
      sae.config.architecture == SaeArchitecture::topk && sae.config.rescale_by_decoder_norm;
  senders.emit = [=](Builder& b) {
    const Value whole = b.at(Site{site});  // [rows, d]
    const std::int64_t rows = whole.dim(0), d = whole.dim(1);
    if (features.empty()) return reshape(whole, {rows, 1, d});
    const Value acts = b.at(Site{site + ".hook_sae_acts_post"}), index = index_of(b, features);
    Value w = gather_rows(b.parameter(name + ".W_dec", {DType::f32, decoder}), index);  // [n, d]
    if (!(w.dtype() == acts.dtype())) w = cast(w, acts.dtype());
    if (rescaled) w = w / safe_sqrt(sum(square(w), {1}, true));
    const Value f = transpose(gather_rows(transpose(acts), index));  // [rows, n]
    const Value adds = reshape(f, {rows, f.dim(1), 1}) * w;          // [rows, n, d]
    const Value rest = whole - sum(adds, {1});
    return concat({adds, reshape(rest, {rows, 1, d})}, 1);
  };
  return senders;
}

}  // namespace vitrine::sae
