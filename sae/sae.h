// A trained sparse autoencoder (SAE) or transcoder: its encoder and decoder, as functions that emit
// nodes.
//
//   sae::Sae s = sae::load("folder");                      // SAELens's folder: folder.h
//   Graph model = m.build({.tokens = 6});
//   Spliced g = splice(model, site::mlp_out(1), sae::codec(s, "sae"), ErrorTerm::keep);
//   compile(g.graph, fetch(g.acts)).run(feeds, with_parameters(m.parameters(), s, "sae"));
//
// An SAE writes an activation x [d_in] as a sum of few decoder rows (Bricken et al. 2023, "Towards
// Monosemanticity"; Cunningham et al. 2023):
//
//   h = (x - b_dec) W_enc + b_enc,   f = activation(h),   x' = f W_dec + b_dec
//
// A transcoder is the same with another target: it reads what an MLP reads and gives what the MLP
// writes (Dunefsky et al. 2024).
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "autograd/compile/plan.h"
#include "autograd/transform/splice.h"

namespace vitrine::sae {

// The activation f(h):
enum class SaeArchitecture {
  standard,  // relu(h)
  topk,      // relu(h) of the k largest h of each sample (Gao et al. 2024)
  jumprelu,  // h where h > threshold, per feature (Rajamanoharan et al. 2024)
  gated,     // 1[x W_enc + b_gate > 0] relu(x W_enc e^r_mag + b_mag) (the same, earlier in 2024)
  // Found one after the other (Costa et al. 2025, "From Flat to Hierarchical"): r = x - b_dec, then
  // again and again f_j += r . W_dec[j] and r -= (r . W_dec[j]) W_dec[j] for the j that gives most.
  matching_pursuit
};
// The scaling of x before encoding, which decoding undoes. `expected_average_only_in` is folded
// into the weights when a folder is written, so there is nothing left to do.
enum class Normalisation { none, expected_average_only_in, layer_norm, constant_norm_rescale };

std::string_view name_of(SaeArchitecture a);  // as SAELens spells them
std::string_view name_of(Normalisation n);

// When a matching pursuit ends, beside having no feature left that gives more than 0.
struct PursuitConfig {
  double residual_threshold = 0.01;            // once |r| is below; 0: never
  std::optional<std::int64_t> max_iterations;  // steps; none: d_in
  bool stop_on_duplicate_support = true;       // once a feature is taken again, which counts

  friend bool operator==(const PursuitConfig&, const PursuitConfig&) = default;
};

// What an SAE computes, as cfg.json says it.
struct SaeConfig {
  SaeArchitecture architecture = SaeArchitecture::standard;
  std::int64_t d_in = 0, d_sae = 0;
  std::int64_t d_out = 0;                 // of the reconstruction: d_in, but for a transcoder
  bool transcoder = false, skip = false;  // skip: x W_skip^T is added to what is decoded
  bool apply_b_dec_to_input = true;       // never for a transcoder
  Normalisation normalise = Normalisation::none;
  bool join_heads = false;               // the site is [.., head, e]: hook_z; see what_is_read
  std::optional<std::int64_t> head;      // of a site [.., head, d_in], this one alone
  std::int64_t k = 0;                    // topk
  bool rescale_by_decoder_norm = false;  // topk: features are ranked, and given, as h_j |W_dec[j]|
  PursuitConfig pursuit;                 // matching_pursuit
  // Where it was trained, as far as known.
  std::string model_name, hook_name, hook_name_out;
  std::optional<bool> prepend_bos;
  std::int64_t context_size = 0;
  std::string metadata = "{}";  // all of the folder's metadata, JSON

  friend bool operator==(const SaeConfig&, const SaeConfig&) = default;
};

// The weights that a configuration has, with SAELens's names and shapes: W_enc [d_in, d_sae], b_enc
// [d_sae] (or b_gate, b_mag, r_mag), threshold [d_sae], W_dec [d_sae, d_out], b_dec [d_out], W_skip
// [d_out, d_in]. Of matching pursuit W_dec and b_dec, for it reads with what it writes.
std::vector<std::pair<std::string, Shape>> weight_shapes(const SaeConfig& config);

// An SAE: its configuration and its weights (weight_shapes says which).
struct Sae {
  SaeConfig config;
  Parameters weights;  // f32, by SAELens's names
  std::string name;    // the folder it came from
  // log10 of the fraction of samples in which each feature was active, [d_sae], if known.
  std::optional<Tensor> sparsity;
};

// Whether features have numbers of their own before the activation, h. Of matching pursuit, each
// depends on those found before it, and there are none.
inline bool has_pre_activations(const SaeConfig& config) {
  return config.architecture != SaeArchitecture::matching_pursuit;
}
// The rule of the pursuit in a graph.
PursuitRule pursuit_rule(const PursuitConfig& config, std::int64_t d_in);

// The site that it reads. Throws ConfigError when its configuration does not say it.
const std::string& trained_site(const Sae& sae);

// Throws CheckpointError for a weight that is missing, superfluous or of another shape (naming the
// first and counting the rest), and NumericError for one that is not finite.
void check_weights(const SaeConfig& config, const Parameters& weights, const std::string& where);

// Selects the part of a site's value that an SAE reads: [.., d_in]. Of [.., head, e] that is all
// heads, joined, when they are d_in together, or the one head of an SAE of one. Throws ShapeError
// for a value that it does not fit; `name` is the SAE's.
Value what_is_read(const SaeConfig& config, const std::string& name, const Value& site);
// The site's value with y [.., width] in place of what is read; of an SAE of one head, the other
// heads stay.
Value written_back(const SaeConfig& config, const Value& site, const Value& y);
// A norm has no gradient at 0; 0 is taken for it, as PyTorch does, and 0 / 0 is 0.
Value safe_sqrt(const Value& squares);
// Throws ConfigError for an SAE that would be applied to each head of this site by itself: it is of
// one head, and does not say which.
void check_site(const Sae& sae, const Graph& graph, const std::string& site);

// The functions of an SAE over a graph. Its weights are parameters NAME.W_enc, ...; nothing is
// computed here. x is a site's value, of which `what_is_read` is read; h and f are [.., d_sae].
class Nodes {
 public:
  Nodes(SaeConfig config, std::string name) : config_(std::move(config)), name_(std::move(name)) {}

  // h. Of a gated SAE, that of the magnitudes; of matching pursuit, which has no h, what is pursued:
  // x - b_dec, [.., d_in]. Remembers how x was normalised.
  Value pre(const Value& x);
  Value features(const Value& pre) const;
  // x'. Call pre first. A skip transcoder adds its part, of the x that pre was given.
  Value decode(const Value& features) const;

 private:
  Value weight(Builder& b, const char* weight) const;

  SaeConfig config_;
  std::string name_;
  Value site_, x_, mean_, scale_;  // of the last call of pre: x before it was normalised
};

// For splice. Throws ConfigError for a transcoder, which does not reconstruct the site it reads.
Codec codec(const Sae& sae, const std::string& name);
// `parameters` with those of the SAE, NAME.W_enc, ..., which are views of its weights.
Parameters with_parameters(Parameters parameters, const Sae& sae, const std::string& name);

// Runs an SAE on activations that are there already.
class Encoder {
 public:
  explicit Encoder(const Sae& sae, ThreadPool* pool = nullptr);
  struct Encoded {
    Tensor features;        // f32 [n, d_sae]
    Tensor reconstruction;  // f32 [n, d_out]
  };
  // x [n, d_in] of any float type, or [.., d_in], whose leading axes are joined; or [.., head, e],
  // when heads are d_in together. Throws ShapeError for another width, saying whose it is, and
  // NumericError for NaN, naming the first row.
  // In what is said of a row, the first one has the number `first`.
  Encoded encode(const Tensor& x, std::int64_t first = 0) const;
  // x as a view [n, d_in]; throws ShapeError as encode does.
  Tensor rows_of(const Tensor& x) const;

 private:
  Plan plan(std::int64_t rows) const;
  const Sae& sae_;
  ThreadPool* pool_;
  Parameters parameters_;
  mutable std::map<std::int64_t, Plan> plans_;
};

}  // namespace vitrine::sae
