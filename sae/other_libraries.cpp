#include "sae/other_libraries.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <optional>
#include <set>

#include "tensor/error.h"
#include "tensor/files/file.h"
#include "tensor/files/json_reader.h"
#include "tensor/files/safetensors.h"

namespace vitrine::sae {
namespace {

namespace fs = std::filesystem;

bool is_pickle(const fs::path& file) {
  const std::string e = file.extension().string();
  return e == ".pt" || e == ".pth" || e == ".bin" || e == ".pkl" || e == ".ckpt";
}

[[noreturn]] void refuse_pickle(const fs::path& file) {
  throw FileError(fmt::format(
      "{}: pickled files can run code when they are read, so they never are; save the tensors as "
      "safetensors first (safetensors.torch.save_file(torch.load(...), 'sae.safetensors'))",
      file.string()));
}

fs::path weights_file(const fs::path& given) {
  if (is_pickle(given)) refuse_pickle(given);
  if (!fs::is_directory(given)) return given;
  for (const char* name : {"sae.safetensors", "ae.safetensors", "sae_weights.safetensors",
                           "model.safetensors", "autoencoder.safetensors"}) {
    if (fs::exists(given / name)) return given / name;
  }
  std::vector<fs::path> found, pickles;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(given, error)) {
    if (entry.path().extension() == ".safetensors") found.push_back(entry.path());
    if (is_pickle(entry.path())) pickles.push_back(entry.path());
  }
  if (found.size() == 1) return found[0];
  if (found.empty() && !pickles.empty()) refuse_pickle(*std::ranges::min_element(pickles));
  std::vector<std::string> names;
  names.reserve(found.size());
  for (const fs::path& f : found) names.push_back(f.filename().string());
  std::ranges::sort(names);
  throw FileError(fmt::format(
      "{}: there is {} in it; {}", given.string(),
      found.empty() ? "no safetensors file of an SAE" : "more than one safetensors file",
      found.empty() ? std::string("name a folder with sae.safetensors, "
                                  "ae.safetensors or model.safetensors, or a file")
                    : fmt::format("name one of {}", fmt::join(names, ", "))));
}

constexpr std::int64_t kWidestThere = 1'000'000'000;

// What stands beside the file, if it does; it must be an object.
std::optional<JsonReader> beside(const fs::path& file, const char* name) {
  const fs::path path = file.parent_path() / name;
  if (!fs::exists(path)) return {};
  return JsonReader::object(
      read_text(path), path.string(),
      {.wrong = JsonFault::config,
       .unknown_advice = "remove it if what the SAE computes does not depend on it"});
}

class Import {
 public:
  Import(const fs::path& given, std::int64_t k, std::string_view k_name)
      : path_(weights_file(given)), file_(SafeTensors::open(path_)), given_k_(k), k_name_(k_name) {
    sae_.name = given.string();
  }

  Sae read() {
    weights();
    for (const std::string& name : file_.names()) {
      if (!used_.contains(name)) superfluous_.push_back(name);
    }
    if (!superfluous_.empty()) {
      throw CheckpointError(fmt::format(
          "{}: it is read as {}, which has no tensor '{}'; what it would change is not known",
          file_.file(), kind_, fmt::join(superfluous_, "', '")));
    }
    SaeConfig& c = sae_.config;
    const Tensor& w = sae_.weights.at("W_enc");
    if (w.rank() != 2)
      throw CheckpointError(fmt::format("{}: the encoder is no matrix", file_.file()));
    c.d_in = c.d_out = w.dim(0);
    c.d_sae = w.dim(1);
    if (one_threshold_)
      sae_.weights["threshold"] = Tensor::full({c.d_sae}, DType::f32, *one_threshold_);
    if (c.architecture == SaeArchitecture::topk && c.k > c.d_sae) {
      throw ConfigError(
          fmt::format("{}: k is {}, but there are {} features", file_.file(), c.k, c.d_sae));
    }
    check_weights(c, sae_.weights, file_.file());
    return std::move(sae_);
  }

 private:
  bool has(const char* name) const { return file_.contains(name); }
  Tensor take(const char* name) {
    used_.insert(name);
    return file_.at(name).to(DType::f32).contiguous();
  }
  Tensor taken_transposed(const char* name) {
    const Tensor t = take(name);
    if (t.rank() != 2) {
      throw CheckpointError(
          fmt::format("{}: '{}' is {}, not a matrix", file_.file(), name, to_string(t.shape())));
    }
    return t.transpose(0, 1).contiguous();
  }
  double take_number(const char* name) {
    const Tensor t = take(name);
    if (t.numel() != 1) {
      throw CheckpointError(
          fmt::format("{}: '{}' is {}, not one number", file_.file(), name, to_string(t.shape())));
    }
    return t.to_vector<double>()[0];
  }

  void weights() {
    const bool linear = has("encoder.weight") && has("decoder.weight");
    if (linear && has("latent_bias")) return openai();
    if (has("encoder.weight") && has("W_dec")) return sparsify();
    if (linear || (has("W_enc") && has("threshold"))) return dictionary_learning();
    if (has("W_enc") && has("W_dec") && has("b_dec")) {
      throw CheckpointError(fmt::format(
          "{}: its tensors are those of SAELens, whose cfg.json says how they are used; there is "
          "none beside it",
          file_.file()));
    }
    throw CheckpointError(fmt::format(
        "{}: its tensors ({}) are those of no library that is known: dictionary_learning "
        "(encoder.weight, encoder.bias, decoder.weight, bias, and its other kinds), OpenAI "
        "(encoder.weight, decoder.weight, pre_bias, latent_bias), sparsify (encoder.weight, "
        "encoder.bias, W_dec, b_dec); a SAELens folder has a cfg.json",
        file_.file(), fmt::join(file_.names(), ", ")));
  }

  static void expect_size(const JsonReader& field, std::int64_t size, std::string_view whose) {
    if (field.whole(1, kWidestThere) != size)
      field.reject(fmt::format("{}", size), fmt::format("{} {}", whose, size));
  }

  // Those of two torch.nn.Linear, whose matrices are [out, in].
  void linear_weights(const char* encoder_bias, const char* decoder_bias) {
    sae_.weights = {{"W_enc", taken_transposed("encoder.weight")},
                    {"W_dec", taken_transposed("decoder.weight")},
                    {"b_enc", take(encoder_bias)},
                    {"b_dec", take(decoder_bias)}};
  }

  // Neither says what the activation is: k, or a threshold for each feature.
  void plain(const char* encoder_bias, const char* decoder_bias) {
    linear_weights(encoder_bias, decoder_bias);
    if (has("threshold") && given_k_ == 0) {
      sae_.config.architecture = SaeArchitecture::jumprelu;
      sae_.weights["threshold"] = take("threshold");
    }
    if (given_k_ > 0) topk(given_k_);
  }
  void topk(std::int64_t k) {
    sae_.config.architecture = SaeArchitecture::topk;
    sae_.config.k = k;
  }

  void openai() {
    kind_ = "an SAE of OpenAI's";
    plain("latent_bias", "pre_bias");
  }

  // ---- sparsify ---------------------------------------------------------------------------------
  void sparsify() {
    kind_ = "an SAE of sparsify";
    sae_.weights = {{"W_enc", taken_transposed("encoder.weight")},
                    {"W_dec", take("W_dec")},
                    {"b_enc", take("encoder.bias")},
                    {"b_dec", take("b_dec")}};
    const auto json = beside(path_, "cfg.json");
    if (json) {
      sparsify_settings(*json);
    } else if (given_k_ > 0) {
      topk(given_k_);
    } else {
      throw ConfigError(fmt::format(
          "{}: an SAE of sparsify keeps its k largest features, and there is no cfg.json beside it "
          "that says k; give it ({})",
          file_.file(), k_name_));
    }
    if (has("W_skip")) {
      throw ConfigError(fmt::format(
          "{}: 'W_skip', a skip connection, is not supported: a SAELens folder has no place for it "
          "beside topk",
          file_.file()));
    }
  }

  void sparsify_settings(const JsonReader& r) {
    r.only({"d_in", "num_latents", "expansion_factor", "k", "activation", "transcode", "signed",
            "skip_connection", "embed_skip", "gram_lookup",
            // How it is trained: the losses, the decoder after each step, where a table came from.
            "multi_topk", "normalize_decoder", "lookup_max_order", "gram_table_hash"});
    if (const JsonReader f = r.at("activation"); f.text_or("topk") != "topk")
      f.reject("topk", "others are not supported");
    if (const JsonReader f = r.at("signed"); f.flag_or(false))
      f.reject("false", "features that may be negative are not supported");
    for (const char* skip : {"skip_connection", "embed_skip", "gram_lookup"}) {
      if (const JsonReader f = r.at(skip); f.flag_or(false))
        f.reject("false", "what is added to the reconstruction is not supported");
    }
    const std::int64_t k = r.at("k").whole(1, kWidestThere);
    if (given_k_ > 0 && given_k_ != k) {
      r.at("k").reject(fmt::format("{}", given_k_),
                       fmt::format("that is not {} {}", k_name_, given_k_));
    }
    topk(k);
    const Tensor& w = sae_.weights.at("W_enc");
    expect_size(r.at("d_in"), w.dim(0), "the encoder reads");
    const JsonReader latents = r.at("num_latents");  // 0: a multiple of d_in
    if (latents.given() && latents.value().number() != 0.0) {
      expect_size(latents, w.dim(1), "the number of features that the encoder gives is");
    } else if (const JsonReader factor = r.at("expansion_factor");
               w.dim(0) * factor.whole(1, kWidestThere) != w.dim(1)) {
      factor.reject(fmt::format("{} / {}", w.dim(1), w.dim(0)),
                    fmt::format("the encoder gives {} features", w.dim(1)));
    }
    if (!r.at("transcode").flag_or(false)) return;
    sae_.config.transcoder = true;
    sae_.config.apply_b_dec_to_input = false;
  }

  // ---- dictionary_learning ----------------------------------------------------------------------
  // What its config.json says: trainer.dict_class, or "".
  std::string dict_class() {
    const auto json = beside(path_, "config.json");
    if (!json) return "";
    const JsonReader r = json->at("trainer");
    if (!r.is_object()) return "";  // a model's
    sae_.config.model_name = r.at("lm_name").text_or("");
    const Tensor w = file_.at(has("W_enc") ? "W_enc" : "encoder.weight");
    const int in = has("W_enc") ? 0 : 1;
    for (const auto& [field, axis] : {std::pair{"activation_dim", in}, {"dict_size", 1 - in}}) {
      if (r.has(field) && w.rank() == 2) expect_size(r.at(field), w.dim(axis), "the encoder's is");
    }
    if (r.has("k")) trainer_k_ = r.at("k").whole(1, kWidestThere);
    return r.at("dict_class").text_or("");
  }

  void dictionary_learning() {
    const std::string named = dict_class();
    const std::string found = class_of_tensors(named);
    if (!named.empty() && named != found) {
      throw ConfigError(fmt::format(
          "{}: trainer.dict_class is '{}', but the tensors of {} ({}) are not those of one; "
          "supported are AutoEncoder, AutoEncoderNew, AutoEncoderTopK, BatchTopKSAE, "
          "MatryoshkaBatchTopKSAE, JumpReluAutoEncoder, GatedAutoEncoder",
          (path_.parent_path() / "config.json").string(), named, file_.file(),
          fmt::join(file_.names(), ", ")));
    }
    kind_ = "dictionary_learning's " + found;
    if (found == "GatedAutoEncoder") return gated();
    if (found == "JumpReluAutoEncoder" || found == "MatryoshkaBatchTopKSAE") return raw(found);
    if (found == "AutoEncoderTopK" || found == "BatchTopKSAE") return top_or_batch(found);
    if (!named.empty()) refuse_k();
    plain("encoder.bias", found == "AutoEncoderNew" ? "decoder.bias" : "bias");
    sae_.config.apply_b_dec_to_input = found == "AutoEncoder";
  }

  std::string class_of_tensors(const std::string& named) const {
    if (has("gate_bias")) return "GatedAutoEncoder";
    if (has("W_enc")) return has("group_sizes") ? "MatryoshkaBatchTopKSAE" : "JumpReluAutoEncoder";
    if (!has("b_dec")) return has("decoder.bias") ? "AutoEncoderNew" : "AutoEncoder";
    if (named == "AutoEncoderTopK" || !has("threshold")) return "AutoEncoderTopK";
    if (named == "BatchTopKSAE") return named;
    if (named.empty() && given_k_ > 0) return "AutoEncoderTopK";
    if (!named.empty()) return "AutoEncoderTopK or BatchTopKSAE";
    throw ConfigError(fmt::format(
        "{}: dictionary_learning's AutoEncoderTopK and BatchTopKSAE have the same tensors; put its "
        "config.json, which says trainer.dict_class, beside the file; or give {} if it is the "
        "first",
        file_.file(), k_name_));
  }

  void refuse_k() const {
    if (given_k_ > 0) {
      throw ConfigError(fmt::format("{} {}: {} is {}, whose features are not chosen by a k",
                                    k_name_, given_k_, file_.file(), kind_));
    }
  }
  // The k that it was trained with, which the given one must not contradict; 0: it is not said.
  std::int64_t trained_k() {
    std::int64_t k = trainer_k_;
    if (has("k")) {
      const double stored = take_number("k");
      if (!(stored >= 1 && stored <= 1e9) ||
          stored != static_cast<double>(static_cast<std::int64_t>(stored)))
        throw CheckpointError(
            fmt::format("{}: 'k' is {}; it must be a positive whole number", file_.file(), stored));
      k = static_cast<std::int64_t>(stored);
      if (trainer_k_ > 0 && trainer_k_ != k)
        throw ConfigError(
            fmt::format("{}: 'k' is {}, but config.json says {}", file_.file(), k, trainer_k_));
    }
    if (given_k_ > 0 && k > 0 && given_k_ != k)
      throw ConfigError(
          fmt::format("{} {}: the k of {} is {}", k_name_, given_k_, file_.file(), k));
    return k > 0 ? k : given_k_;
  }

  void top_or_batch(const std::string& found) {
    const std::int64_t k = trained_k();
    linear_weights("encoder.bias", "b_dec");
    if (found == "BatchTopKSAE") return threshold_for_all();
    if (has("threshold"))
      take("threshold");  // for another way of choosing, which is not the default
    if (k == 0)
      throw ConfigError(fmt::format("{}: it does not say how many features are kept; give {}",
                                    file_.file(), k_name_));
    topk(k);
  }

  void raw(const std::string& found) {
    sae_.weights = {{"W_enc", take("W_enc")},
                    {"W_dec", take("W_dec")},
                    {"b_enc", take("b_enc")},
                    {"b_dec", take("b_dec")}};
    if (found == "MatryoshkaBatchTopKSAE") {
      trained_k();
      take("group_sizes");  // of the losses: all groups are used
      return threshold_for_all();
    }
    refuse_k();
    sae_.config.architecture = SaeArchitecture::jumprelu;
    sae_.config.apply_b_dec_to_input = false;
    sae_.weights["threshold"] = take("threshold");
  }
  void threshold_for_all() {
    sae_.config.architecture = SaeArchitecture::jumprelu;
    one_threshold_ = take_number("threshold");
  }

  void gated() {
    refuse_k();
    sae_.config.architecture = SaeArchitecture::gated;
    sae_.weights = {{"W_enc", taken_transposed("encoder.weight")},
                    {"W_dec", taken_transposed("decoder.weight")},
                    {"b_gate", take("gate_bias")},
                    {"b_mag", take("mag_bias")},
                    {"r_mag", take("r_mag")},
                    {"b_dec", take("decoder_bias")}};
  }

  fs::path path_;
  SafeTensors file_;
  std::int64_t given_k_, trainer_k_ = 0;
  std::string k_name_;
  std::string kind_;
  std::optional<double> one_threshold_;
  std::set<std::string, std::less<>> used_;
  std::vector<std::string> superfluous_;
  Sae sae_;
};

}  // namespace

Sae import_weights(const fs::path& given, std::int64_t k, std::string_view k_name) {
  return Import(given, k, k_name).read();
}

}  // namespace vitrine::sae
