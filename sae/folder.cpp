#include "sae/folder.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>

#include "tensor/error.h"
#include "tensor/files/file.h"
#include "tensor/files/json_reader.h"
#include "tensor/files/safetensors.h"
#include "tensor/nearest.h"

namespace vitrine::sae {
namespace {

namespace fs = std::filesystem;

constexpr const char* kConfig = "cfg.json";
constexpr const char* kWeights = "sae_weights.safetensors";
constexpr const char* kSparsity = "sparsity.safetensors";
constexpr const char* kVersion = "6.54.12";  // of the format that is written

// ---- cfg.json -----------------------------------------------------------------------------------
constexpr Normalisation kNormalisations[] = {
    Normalisation::none, Normalisation::expected_average_only_in, Normalisation::layer_norm,
    Normalisation::constant_norm_rescale};

// "6.54.12" is at least 6; "" is not.
bool is_new(const std::string& version) {
  const auto digits = version.substr(0, version.find('.'));
  return !digits.empty() && digits.size() < 6 &&
         std::all_of(digits.begin(), digits.end(), [](char c) { return c >= '0' && c <= '9'; }) &&
         std::stoi(digits) >= 6;
}

JsonRules rules() {
  return {.wrong = JsonFault::config,
          .unknown_advice = "remove it if what the SAE computes does not depend on it"};
}
constexpr std::int64_t kWidest = 1'000'000'000;

void set_metadata(SaeConfig& c, const JsonReader& r) {
  r.expect_object();
  c.model_name = r.at("model_name").text_or("");
  c.hook_name = r.at("hook_name").text_or("");
  c.hook_name_out = r.at("hook_name_out").text_or("");
  if (const JsonReader head = r.at("hook_head_index"); head.given()) {
    const auto number = head.value().whole();
    if (!number || *number < 0 || *number > 1'000'000) head.reject("the number of a head, from 0");
    c.head = *number;
  }
  if (const JsonReader head = r.at("hook_head_index_out"); head.given())
    head.reject("null", "what a transcoder gives to one head alone is not supported");
  if (r.has("prepend_bos")) c.prepend_bos = r.at("prepend_bos").flag();
  if (r.has("context_size")) c.context_size = r.at("context_size").whole(1, kWidest);
  // SAELens has no name for a transcoder of this kind; what it computes is that of its topk.
  if (const JsonReader transcoder = r.at("transcoder"); transcoder.flag_or(false)) {
    if (c.architecture != SaeArchitecture::topk || c.apply_b_dec_to_input)
      transcoder.reject("false", "it belongs to a topk that takes no b_dec from its input");
    c.transcoder = true;
  }
  c.metadata = r.value().sorted().line();
}

constexpr std::string_view kArchitectures[] = {"standard",
                                               "topk",
                                               "jumprelu",
                                               "gated",
                                               "matching_pursuit",
                                               "transcoder",
                                               "skip_transcoder",
                                               "jumprelu_transcoder",
                                               "jumprelu_skip_transcoder"};

void set_architecture(SaeConfig& c, const JsonReader& field, const std::string& name) {
  if (name == "batchtopk" || name == "matryoshka_batchtopk") {
    field.reject("an architecture of inference",
                 "this is a checkpoint of a training; SAELens's save_inference_model makes a "
                 "jumprelu of it, which is supported");
  }
  if (name == "temporal" || name == "abstopk")
    field.reject(alternatives(kArchitectures), "it is not supported");
  if (std::ranges::find(kArchitectures, name) == std::end(kArchitectures))
    field.one_of(kArchitectures);  // refuses it
  c.transcoder = name.ends_with("transcoder");
  c.skip = name.ends_with("skip_transcoder");
  if (name.starts_with("jumprelu")) c.architecture = SaeArchitecture::jumprelu;
  if (name == "topk") c.architecture = SaeArchitecture::topk;
  if (name == "gated") c.architecture = SaeArchitecture::gated;
  if (name == "matching_pursuit") c.architecture = SaeArchitecture::matching_pursuit;
}

// Settings that would change what is computed, whatever the architecture.
void reject_unsupported(const JsonReader& r) {
  const JsonReader normalise = r.at("normalize_activations");  // in old files true or false
  if (normalise.is_text("covariance_whitening")) {
    normalise.reject("none, expected_average_only_in, layer_norm or constant_norm_rescale",
                     "whitening is not supported: fold the whitening into the weights");
  }
}

Normalisation normalisation(const JsonReader& field) {
  return field.given() ? field.named(kNormalisations) : Normalisation::none;
}

bool joins_heads(const JsonReader& field, bool otherwise) {
  constexpr std::string_view kShapes[] = {"none", "hook_z"};
  return field.given() ? field.one_of(kShapes) == 1 : otherwise;
}

// What it gives, and whether b_dec, which is of what it gives, is taken from its input.
void set_output(SaeConfig& c, const JsonReader& r) {
  const JsonReader out = r.at("d_out"), apply = r.at("apply_b_dec_to_input");
  c.d_out = c.transcoder ? out.whole(1, kWidest) : c.d_in;
  if (!c.transcoder && out.given() && out.whole(1, kWidest) != c.d_in)
    out.reject(fmt::format("{}", c.d_in), fmt::format("an SAE gives back its {} inputs", c.d_in));
  c.apply_b_dec_to_input = !c.transcoder && apply.flag_or(true);
  if (c.transcoder && apply.flag_or(false))
    apply.reject("false", "b_dec of a transcoder is of its output");
}

void set_pursuit(SaeConfig& c, const JsonReader& r) {
  const JsonReader threshold = r.at("residual_threshold"), most = r.at("max_iterations"),
                   repeat = r.at("stop_on_duplicate_support");
  if (c.architecture != SaeArchitecture::matching_pursuit) {
    for (const JsonReader& field : {threshold, most, repeat}) {
      if (field.given())
        field.reject("no such field", fmt::format("it belongs to matching_pursuit, and this is a "
                                                  "{} SAE",
                                                  name_of(c.architecture)));
    }
    return;
  }
  if (threshold.given()) c.pursuit.residual_threshold = threshold.number(0);
  if (most.given()) c.pursuit.max_iterations = most.whole(1, kWidest);
  c.pursuit.stop_on_duplicate_support = repeat.flag_or(true);
}

SaeConfig parse_new(const JsonReader& r) {
  SaeConfig c;
  set_architecture(c, r.at("architecture"), r.at("architecture").text_or(""));
  r.only({"architecture", "d_in", "d_sae", "d_out", "dtype", "device", "apply_b_dec_to_input",
          "normalize_activations", "reshape_activations", "k", "rescale_acts_by_decoder_norm",
          "residual_threshold", "max_iterations", "stop_on_duplicate_support", "metadata",
          // How it was trained, in the checkpoints of SAELens's trainer; what it computes
          // does not depend on these.
          "jumprelu_ste_to_input", "jumprelu_sparsity_loss_mode", "target_l0", "decoder_init_norm",
          "l1_coefficient", "lp_norm", "l1_warm_up_steps", "jumprelu_init_threshold",
          "jumprelu_bandwidth", "l0_coefficient", "l0_warm_up_steps", "pre_act_loss_coefficient",
          "jumprelu_tanh_scale", "use_sparse_activations", "aux_loss_coefficient",
          "topk_threshold_lr"});
  c.d_in = r.at("d_in").whole(1, kWidest);
  c.d_sae = r.at("d_sae").whole(1, kWidest);
  set_output(c, r);
  c.normalise = normalisation(r.at("normalize_activations"));
  c.join_heads = joins_heads(r.at("reshape_activations"), false);
  if (c.architecture == SaeArchitecture::topk) {
    c.k = r.at("k").whole(1, kWidest);
    c.rescale_by_decoder_norm = r.at("rescale_acts_by_decoder_norm").flag_or(false);
  } else {
    for (const char* name : {"k", "rescale_acts_by_decoder_norm"}) {
      const JsonReader field = r.at(name);
      if (field.given() && !field.is_flag(false)) {
        field.reject("no such field", fmt::format("it belongs to topk, and this is a {} SAE",
                                                  name_of(c.architecture)));
      }
    }
  }
  set_pursuit(c, r);
  const JsonReader metadata = r.at("metadata");
  set_metadata(c, metadata.given() ? metadata : JsonReader(JsonValue::object(), r.file(), rules()));
  return c;
}

SaeConfig parse_old(const JsonReader& r) {
  SaeConfig c;
  std::string architecture = r.at("architecture").text_or("standard");
  const JsonReader activation =
      r.has("activation_fn_str") ? r.at("activation_fn_str") : r.at("activation_fn");
  const std::string function = activation.text_or("relu");
  if (function == "topk") {
    architecture = "topk";
    const JsonReader arguments = r.at("activation_fn_kwargs");
    if (!arguments.is_object() || arguments.at("k").absent())
      arguments.reject("an object with a k", "topk needs a k in it");
    c.k = arguments.at("k").whole(1, kWidest);
  } else if (function != "relu") {
    activation.reject("relu or topk", "others are not supported");
  }
  set_architecture(c, r.at("architecture"), architecture);
  if (const JsonReader factor = r.at("finetuning_scaling_factor"); factor.flag_or(false))
    factor.reject("false", "a scaling factor of its own is not supported; fold it");
  c.d_in = r.at("d_in").whole(1, kWidest);
  c.d_sae = r.at("d_sae").whole(1, kWidest);
  set_output(c, r);
  const JsonReader normalise = r.at("normalize_activations");
  if (normalise.is_flag()) {
    c.normalise = normalise.flag() ? Normalisation::expected_average_only_in : Normalisation::none;
  } else {
    c.normalise = normalisation(normalise);
  }
  JsonValue metadata = JsonValue::object();
  for (const char* key :
       {"model_name", "hook_name", "hook_name_out", "prepend_bos", "context_size", "dataset_path",
        "hook_head_index", "hook_head_index_out", "model_from_pretrained_kwargs"}) {
    if (r.has(key)) metadata[key] = r.at(key).value();
  }
  if (const JsonReader head = r.at("hook_point_head_index"); head.given())
    metadata["hook_head_index"] = head.value();  // its older name
  if (!r.has("hook_name") && r.has("hook_point")) metadata["hook_name"] = r.at("hook_point").text();
  if (metadata.find("prepend_bos") == nullptr) metadata["prepend_bos"] = true;
  set_metadata(c, JsonReader(metadata, r.file(), rules()));
  c.join_heads = joins_heads(r.at("reshape_activations"), c.hook_name.ends_with("hook_z"));
  return c;
}

bool is_of_sparsify(const JsonReader& json) {
  return json.is_object() && json.at("d_sae").absent() &&
         !(json.at("expansion_factor").absent() && json.at("num_latents").absent());
}

std::string architecture_text(const SaeConfig& c) {
  if (!c.transcoder || c.architecture == SaeArchitecture::topk)
    return std::string(name_of(c.architecture));
  const std::string_view plain = c.skip ? "skip_transcoder" : "transcoder";
  return c.architecture == SaeArchitecture::jumprelu ? fmt::format("jumprelu_{}", plain)
                                                     : std::string(plain);
}

std::string to_json(const SaeConfig& c) {
  JsonValue metadata = JsonValue::parse(c.metadata, "metadata");
  metadata["sae_lens_version"] = kVersion;
  const auto set = [&](const char* key, const std::string& value) {
    if (!value.empty()) metadata[key] = value;
  };
  set("model_name", c.model_name);
  set("hook_name", c.hook_name);
  set("hook_name_out", c.hook_name_out);
  if (c.prepend_bos) metadata["prepend_bos"] = *c.prepend_bos;
  if (c.context_size > 0) metadata["context_size"] = c.context_size;
  if (c.head) metadata["hook_head_index"] = *c.head;
  JsonValue json = JsonValue::object({{"architecture", architecture_text(c)},
                                      {"d_in", c.d_in},
                                      {"d_sae", c.d_sae},
                                      {"dtype", "float32"},
                                      {"device", "cpu"},
                                      {"apply_b_dec_to_input", c.apply_b_dec_to_input},
                                      {"normalize_activations", name_of(c.normalise)},
                                      {"reshape_activations", c.join_heads ? "hook_z" : "none"}});
  if (c.architecture == SaeArchitecture::topk) {
    json["k"] = c.k;
    json["rescale_acts_by_decoder_norm"] = c.rescale_by_decoder_norm;
  }
  if (c.architecture == SaeArchitecture::matching_pursuit) {
    json["residual_threshold"] = c.pursuit.residual_threshold;
    json["max_iterations"] =
        c.pursuit.max_iterations ? JsonValue(*c.pursuit.max_iterations) : JsonValue();
    json["stop_on_duplicate_support"] = c.pursuit.stop_on_duplicate_support;
  }
  if (c.transcoder && c.architecture == SaeArchitecture::topk) metadata["transcoder"] = true;
  else if (c.transcoder) json["d_out"] = c.d_out;
  json["metadata"] = std::move(metadata);
  return json.sorted().indented();
}

// ---- weights ------------------------------------------------------------------------------------
// element i, j times column[j]; or times row[i]
Tensor scaled(const Tensor& x, const std::vector<double>& by, bool rows) {
  Tensor out = x.to(DType::f32).clone();
  float* data = out.data<float>();
  const std::int64_t width = out.rank() == 2 ? out.dim(1) : 1;
  for (std::int64_t i = 0; i < out.numel(); ++i) {
    const auto at = static_cast<std::size_t>(rows || out.rank() == 1 ? i / width : i % width);
    data[i] = static_cast<float>(data[i] * by[at]);
  }
  return out;
}
Tensor times(const Tensor& x, double factor) {
  Tensor out = x.to(DType::f32).clone();
  float* data = out.data<float>();
  for (std::int64_t i = 0; i < out.numel(); ++i) data[i] = static_cast<float>(data[i] * factor);
  return out;
}

std::vector<double> row_norms(const Tensor& w) {
  std::vector<double> norms;
  const Tensor flat = w.contiguous();
  for (std::int64_t j = 0; j < flat.dim(0); ++j) {
    double sum = 0;
    for (std::int64_t i = 0; i < flat.dim(1); ++i) {
      const double v = flat.data<float>()[j * flat.dim(1) + i];
      sum += v * v;
    }
    norms.push_back(std::sqrt(sum));
  }
  return norms;
}

}  // namespace

bool is_saelens_folder(const fs::path& folder) {
  if (!fs::is_directory(folder) || !fs::exists(folder / kConfig)) return false;
  try {
    return !is_of_sparsify(JsonReader::parse(read_text(folder / kConfig), kConfig));
  } catch (const Error&) {
    return true;  // load says what is wrong with it
  }
}

SaeConfig load_config(const fs::path& folder) {
  const fs::path file = folder / kConfig;
  if (!fs::exists(file)) {
    throw FileError(fmt::format("{}: there is no {} in it; a SAELens folder has {} and {}",
                                folder.string(), kConfig, kConfig, kWeights));
  }
  const auto r = JsonReader::object(read_text(file), file.string(), rules());
  if (is_of_sparsify(r)) {
    throw OtherLibraryError(
        fmt::format("{}: this is a folder of sparsify, not of SAELens; import_weights reads it",
                    file.string()));
  }
  std::string version = r.at("sae_lens_version").text_or("");
  if (const JsonReader metadata = r.at("metadata"); version.empty() && metadata.is_object())
    version = metadata.at("sae_lens_version").text_or("");
  reject_unsupported(r);
  return is_new(version) ? parse_new(r) : parse_old(r);
}

Sae load(const fs::path& folder) {
  Sae sae{.config = load_config(folder), .name = folder.string()};
  const SafeTensors file = SafeTensors::open(folder / kWeights);
  for (const std::string& name : file.names())
    sae.weights[name] = file.at(name).to(DType::f32).contiguous();
  // SAELens wrote one for every SAE for a time, and drops it where it does nothing.
  if (const auto scale = sae.weights.find("scaling_factor"); scale != sae.weights.end()) {
    const std::vector<double> factors = scale->second.to_vector<double>();
    if (!std::all_of(factors.begin(), factors.end(), [](double f) { return f == 1; })) {
      throw CheckpointError(
          fmt::format("{}: 'scaling_factor' is not 1 everywhere, and is not supported; fold it "
                      "into the decoder",
                      file.file()));
    }
    sae.weights.erase(scale);
  }
  check_weights(sae.config, sae.weights, file.file());
  if (fs::exists(folder / kSparsity)) {
    const SafeTensors sparsity = SafeTensors::open(folder / kSparsity);
    const Tensor s = sparsity.at("sparsity").to(DType::f32).contiguous();
    if (!(s.shape() == Shape{sae.config.d_sae})) {
      throw CheckpointError(fmt::format("{}: 'sparsity' is {}, but the SAE has {} features",
                                        sparsity.file(), to_string(s.shape()), sae.config.d_sae));
    }
    sae.sparsity = s;
  }
  return sae;
}

void save(const Sae& sae, const fs::path& folder, DType stored) {
  const SaeConfig& c = sae.config;
  if (c.transcoder &&
      (c.architecture == SaeArchitecture::gated ||
       (c.architecture == SaeArchitecture::topk && (c.skip || c.d_out != c.d_in)))) {
    throw ConfigError(fmt::format("{}: SAELens's folders have no place for a {} transcoder{}",
                                  sae.name, name_of(c.architecture),
                                  c.architecture == SaeArchitecture::gated
                                      ? ""
                                      : " with a skip connection or another width"));
  }
  check_weights(sae.config, sae.weights, sae.name.empty() ? "the SAE" : sae.name);
  std::error_code error;
  fs::create_directories(folder, error);
  if (error)
    throw SaveError(fmt::format("{}: it cannot be made: {}", folder.string(), error.message()));
  NamedTensors tensors;
  for (const auto& [name, shape] : weight_shapes(sae.config))
    tensors.emplace_back(name, sae.weights.at(name).to(stored).contiguous());
  save_safetensors(folder / kWeights, tensors);
  if (sae.sparsity) save_safetensors(folder / kSparsity, {{"sparsity", *sae.sparsity}});
  else fs::remove(folder / kSparsity, error);  // of an SAE that was there before
  write_text(folder / kConfig, to_json(sae.config));
}

Sae fold_decoder_norm(const Sae& sae) {
  if (sae.config.architecture == SaeArchitecture::matching_pursuit) {
    throw ConfigError(
        fmt::format("{}: its decoder is its encoder, so the decoder's norms cannot be moved into "
                    "it: other features would be found",
                    sae.name));
  }
  if (sae.config.architecture == SaeArchitecture::topk && !sae.config.rescale_by_decoder_norm) {
    throw ConfigError(
        fmt::format("{}: its {} largest features are chosen by the codes as they are "
                    "(rescale_acts_by_decoder_norm is false); with the "
                    "decoder's norms folded in, others would be chosen",
                    sae.name, sae.config.k));
  }
  Sae out = sae;
  std::vector<double> norms = row_norms(sae.weights.at("W_dec")), inverse;
  for (double& n : norms) {
    if (n == 0) n = 1;
    inverse.push_back(1 / n);
  }
  out.weights["W_dec"] = scaled(sae.weights.at("W_dec"), inverse, true);
  out.weights["W_enc"] = scaled(sae.weights.at("W_enc"), norms, false);
  for (const char* name : {"b_enc", "b_gate", "b_mag", "threshold"}) {
    if (sae.weights.contains(name)) out.weights[name] = scaled(sae.weights.at(name), norms, true);
  }
  // The rows have norm 1, so ranking by h_j |W_dec[j]| is ranking by h_j.
  out.config.rescale_by_decoder_norm = false;
  return out;
}

Sae fold_scale(const Sae& sae, double in, double given) {
  Sae out = sae;
  const auto fold = [&](const char* name, double factor) {
    if (sae.weights.contains(name)) out.weights[name] = times(sae.weights.at(name), factor);
  };
  if (sae.config.architecture == SaeArchitecture::matching_pursuit) {
    // Tied weights: codes become smaller by the scale, and what is left over does, too.
    out.config.pursuit.residual_threshold /= in;
    fold("b_dec", 1 / given);
    return out;
  }
  fold("W_enc", in);
  fold("W_dec", 1 / given);
  fold("b_dec", 1 / given);
  fold("W_skip", in / given);
  return out;
}

std::vector<std::string> weight_rewrites(const Sae& sae) {
  const JsonValue metadata = JsonValue::parse(sae.config.metadata, "metadata");
  const JsonValue* loading = metadata.find("model_from_pretrained_kwargs");
  std::vector<std::string> names;
  if (loading == nullptr || loading->fields() == nullptr) return names;
  for (const JsonField& field : *loading->fields()) {
    const bool* made = field.value.boolean();
    if (made != nullptr && *made) names.push_back(field.name);
  }
  return names;
}

}  // namespace vitrine::sae
