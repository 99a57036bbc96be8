#include "sae/transcoder_set.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <numeric>
#include <string>
#include <utility>

#include "autograd/compile/plan.h"
#include "autograd/ops/ops.h"
#include "sae/folder.h"
#include "tensor/error.h"
#include "tensor/files/file.h"
#include "tensor/files/json_reader.h"
#include "tensor/files/json_value.h"
#include "tensor/files/safetensors.h"

namespace vitrine::sae {

std::string_view name_of(TranscoderActivation activation) {
  switch (activation) {
    case TranscoderActivation::relu:
      return "relu";
    case TranscoderActivation::jumprelu:
      return "jumprelu";
    case TranscoderActivation::topk:
      return "topk";
  }
  return "";
}

namespace {

namespace fs = std::filesystem;

constexpr TranscoderActivation kActivations[] = {
    TranscoderActivation::relu, TranscoderActivation::jumprelu, TranscoderActivation::topk};

// A weight, as f32. Throws CheckpointError for another shape (-1: any length) and NumericError.
Tensor weight(const SafeTensors& file, const std::string& name, const Shape& expected) {
  const Tensor found = file.at(name);
  bool fits = found.rank() == expected.size();
  for (int a = 0; fits && a < expected.size(); ++a)
    fits = expected[a] < 0 || expected[a] == found.dim(a);
  if (!fits)
    throw CheckpointError(fmt::format("{}: '{}' is {}, and {} is expected (-1: any)", file.file(),
                                      name, to_string(found.shape()), to_string(expected)));
  const Tensor made = found.to(DType::f32).contiguous();
  if (!all_finite(made))
    throw NumericError(fmt::format("{}: '{}' holds NaN or infinity", file.file(), name));
  return made;
}

TranscoderLayer read_per_layer(const fs::path& path, std::int64_t d) {
  const SafeTensors file = SafeTensors::open(path);
  TranscoderLayer t;
  t.w_enc = weight(file, "W_enc", {-1, d});
  const std::int64_t features = t.features(), width = t.w_enc.dim(1);
  t.b_enc = weight(file, "b_enc", {features});
  t.w_dec.push_back(weight(file, "W_dec", {features, width}));
  t.b_dec = weight(file, "b_dec", {width});
  for (const char* name : {"activation_function.threshold", "threshold"}) {
    if (file.contains(name)) t.threshold = weight(file, name, {features});
  }
  if (file.contains("W_skip")) t.w_skip = weight(file, "W_skip", {width, width});
  return t;
}

TranscoderLayer read_cross_layer(const fs::path& folder, int layer, int layers, std::int64_t d) {
  const auto name = [&](const char* of) { return fmt::format("{}_{}", of, layer); };
  const SafeTensors encoder = SafeTensors::open(folder / (name("W_enc") + ".safetensors")),
                    decoder = SafeTensors::open(folder / (name("W_dec") + ".safetensors"));
  TranscoderLayer t;
  t.w_enc = weight(encoder, name("W_enc"), {-1, d});
  const std::int64_t features = t.features(), width = t.w_enc.dim(1);
  t.b_enc = weight(encoder, name("b_enc"), {features});
  t.b_dec = weight(encoder, name("b_dec"), {width});
  if (encoder.contains(name("threshold")))
    t.threshold = weight(encoder, name("threshold"), {features});
  const Tensor all = weight(decoder, name("W_dec"), {features, layers - layer, width});
  for (int to = 0; to < layers - layer; ++to) t.w_dec.push_back(all.select(1, to).contiguous());
  return t;
}

int count_files(const fs::path& folder, const char* pattern) {
  int n = 0;
  while (fs::exists(folder / fmt::format(fmt::runtime(pattern), n))) ++n;
  return n;
}

// What cfg.json says, where there is one.
void settle_activation(TranscoderSet& set, const fs::path& folder) {
  const bool thresholds = set.layers[0].threshold.defined();
  set.activation = thresholds ? TranscoderActivation::jumprelu : TranscoderActivation::relu;
  const fs::path file = folder / "cfg.json";
  if (!fs::exists(file)) return;
  const auto json =
      JsonReader::object(read_text(file), file.string(), {.wrong = JsonFault::config});
  if (json.has("activation")) set.activation = json.at("activation").named(kActivations);
  if (set.activation == TranscoderActivation::topk)
    set.k = json.at("k").whole(1, set.layers[0].features());
  if (json.has("model_name")) set.model_name = json.at("model_name").text();
  if (json.has("metadata")) set.metadata = json.at("metadata").expect_object().value().line();
  for (const auto& [key, names] : {std::pair{"inputs", &set.inputs}, {"outputs", &set.outputs}}) {
    if (!json.has(key)) continue;
    for (const JsonReader& name : json.at(key).list(set.layers.size()))
      names->push_back(name.text());
  }
  for (std::size_t l = 0; l < set.inputs.size(); ++l)
    set.layers[l].reads_normalised = set.inputs[l].ends_with("hook_normalized");
}

void check_layers(const TranscoderSet& set) {
  for (std::size_t l = 0; l < set.layers.size(); ++l) {
    const TranscoderLayer& t = set.layers[l];
    if (set.activation == TranscoderActivation::jumprelu && !t.threshold.defined())
      throw CheckpointError(fmt::format(
          "{}: the transcoder of layer {} is a jumprelu without thresholds", set.name, l));
  }
}

}  // namespace

namespace {

// The transcoders in the folders of a folder, by layer; none where there are none.
std::vector<Sae> saelens_transcoders(const fs::path& folder) {
  std::map<std::string, Sae> by_output;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(folder, error)) {
    if (!entry.is_directory() || !is_saelens_folder(entry.path())) continue;
    Sae sae = load(entry.path());
    if (sae.config.transcoder) by_output.insert_or_assign(sae.config.hook_name_out, std::move(sae));
  }
  std::vector<Sae> layers;
  for (int l = 0;; ++l) {
    const auto found = by_output.find(fmt::format("blocks.{}.hook_mlp_out", l));
    if (found == by_output.end()) return layers;
    layers.push_back(std::move(found->second));
  }
}

}  // namespace

bool is_transcoder_folder(const fs::path& folder) {
  if (fs::exists(folder / "layer_0.safetensors") || fs::exists(folder / "W_enc_0.safetensors"))
    return true;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(folder, error)) {
    if (entry.is_directory() && entry.path().filename() == "blocks.0.ln2.hook_normalized")
      return true;
  }
  return false;
}

Sae layer_as_sae(const TranscoderSet& set, std::size_t layer) {
  const TranscoderLayer& t = set.layers.at(layer);
  if (set.inputs.empty() && !t.reads_normalised)
    throw ConfigError(fmt::format(
        "{}: it does not say which site its transcoders read ('inputs' of its cfg.json)",
        set.name));
  Sae sae{.name = fmt::format("{}, layer {}", set.name, layer)};
  SaeConfig& c = sae.config;
  c.architecture = set.activation == TranscoderActivation::topk       ? SaeArchitecture::topk
                   : set.activation == TranscoderActivation::jumprelu ? SaeArchitecture::jumprelu
                                                                      : SaeArchitecture::standard;
  c.d_in = set.width();
  c.d_out = t.b_dec.dim(0);
  c.d_sae = t.features();
  c.k = set.k;
  c.transcoder = true;
  c.skip = t.w_skip.defined();
  c.apply_b_dec_to_input = false;
  c.model_name = set.model_name;
  c.hook_name = set.inputs.at(layer);
  c.hook_name_out = set.outputs.at(layer);
  Tensor rows = t.w_dec[0].contiguous().clone();
  for (std::size_t to = 1; to < t.w_dec.size(); ++to) {
    const Tensor more = t.w_dec[to].contiguous();
    for (std::int64_t i = 0; i < rows.numel(); ++i) rows.data<float>()[i] += more.data<float>()[i];
  }
  sae.weights = {{"W_enc", t.w_enc.transpose(0, 1).contiguous()},
                 {"b_enc", t.b_enc},
                 {"W_dec", rows},
                 {"b_dec", t.b_dec}};
  if (t.threshold.defined()) sae.weights["threshold"] = t.threshold;
  if (c.skip) sae.weights["W_skip"] = t.w_skip;
  return sae;
}

TranscoderSet load_transcoders(const fs::path& folder) {
  TranscoderSet set{.name = folder.string()};
  const int per_layer = count_files(folder, "layer_{}.safetensors"),
            cross = count_files(folder, "W_enc_{}.safetensors");
  if (per_layer == 0 && cross == 0) {
    if (std::vector<Sae> layers = saelens_transcoders(folder); !layers.empty()) {
      set = transcoder_set(std::move(layers));
      set.name = folder.string();
      return set;
    }
    throw FileError(fmt::format(
        "there are no transcoders in '{}': neither layer_0.safetensors nor W_enc_0.safetensors, as "
        "circuit-tracer names them, nor folders of SAELens's transcoders from layer 0 on",
        folder.string()));
  }
  if (per_layer > 0 && cross > 0)
    throw FileError(
        fmt::format("'{}' has transcoders per layer (layer_0.safetensors) and cross-layer ones "
                    "(W_enc_0.safetensors); "
                    "keep one set in a folder",
                    folder.string()));
  set.cross_layer = cross > 0;
  for (int l = 0; l < std::max(per_layer, cross); ++l) {
    const std::int64_t d = l == 0 ? -1 : set.width();
    set.layers.push_back(set.cross_layer
                             ? read_cross_layer(folder, l, cross, d)
                             : read_per_layer(folder / fmt::format("layer_{}.safetensors", l), d));
  }
  settle_activation(set, folder);
  check_layers(set);
  return set;
}

std::vector<std::string> transcoder_files(bool cross_layer, int layers) {
  std::vector<std::string> files = {"cfg.json", "config.yaml"};
  for (int l = 0; l < layers; ++l) {
    if (!cross_layer) files.push_back(fmt::format("layer_{}.safetensors", l));
    for (int i = 0; cross_layer && i < 2; ++i)
      files.push_back(fmt::format("{}_{}.safetensors", i == 0 ? "W_enc" : "W_dec", l));
  }
  return files;
}

namespace {

void save_as(const fs::path& file, NamedTensors tensors, DType stored) {
  for (auto& [name, tensor] : tensors) tensor = tensor.to(stored).contiguous();
  save_safetensors(file, tensors);
}

void save_per_layer(const TranscoderLayer& t, const fs::path& file, DType stored) {
  NamedTensors tensors = {
      {"W_enc", t.w_enc}, {"b_enc", t.b_enc}, {"W_dec", t.w_dec[0]}, {"b_dec", t.b_dec}};
  if (t.threshold.defined()) tensors.emplace_back("activation_function.threshold", t.threshold);
  if (t.w_skip.defined()) tensors.emplace_back("W_skip", t.w_skip);
  save_as(file, std::move(tensors), stored);
}

// The decoders to all outputs, [features, outputs, d].
Tensor joined_decoders(const TranscoderLayer& t) {
  const std::int64_t features = t.features(), outputs = std::ssize(t.w_dec), d = t.w_dec[0].dim(1);
  Tensor all = Tensor::empty({features, outputs, d}, DType::f32);
  for (std::int64_t to = 0; to < outputs; ++to) {
    const Tensor rows = t.w_dec[static_cast<std::size_t>(to)].contiguous();
    for (std::int64_t j = 0; j < features; ++j)
      std::copy_n(rows.data<float>() + j * d, d, all.data<float>() + (j * outputs + to) * d);
  }
  return all;
}

void save_cross_layer(const TranscoderLayer& t, int layer, const fs::path& folder, DType stored) {
  const auto name = [&](const char* of) { return fmt::format("{}_{}", of, layer); };
  NamedTensors tensors = {
      {name("W_enc"), t.w_enc}, {name("b_enc"), t.b_enc}, {name("b_dec"), t.b_dec}};
  if (t.threshold.defined()) tensors.emplace_back(name("threshold"), t.threshold);
  save_as(folder / (name("W_enc") + ".safetensors"), std::move(tensors), stored);
  save_as(folder / (name("W_dec") + ".safetensors"), {{name("W_dec"), joined_decoders(t)}}, stored);
}

// "ln2.hook_normalized" of "blocks.0.ln2.hook_normalized"; of other names all.
std::string within_block(const std::string& site) {
  return site.starts_with("blocks.0.") ? site.substr(9) : site;
}

std::string yaml_of(const TranscoderSet& set) {
  return fmt::format(
      "model_name: {}\nmodel_kind: {}\nfeature_input_hook: {}\nfeature_output_hook: {}\nscan: {}\n",
      JsonValue(set.model_name).line(),
      set.cross_layer ? "cross_layer_transcoder" : "transcoder_set",
      set.inputs.empty() ? "mlp.hook_in" : within_block(set.inputs[0]),
      set.outputs.empty() ? "hook_mlp_out" : within_block(set.outputs[0]),
      JsonValue(fs::path(set.name).filename().string()).line());
}

}  // namespace

void save_transcoders(const TranscoderSet& set, const fs::path& folder, DType stored) {
  std::error_code error;
  fs::create_directories(folder, error);
  if (error)
    throw SaveError(fmt::format("{}: it cannot be used: {}", folder.string(), error.message()));
  JsonValue cfg = JsonValue::object({{"format", "transcoders"},
                                     {"kind", set.cross_layer ? "cross_layer" : "per_layer"},
                                     {"n_layers", std::ssize(set.layers)},
                                     {"d_model", set.width()},
                                     {"d_transcoder", set.layers[0].features()},
                                     {"activation", name_of(set.activation)},
                                     {"model_name", set.model_name},
                                     {"metadata", JsonValue::parse(set.metadata, "metadata")}});
  if (set.activation == TranscoderActivation::topk) cfg["k"] = set.k;
  if (!set.inputs.empty()) {
    cfg["inputs"] = set.inputs;
    cfg["outputs"] = set.outputs;
  }
  for (std::size_t l = 0; l < set.layers.size(); ++l) {
    const int number = static_cast<int>(l);
    if (set.cross_layer) save_cross_layer(set.layers[l], number, folder, stored);
    else
      save_per_layer(set.layers[l], folder / fmt::format("layer_{}.safetensors", number), stored);
  }
  write_text(folder / "cfg.json", cfg.sorted().line() + "\n");
  write_text(folder / "config.yaml", yaml_of(set));
}

TranscoderSet transcoder_set(std::vector<Sae> layers) {
  TranscoderSet set;
  for (std::size_t l = 0; l < layers.size(); ++l) {
    const Sae& sae = layers[l];
    const SaeConfig& c = sae.config;
    if (!c.transcoder || c.normalise == Normalisation::layer_norm ||
        c.normalise == Normalisation::constant_norm_rescale)
      throw ConfigError(
          fmt::format("{}: a transcoder that reads its input as it is, is needed here", sae.name));
    if (c.hook_name != fmt::format("blocks.{}.ln2.hook_normalized", l) ||
        c.hook_name_out != fmt::format("blocks.{}.hook_mlp_out", l))
      throw ConfigError(
          fmt::format("{}: it goes from '{}' to '{}'; the transcoder of layer {} is to go from "
                      "blocks.{}.ln2.hook_normalized to blocks.{}.hook_mlp_out",
                      sae.name, c.hook_name, c.hook_name_out, l, l, l));
    const auto kind = c.architecture == SaeArchitecture::topk       ? TranscoderActivation::topk
                      : c.architecture == SaeArchitecture::jumprelu ? TranscoderActivation::jumprelu
                                                                    : TranscoderActivation::relu;
    if (c.architecture == SaeArchitecture::gated ||
        (l > 0 && (kind != set.activation || c.k != set.k)))
      throw ConfigError(
          fmt::format("{}: its activation is not that of the other transcoders", sae.name));
    set.activation = kind;
    set.k = c.k;
    TranscoderLayer t;
    t.reads_normalised = true;
    set.model_name = c.model_name;
    set.inputs.push_back(c.hook_name);
    set.outputs.push_back(c.hook_name_out);
    t.w_enc = sae.weights.at("W_enc").transpose(0, 1).contiguous();
    t.b_enc = sae.weights.at("b_enc");
    t.w_dec.push_back(sae.weights.at("W_dec"));
    t.b_dec = sae.weights.at("b_dec");
    if (kind == TranscoderActivation::jumprelu) t.threshold = sae.weights.at("threshold");
    if (c.skip) t.w_skip = sae.weights.at("W_skip");
    set.layers.push_back(std::move(t));
  }
  if (set.layers.empty())
    throw ConfigError("a set of transcoders has one for each layer, and here is none");
  return set;
}

Tensor pre_activations(const TranscoderSet& set, std::size_t layer, const Tensor& x,
                       ThreadPool& pool) {
  const TranscoderLayer& t = set.layers.at(layer);
  Builder b;
  const Value in = b.input("x", {DType::f32, x.shape()});
  const Value w = b.parameter("w_enc", {DType::f32, t.w_enc.shape()}),
              bias = b.parameter("b_enc", {DType::f32, t.b_enc.shape()});
  b.output("h", linear(in, transpose(w), bias));
  return compile(std::move(b).finish(), fetch(value("h")))
      .run({{"x", x}}, {{"w_enc", t.w_enc}, {"b_enc", t.b_enc}}, {.pool = &pool})["h"];
}

Tensor activations(const TranscoderSet& set, std::size_t layer, const Tensor& h) {
  const TranscoderLayer& t = set.layers.at(layer);
  const Tensor a = h.clone();
  const std::int64_t rows = a.dim(0), features = a.dim(1);
  std::vector<std::int64_t> order(static_cast<std::size_t>(features));
  for (std::int64_t r = 0; r < rows; ++r) {
    float* row = a.data<float>() + r * features;
    if (set.activation == TranscoderActivation::jumprelu) {
      const float* threshold = t.threshold.data<float>();
      for (std::int64_t j = 0; j < features; ++j) row[j] = row[j] > threshold[j] ? row[j] : 0;
      continue;
    }
    if (set.activation == TranscoderActivation::topk && set.k < features) {
      std::iota(order.begin(), order.end(), std::int64_t{0});
      std::nth_element(order.begin(), order.begin() + set.k, order.end(),
                       [row](std::int64_t i, std::int64_t j) {
                         return row[i] != row[j] ? row[i] > row[j] : i < j;
                       });
      for (auto i = order.begin() + set.k; i != order.end(); ++i) row[*i] = 0;
    }
    for (std::int64_t j = 0; j < features; ++j) row[j] = std::max(row[j], 0.0f);
  }
  return a;
}

}  // namespace vitrine::sae
