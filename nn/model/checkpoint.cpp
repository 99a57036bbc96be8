#include "nn/model/checkpoint.h"

#include <fmt/format.h>

#include <map>
#include <set>
#include <variant>

#include "nn/families/architecture.h"
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

// How a family's files name its tensors.
class Names {
 public:
  explicit Names(const Config& config) : architecture_(architecture(config)) {
    Config one_layer = config;
    one_layer.layers = 1;  // names begin alike in all
    one_layer.windows.clear();
    for (const auto& [name, shape] : parameter_shapes(one_layer))
      begins_.insert(name.substr(0, name.find('.') + 1));
    const std::string unembedding(
        architecture_.unembedding);  // which a tied model does not ask for
    begins_.insert(unembedding.substr(0, unembedding.find('.') + 1));
  }

  std::string without_prefix(const std::string& name) const {
    return name.starts_with(prefix()) ? name.substr(prefix().size()) : name;
  }
  // A head beside the language model's (a value head, a classifier), which its logits do not depend
  // on.
  bool is_another_head(std::string_view name) const {
    return !name.starts_with(prefix()) &&
           !begins_.contains(std::string(name.substr(0, name.find('.') + 1)));
  }

 private:
  std::string_view prefix() const { return architecture_.prefix; }

  const Architecture& architecture_;
  std::set<std::string> begins_;  // "h.", "wte.", ...
};

// The tensors of a file, whichever of HuggingFace's formats it is in.
class WeightFile {
 public:
  static WeightFile open(const fs::path& file) {
    const bool torch = file.extension() != ".safetensors";
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
void add_tensors(const fs::path& file, const Names& family, Tensors& into,
                 std::set<std::string>& others) {
  const WeightFile tensors = WeightFile::open(file);
  for (const std::string& name : tensors.names()) {
    const std::string own = family.without_prefix(name);
    if (name.starts_with("_orig_mod.")) {
      throw CheckpointError(
          fmt::format("{}: its names begin with '_orig_mod.' ('{}'), as torch.compile leaves them; "
                      "save the model that was compiled "
                      "(in Python: model._orig_mod.save_pretrained(folder))",
                      tensors.file(), name));
    }
    if (family.is_another_head(name)) {
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
Tensors read_shards(const fs::path& index, const Names& family, std::set<std::string>& others) {
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
    add_tensors(index.parent_path() / file, family, tensors, others);
    for (const std::string& name : names) {
      if (others.contains(name)) continue;
      const auto it = tensors.find(family.without_prefix(name));
      if (it == tensors.end() || fs::path(it->second.file).filename() != file) {
        throw CheckpointError(fmt::format("{}: tensor '{}' is not in {}, where {} says it is",
                                          index.parent_path().string(), name, file,
                                          index.filename().string()));
      }
    }
  }
  return tensors;
}

Tensors read_folder(const fs::path& folder, const Names& family, std::set<std::string>& others) {
  if (fs::is_regular_file(folder)) {  // one file of weights
    Tensors tensors;
    add_tensors(folder, family, tensors, others);
    return tensors;
  }
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
      add_tensors(folder / name, family, tensors, others);
      return tensors;
    }
    if (fs::exists(folder / (name + ".index.json")))
      return read_shards(folder / (name + ".index.json"), family, others);
  }
  throw FileError(fmt::format(
      "{}: there is no model.safetensors, no pytorch_model.bin and no index of parts of "
      "them (model.safetensors.index.json); expected a HuggingFace folder of a model",
      folder.string()));
}

std::string name_that_ends_with(const std::string& name, const std::set<std::string>& names) {
  for (const std::string& other : names) {
    if (other.ends_with("." + name)) return other;
  }
  return "";
}

// Causal masks and frequencies that old checkpoints carry along.
bool ignored(std::string_view name) {
  return name.ends_with(".attn.bias") || name.ends_with(".attn.masked_bias") ||
         name.ends_with(".attention.bias") || name.ends_with(".attention.masked_bias") ||
         name.ends_with(".rotary_emb.inv_freq");
}

std::string and_more(std::size_t count) {
  if (count <= 1) return "";
  return fmt::format(", and {} more {} like it", count - 1, count == 2 ? "is" : "are");
}

void refuse_missing(const std::vector<std::string>& missing, const Config& config,
                    const WeightSource& from) {
  if (missing.empty()) return;
  const std::string wrapped = name_that_ends_with(missing[0], from.others);
  throw CheckpointError(fmt::format(
      "{}: tensor '{}' is missing{}; {}", from.where, missing[0], and_more(missing.size()),
      wrapped.empty()
          ? fmt::format("{} asks for {} layers of width {}", from.config, config.layers,
                        config.d_model)
          : fmt::format("there is a '{}': save the model itself, not what it is wrapped in",
                        wrapped)));
}

// Tied weights may be saved under either name, or under both.
void settle_tied(TensorsByName& tensors, const Architecture& family, const WeightSource& from) {
  const auto head = tensors.find(family.unembedding);
  if (head == tensors.end()) return;
  const auto embedding = tensors.find(family.embedding);
  if (embedding == tensors.end()) {
    tensors.emplace(std::string(family.embedding), head->second);
  } else if (!(head->second.shape() == embedding->second.shape()) ||
             max_abs_difference(head->second, embedding->second) != 0) {
    throw CheckpointError(
        fmt::format("{}: {} differs from {}, but {} ties them; set "
                    "\"tie_word_embeddings\": false if the model has an unembedding of its own",
                    from.where, family.unembedding, family.embedding, from.config));
  }
  tensors.erase(tensors.find(family.unembedding));
}

}  // namespace

TensorsByName own_names(TensorsByName tensors, const Config& config,
                        std::set<std::string>& others) {
  const Names family(config);
  TensorsByName own;
  for (auto& [name, tensor] : tensors) {
    if (family.is_another_head(name)) {
      others.insert(name);
      continue;
    }
    if (!own.emplace(family.without_prefix(name), std::move(tensor)).second)
      throw CheckpointError(fmt::format(
          "tensor '{}' is there with and without its prefix; each tensor may be there once", name));
  }
  return own;
}

Parameters parameters_of(TensorsByName tensors, const Config& config, DType dtype, Weights weights,
                         const WeightSource& from) {
  // Before anything is made for each layer that the configuration claims.
  if (static_cast<std::size_t>(config.layers) > tensors.size() + from.others.size()) {
    throw CheckpointError(fmt::format("{}: {} asks for {} layers, but there are only {} tensors",
                                      from.where, from.config, config.layers,
                                      tensors.size() + from.others.size()));
  }
  const auto shapes = parameter_shapes(config);
  std::vector<std::string> missing, misshapen;
  const Architecture& family = architecture(config);
  for (const auto& [name, shape] : shapes) {
    auto it = tensors.find(name);
    if (it == tensors.end() && config.tied && name == family.embedding)
      it = tensors.find(family.unembedding);
    if (it == tensors.end()) {
      missing.push_back(name);
    } else if (!(it->second.shape() == shape) || !is_float(it->second.dtype())) {
      misshapen.push_back(fmt::format("'{}' is {}{}, expected floats of shape {}", name,
                                      name_of(it->second.dtype()), to_string(it->second.shape()),
                                      to_string(shape)));
    }
  }
  refuse_missing(missing, config, from);
  if (!misshapen.empty()) {
    throw CheckpointError(fmt::format("{}: tensor {}{}; the weights do not belong to this {}",
                                      from.where, misshapen[0], and_more(misshapen.size()),
                                      from.config));
  }
  if (config.tied) settle_tied(tensors, family, from);

  Parameters parameters;
  for (const auto& [name, shape] : shapes) {
    const auto it = tensors.find(name);
    const bool stays = weights == Weights::stored && dtype == DType::f32 && shape.size() > 1 &&
                       is_stored_float(it->second.dtype());
    parameters[name] = stays ? it->second : it->second.to(dtype);
    tensors.erase(it);
  }
  for (const auto& [name, tensor] : parameters) {
    if (all_finite(tensor)) continue;
    throw NumericError(fmt::format("{}: the parameter '{}' holds {}", from.where, name,
                                   has_nan(tensor) ? "NaN" : "an infinity"));
  }
  std::vector<std::string> superfluous;
  for (const auto& [name, tensor] : tensors) {
    if (!ignored(name)) superfluous.push_back(name);
  }
  if (!superfluous.empty()) {
    throw CheckpointError(fmt::format(
        "{}: tensor '{}' has no place in this model{}; it would change the result and is not "
        "supported, or {} is for another model",
        from.where, superfluous[0], and_more(superfluous.size()), from.config));
  }
  return parameters;
}

Parameters load_checkpoint(const fs::path& folder, const Config& config, DType dtype,
                           Weights weights) {
  std::set<std::string> others;
  const Names family(config);
  TensorsByName tensors;
  for (auto& [name, found] : read_folder(folder, family, others))
    tensors.emplace(name, std::move(found.tensor));
  return parameters_of(std::move(tensors), config, dtype, weights,
                       {folder.string(), "config.json", others});
}

void save_checkpoint(const fs::path& folder, const Config& config, const Parameters& parameters,
                     DType stored) {
  NamedTensors tensors;
  const Architecture& family = architecture(config);
  for (const auto& [name, shape] : parameter_shapes(config))
    tensors.emplace_back(name == family.unembedding ? name : std::string(family.prefix) + name,
                         parameters.at(name).contiguous().to(stored));
  save_safetensors(folder / "model.safetensors", tensors, {{"format", "pt"}});
  write_text(folder / "config.json", config_json(config));
}

}  // namespace vitrine::nn
