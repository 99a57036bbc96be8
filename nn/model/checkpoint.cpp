#include "nn/model/checkpoint.h"

#include <fmt/format.h>

#include <map>
#include <set>
#include <variant>

#include "tensor/error.h"
#include "tensor/files/file.h"
#include "tensor/files/json_reader.h"
#include "tensor/files/safetensors.h"
#include "tensor/torch/torch_file.h"

namespace vitrine::nn {
namespace {

namespace fs = std::filesystem;

// A tensor of the folder and the file it is in.
struct Found {
  Tensor tensor;
  std::string file;
};
using Tensors = std::map<std::string, Found, std::less<>>;

std::string without_prefix(const std::string& name) {
  constexpr std::string_view prefix = "transformer.";
  return name.starts_with(prefix) ? name.substr(prefix.size()) : name;
}

// A head beside the language model's (a value head, a classifier), which its logits do not depend on.
bool is_another_head(std::string_view name) {
  if (name.starts_with("transformer.")) return false;
  for (const std::string_view part : {"h.", "wte.", "wpe.", "ln_f.", "lm_head."}) {
    if (name.starts_with(part)) return false;
  }
  return true;
}

// The tensors of a file, whichever of HuggingFace's formats it is in.
class WeightFile {
 public:
  static WeightFile open(const fs::path& file) {
    const bool torch = file.extension() == ".bin" || file.extension() == ".pt";
    return torch ? WeightFile{TorchFile::open(file)} : WeightFile{SafeTensors::open(file)};
  }
  const std::vector<std::string>& names() const {
    return std::visit(
        [](const auto& f) -> const auto& { return f.names(); }, file_);
  }
  const std::string& file() const {
    return std::visit(
        [](const auto& f) -> const auto& { return f.file(); }, file_);
  }
  Tensor at(const std::string& name) const {  // PyTorch's may have any strides
    return std::visit([&](const auto& f) { return f.at(name); }, file_).contiguous();
  }

 private:
  using File = std::variant<SafeTensors, TorchFile>;
  explicit WeightFile(File file) : file_(std::move(file)) {}
  File file_;
};

// `others` gets the names of what is passed over.
void add_tensors(const fs::path& file, Tensors& into, std::set<std::string>& others) {
  const WeightFile tensors = WeightFile::open(file);
  for (const std::string& name : tensors.names()) {
    const std::string own = without_prefix(name);
    if (name.starts_with("_orig_mod.")) {
      throw CheckpointError(
          fmt::format("{}: its names begin with '_orig_mod.' ('{}'), as torch.compile leaves them; "
                      "save the model that was compiled "
                      "(in Python: model._orig_mod.save_pretrained(folder))",
                      tensors.file(), name));
    }
    if (is_another_head(name)) {
      others.insert(name);
      continue;
    }
    const auto [at, fresh] = into.emplace(own, Found{tensors.at(name), tensors.file()});
    if (!fresh) {
      throw CheckpointError(
          fmt::format("{}: tensor '{}' is also in {}; each tensor may be there once",
                      tensors.file(), name, at->second.file));
    }
  }
}

// The shards of an index: the distinct files of its weight_map. Each tensor must be in the shard it
// is said to be in.
Tensors read_shards(const fs::path& index, std::set<std::string>& others) {
  const auto json =
      JsonReader::object(read_text(index), index.string(),
                         {.root = "with a \"weight_map\" of tensor names to file names"});
  std::map<std::string, std::vector<std::string>> names_by_file;
  const JsonReader map = json.at("weight_map").expect_object("it gives each tensor's file");
  for (const JsonReader& file : map.fields()) {
    const std::string name(file.name()), text = file.text();
    if (text.empty() || fs::path(text).has_parent_path() || text == "..")
      file.reject("the name of a file", "shards must lie in the same folder");
    names_by_file[text].push_back(name);
  }
  Tensors tensors;
  for (const auto& [file, names] : names_by_file) {
    add_tensors(index.parent_path() / file, tensors, others);
    for (const std::string& name : names) {
      if (others.contains(name)) continue;
      const auto it = tensors.find(without_prefix(name));
      if (it == tensors.end() || fs::path(it->second.file).filename() != file) {
        throw CheckpointError(fmt::format("{}: tensor '{}' is not in {}, where {} says it is",
                                          index.parent_path().string(), name, file,
                                          index.filename().string()));
      }
    }
  }
  return tensors;
}

Tensors read_folder(const fs::path& folder, std::set<std::string>& others) {
  if (fs::exists(folder / "adapter_config.json")) {
    throw FileError(
        fmt::format("{}: adapter_config.json says that an adapter changes these weights, which is "
                    "not supported; merge it into them (in "
                    "Python: model.merge_and_unload().save_pretrained(another_folder))",
                    folder.string()));
  }
  for (const std::string name : {"model.safetensors", "pytorch_model.bin"}) {
    if (fs::exists(folder / name)) {
      Tensors tensors;
      add_tensors(folder / name, tensors, others);
      return tensors;
    }
    if (fs::exists(folder / (name + ".index.json")))
      return read_shards(folder / (name + ".index.json"), others);
  }
  throw FileError(fmt::format(
      "{}: there is no model.safetensors, no pytorch_model.bin and no index of parts of "
      "them (model.safetensors.index.json); expected a HuggingFace GPT-2 folder",
      folder.string()));
}

std::string name_that_ends_with(const std::string& name, const std::set<std::string>& names) {
  for (const std::string& other : names) {
    if (other.ends_with("." + name)) return other;
  }
  return "";
}

// Causal masks that old checkpoints carry along.
bool ignored(std::string_view name) {
  return name.ends_with(".attn.bias") || name.ends_with(".attn.masked_bias");
}

std::string and_more(std::size_t count) {
  if (count <= 1) return "";
  return fmt::format(", and {} more {} like it", count - 1, count == 2 ? "is" : "are");
}

}  // namespace

std::vector<std::pair<std::string, Shape>> parameter_shapes(const Config& c) {
  const std::int64_t d = c.d_model, m = c.d_mlp;
  std::vector<std::pair<std::string, Shape>> shapes = {{"wte.weight", {c.vocabulary, d}},
                                                       {"wpe.weight", {c.context, d}}};
  for (int layer = 0; layer < c.layers; ++layer) {
    const std::string h = fmt::format("h.{}.", layer);
    const std::pair<const char*, Shape> block[] = {{"ln_1.weight", {d}},
                                                   {"ln_1.bias", {d}},
                                                   {"attn.c_attn.weight", {d, 3 * d}},
                                                   {"attn.c_attn.bias", {3 * d}},
                                                   {"attn.c_proj.weight", {d, d}},
                                                   {"attn.c_proj.bias", {d}},
                                                   {"ln_2.weight", {d}},
                                                   {"ln_2.bias", {d}},
                                                   {"mlp.c_fc.weight", {d, m}},
                                                   {"mlp.c_fc.bias", {m}},
                                                   {"mlp.c_proj.weight", {m, d}},
                                                   {"mlp.c_proj.bias", {d}}};
    for (const auto& [name, shape] : block) shapes.emplace_back(h + name, shape);
  }
  shapes.insert(shapes.end(), {{"ln_f.weight", {d}}, {"ln_f.bias", {d}}});
  if (!c.tied) shapes.emplace_back("lm_head.weight", Shape{c.vocabulary, d});
  return shapes;
}

Parameters load_checkpoint(const fs::path& folder, const Config& config, DType dtype) {
  std::set<std::string> others;
  Tensors tensors = read_folder(folder, others);
  // Before anything is made for each layer that config.json claims.
  if (static_cast<std::size_t>(config.layers) > tensors.size() + others.size()) {
    throw CheckpointError(
        fmt::format("{}: config.json asks for {} layers, but there are only {} tensors",
                    folder.string(), config.layers, tensors.size() + others.size()));
  }
  const auto shapes = parameter_shapes(config);
  // Tied weights may be saved under either name.
  if (const auto head = tensors.find("lm_head.weight");
      config.tied && head != tensors.end() && !tensors.contains("wte.weight")) {
    tensors.emplace("wte.weight", head->second);
    tensors.erase("lm_head.weight");
  }

  std::vector<std::string> missing, misshapen;
  for (const auto& [name, shape] : shapes) {
    const auto it = tensors.find(name);
    if (it == tensors.end()) {
      missing.push_back(name);
    } else if (!(it->second.tensor.shape() == shape) || !is_float(it->second.tensor.dtype())) {
      misshapen.push_back(fmt::format("'{}' is {}{}, expected floats of shape {}", name,
                                      name_of(it->second.tensor.dtype()),
                                      to_string(it->second.tensor.shape()), to_string(shape)));
    }
  }
  if (!missing.empty()) {
    const std::string wrapped = name_that_ends_with(missing[0], others);
    throw CheckpointError(fmt::format(
        "{}: tensor '{}' is missing{}; {}", folder.string(), missing[0], and_more(missing.size()),
        wrapped.empty()
            ? fmt::format("config.json asks for {} layers of width {}", config.layers,
                          config.d_model)
            : fmt::format("there is a '{}': save the model itself, not what it is wrapped in",
                          wrapped)));
  }
  if (!misshapen.empty()) {
    throw CheckpointError(
        fmt::format("{}: tensor {}{}; the weights do not belong to this config.json",
                    folder.string(), misshapen[0], and_more(misshapen.size())));
  }

  if (const auto head = tensors.find("lm_head.weight"); config.tied && head != tensors.end()) {
    const Tensor& wte = tensors.at("wte.weight").tensor;
    const Tensor& w = head->second.tensor;
    if (!(w.shape() == wte.shape()) || max_abs_difference(w, wte) != 0) {
      throw CheckpointError(
          fmt::format("{}: lm_head.weight differs from wte.weight, but config.json ties them; set "
                      "\"tie_word_embeddings\": false if the model has an unembedding of its own",
                      folder.string()));
    }
    tensors.erase(head);
  }

  Parameters parameters;
  for (const auto& [name, shape] : shapes) {
    const auto it = tensors.find(name);
    parameters[name] = it->second.tensor.to(dtype);
    tensors.erase(it);
  }
  for (const auto& [name, tensor] : parameters) {
    if (all_finite(tensor)) continue;
    throw NumericError(fmt::format("{}: the parameter '{}' holds {}", folder.string(), name,
                                   has_nan(tensor) ? "NaN" : "an infinity"));
  }
  std::vector<std::string> superfluous;
  for (const auto& [name, found] : tensors) {
    if (!ignored(name)) superfluous.push_back(name);
  }
  if (!superfluous.empty()) {
    throw CheckpointError(fmt::format(
        "{}: tensor '{}' has no place in this model{}; it would change the result and is not "
        "supported, or config.json is for another model",
        folder.string(), superfluous[0], and_more(superfluous.size())));
  }
  return parameters;
}

void save_checkpoint(const fs::path& folder, const Config& config, const Parameters& parameters,
                     DType stored) {
  NamedTensors tensors;
  for (const auto& [name, shape] : parameter_shapes(config))
    tensors.emplace_back(name.starts_with("lm_head.") ? name : "transformer." + name,
                         parameters.at(name).contiguous().to(stored));
  save_safetensors(folder / "model.safetensors", tensors, {{"format", "pt"}});
  write_text(folder / "config.json", config_json(config));
}

}  // namespace vitrine::nn
