#include "sae/folder.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "sae/field_reader.h"
#include "tensor/error.h"
#include "tensor/files/file.h"
#include "tensor/files/safetensors.h"
#include "tensor/nearest.h"

namespace vitrine::sae {
namespace {

namespace fs = std::filesystem;
using Json = nn::Json;

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

void set_metadata(Config& c, const Json& metadata, const std::string& file) {
  if (!metadata.is_object())
    throw ConfigError(fmt::format("{}: 'metadata' must be an object", file));
  const FieldReader r(metadata, file + ": metadata");
  c.model_name = r.text("model_name");
  c.hook_name = r.text("hook_name");
  c.hook_name_out = r.text("hook_name_out");
  if (const Json* head = r.find("hook_head_index")) {
    if (!head->is_number_integer() || *head < 0 || *head > 1'000'000)
      r.reject("hook_head_index", "it must be the number of a head, from 0");
    c.head = head->get<std::int64_t>();
  }
  if (r.find("hook_head_index_out") != nullptr)
    r.reject("hook_head_index_out", "what a transcoder gives to one head alone is not supported");
  if (r.find("prepend_bos") != nullptr) c.prepend_bos = r.boolean("prepend_bos", false);
  if (r.find("context_size") != nullptr) c.context_size = r.size("context_size");
  // SAELens has no name for a transcoder of this kind; what it computes is that of its topk.
  if (r.boolean("transcoder", false)) {
    if (c.architecture != Architecture::topk || c.apply_b_dec_to_input)
      r.reject("transcoder", "it belongs to a topk that takes no b_dec from its input");
    c.transcoder = true;
  }
  c.metadata = json_line(metadata);
}

void set_architecture(Config& c, const FieldReader& r, const std::string& name) {
  const std::vector<std::string> known = {"standard",
                                          "topk",
                                          "jumprelu",
                                          "gated",
                                          "transcoder",
                                          "skip_transcoder",
                                          "jumprelu_transcoder",
                                          "jumprelu_skip_transcoder"};
  if (name == "batchtopk" || name == "matryoshka_batchtopk") {
    r.reject("architecture",
             "this is a checkpoint of a training; SAELens's save_inference_model makes a jumprelu "
             "of it, which is supported");
  }
  if (name == "temporal" || name == "matching_pursuit" || name == "abstopk")
    r.reject("architecture",
             fmt::format("it is not supported; there are {}", fmt::join(known, ", ")));
  if (std::find(known.begin(), known.end(), name) == known.end()) {
    throw ConfigError(fmt::format("{}: there is no architecture '{}'{}; there are {}", r.file(),
                                  name, did_you_mean(nearest(name, known, 1)),
                                  fmt::join(known, ", ")));
  }
  c.transcoder = name.ends_with("transcoder");
  c.skip = name.ends_with("skip_transcoder");
  if (name.starts_with("jumprelu")) c.architecture = Architecture::jumprelu;
  if (name == "topk") c.architecture = Architecture::topk;
  if (name == "gated") c.architecture = Architecture::gated;
}

// Settings that would change what is computed, whatever the architecture.
void reject_unsupported(const FieldReader& r) {
  const Json* normalise = r.find("normalize_activations");  // in old files true or false
  if (normalise != nullptr && *normalise == "covariance_whitening") {
    r.reject("normalize_activations",
             "whitening is not supported: fold the whitening into the weights, or use none, "
             "expected_average_only_in, layer_norm or constant_norm_rescale");
  }
}

// What it gives, and whether b_dec, which is of what it gives, is taken from its input.
void set_output(Config& c, const FieldReader& r) {
  c.d_out = c.transcoder ? r.size("d_out") : c.d_in;
  if (!c.transcoder && r.find("d_out") != nullptr && r.size("d_out") != c.d_in)
    r.reject("d_out", fmt::format("an SAE gives back its {} inputs", c.d_in));
  c.apply_b_dec_to_input = !c.transcoder && r.boolean("apply_b_dec_to_input", true);
  if (c.transcoder && r.boolean("apply_b_dec_to_input", false))
    r.reject("apply_b_dec_to_input", "b_dec of a transcoder is of its output; false is supported");
}

Config parse_new(const FieldReader& r) {
  Config c;
  set_architecture(c, r, r.text("architecture"));
  r.expect_only({"architecture", "d_in", "d_sae", "d_out", "dtype", "device",
                 "apply_b_dec_to_input", "normalize_activations", "reshape_activations", "k",
                 "rescale_acts_by_decoder_norm", "metadata",
                 // How it was trained, in the checkpoints of SAELens's trainer; what it computes
                 // does not depend on these.
                 "jumprelu_ste_to_input", "jumprelu_sparsity_loss_mode", "target_l0",
                 "decoder_init_norm", "l1_coefficient", "lp_norm", "l1_warm_up_steps",
                 "jumprelu_init_threshold", "jumprelu_bandwidth", "l0_coefficient",
                 "l0_warm_up_steps", "pre_act_loss_coefficient", "jumprelu_tanh_scale",
                 "use_sparse_activations", "aux_loss_coefficient", "topk_threshold_lr"});
  c.d_in = r.size("d_in");
  c.d_sae = r.size("d_sae");
  set_output(c, r);
  c.normalise = r.one_of("normalize_activations", kNormalisations, "none");
  const std::string shape = r.text("reshape_activations", "none");
  if (shape != "none" && shape != "hook_z")
    r.reject("reshape_activations", "supported are none and hook_z");
  c.join_heads = shape == "hook_z";
  if (c.architecture == Architecture::topk) {
    c.k = r.size("k");
    c.rescale_by_decoder_norm = r.boolean("rescale_acts_by_decoder_norm", false);
  } else {
    for (const char* field : {"k", "rescale_acts_by_decoder_norm"}) {
      const Json* v = r.find(field);
      if (v != nullptr && *v != false)
        r.reject(field,
                 fmt::format("it belongs to topk, and this is a {} SAE", name_of(c.architecture)));
    }
  }
  set_metadata(c, r.find("metadata") == nullptr ? Json::object() : r.json().at("metadata"),
               r.file());
  return c;
}

Config parse_old(const FieldReader& r) {
  Config c;
  std::string architecture = r.text("architecture", "standard");
  const std::string activation = r.text("activation_fn_str", r.text("activation_fn", "relu"));
  const Json* arguments = r.find("activation_fn_kwargs");
  if (activation == "topk") {
    architecture = "topk";
    if (arguments == nullptr || !arguments->is_object() || !arguments->contains("k"))
      r.reject("activation_fn_kwargs", "topk needs a k in it");
    c.k = FieldReader(*arguments, r.file() + ": activation_fn_kwargs").size("k");
  } else if (activation != "relu") {
    r.reject(r.find("activation_fn_str") != nullptr ? "activation_fn_str" : "activation_fn",
             "supported are relu and topk");
  }
  set_architecture(c, r, architecture);
  if (r.boolean("finetuning_scaling_factor", false))
    r.reject("finetuning_scaling_factor", "a scaling factor of its own is not supported; fold it");
  c.d_in = r.size("d_in");
  c.d_sae = r.size("d_sae");
  set_output(c, r);
  const Json* normalise = r.find("normalize_activations");
  if (normalise != nullptr && normalise->is_boolean()) {
    c.normalise =
        normalise->get<bool>() ? Normalisation::expected_average_only_in : Normalisation::none;
  } else {
    c.normalise = r.one_of("normalize_activations", kNormalisations, "none");
  }
  Json metadata = Json::object();
  for (const char* key :
       {"model_name", "hook_name", "hook_name_out", "prepend_bos", "context_size", "dataset_path",
        "hook_head_index", "hook_head_index_out", "model_from_pretrained_kwargs"}) {
    if (const Json* v = r.find(key)) metadata[key] = *v;
  }
  if (const Json* v = r.find("hook_point_head_index"))
    metadata["hook_head_index"] = *v;  // its older name
  if (r.find("hook_name") == nullptr && r.find("hook_point") != nullptr)
    metadata["hook_name"] = r.text("hook_point");
  if (!metadata.contains("prepend_bos")) metadata["prepend_bos"] = true;
  set_metadata(c, metadata, r.file());
  const std::string shape =
      r.text("reshape_activations", c.hook_name.ends_with("hook_z") ? "hook_z" : "none");
  if (shape != "none" && shape != "hook_z")
    r.reject("reshape_activations", "supported are none and hook_z");
  c.join_heads = shape == "hook_z";
  return c;
}

bool is_of_sparsify(const Json& json) {
  return json.is_object() && !json.contains("d_sae") &&
         (json.contains("expansion_factor") || json.contains("num_latents"));
}

std::string architecture_text(const Config& c) {
  if (!c.transcoder || c.architecture == Architecture::topk)
    return std::string(name_of(c.architecture));
  const std::string_view plain = c.skip ? "skip_transcoder" : "transcoder";
  return c.architecture == Architecture::jumprelu ? fmt::format("jumprelu_{}", plain)
                                                  : std::string(plain);
}

std::string to_json(const Config& c) {
  Json metadata = nn::parse_json(c.metadata, "metadata");
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
  nlohmann::ordered_json json = {{"architecture", architecture_text(c)},
                                 {"d_in", c.d_in},
                                 {"d_sae", c.d_sae},
                                 {"dtype", "float32"},
                                 {"device", "cpu"},
                                 {"apply_b_dec_to_input", c.apply_b_dec_to_input},
                                 {"normalize_activations", name_of(c.normalise)},
                                 {"reshape_activations", c.join_heads ? "hook_z" : "none"}};
  if (c.architecture == Architecture::topk) {
    json["k"] = c.k;
    json["rescale_acts_by_decoder_norm"] = c.rescale_by_decoder_norm;
  }
  if (c.transcoder && c.architecture == Architecture::topk) metadata["transcoder"] = true;
  else if (c.transcoder) json["d_out"] = c.d_out;
  json["metadata"] = nlohmann::ordered_json(metadata);
  return json_indented(json);
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
    return !is_of_sparsify(nn::parse_json(read_text(folder / kConfig), kConfig));
  } catch (const Error&) {
    return true;  // load says what is wrong with it
  }
}

Config load_config(const fs::path& folder) {
  const fs::path file = folder / kConfig;
  if (!fs::exists(file)) {
    throw FileError(fmt::format("{}: there is no {} in it; a SAELens folder has {} and {}",
                                folder.string(), kConfig, kConfig, kWeights));
  }
  const Json json = nn::parse_json(read_text(file), file.string());
  nn::expect_object(json, file.string());
  if (is_of_sparsify(json)) {
    throw ConfigError(
        fmt::format("{}: this is a folder of sparsify; 'vitrine sae convert --from {} --out DIR' "
                    "makes one of SAELens of it",
                    file.string(), folder.string()));
  }
  const FieldReader r(json, file.string());
  std::string version = r.text("sae_lens_version");
  if (const Json* metadata = r.find("metadata"); version.empty() && metadata != nullptr)
    version = FieldReader(*metadata, file.string()).text("sae_lens_version");
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
  const Config& c = sae.config;
  if (c.transcoder && (c.architecture == Architecture::gated ||
                       (c.architecture == Architecture::topk && (c.skip || c.d_out != c.d_in)))) {
    throw ConfigError(fmt::format(
        "{}: SAELens's folders have no place for a {} transcoder{}", sae.name,
        name_of(c.architecture),
        c.architecture == Architecture::gated ? "" : " with a skip connection or another width"));
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
  if (sae.config.architecture == Architecture::topk && !sae.config.rescale_by_decoder_norm) {
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
  fold("W_enc", in);
  fold("W_dec", 1 / given);
  fold("b_dec", 1 / given);
  fold("W_skip", in / given);
  return out;
}

std::vector<std::string> weight_rewrites(const Sae& sae) {
  const Json metadata = nn::parse_json(sae.config.metadata, "metadata");
  const auto loading = metadata.find("model_from_pretrained_kwargs");
  std::vector<std::string> names;
  if (loading == metadata.end() || !loading->is_object()) return names;
  for (const auto& [name, value] : loading->items())
    if (value == true) names.push_back(name);
  return names;
}

}  // namespace vitrine::sae
