#include "nn/model/find_model.h"

#include <dlfcn.h>
#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>
#include <string>
#include <utility>
#include <vector>

#include "tensor/error.h"
#include "tensor/files/file.h"
#include "tensor/files/json_reader.h"

namespace vitrine::nn {
namespace {

namespace fs = std::filesystem;

std::string environment(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

fs::path cache_of_vitrine() {
  if (const auto cache = environment("XDG_CACHE_HOME"); !cache.empty())
    return fs::path(cache) / "vitrine";
  return fs::path(environment("HOME")) / ".cache/vitrine";
}

bool is_model_file(const fs::path& file) {
  const fs::path ending = file.extension();
  return ending == ".gguf" || ending == ".bin" || ending == ".pt" || ending == ".pth";
}

std::string listed(const std::vector<fs::path>& places) {
  std::string text;
  for (const fs::path& p : places) text += fmt::format("\n  {}", p.string());
  return text;
}

fs::path default_model() {
  std::vector<fs::path> tried;
  std::error_code error;
  const fs::path program = fs::read_symlink("/proc/self/exe", error);
  if (!error)
    tried.push_back(program.parent_path().parent_path() / "share/vitrine/model");  // installed
  Dl_info here{};  // in a Python package: beside the module that holds this function
  if (::dladdr(reinterpret_cast<void*>(&default_model), &here) != 0 && here.dli_fname != nullptr)
    tried.push_back(fs::path(here.dli_fname).parent_path() / "model");
  tried.emplace_back(VITRINE_DEFAULT_MODEL);  // in the source tree
  for (const fs::path& p : tried) {
    if (fs::exists(p / "config.json")) return p;
  }
  throw FileError(fmt::format(
      "the model that ships with Vitrine is not there; tried{}\nGive a folder that holds a model.",
      listed(tried)));
}

fs::path hub_cache() {
  if (const auto dir = environment("HF_HUB_CACHE"); !dir.empty()) return dir;
  if (const auto home = environment("HF_HOME"); !home.empty()) return fs::path(home) / "hub";
  if (const auto cache = environment("XDG_CACHE_HOME"); !cache.empty())
    return fs::path(cache) / "huggingface/hub";
  return fs::path(environment("HOME")) / ".cache/huggingface/hub";
}

// The weights of a snapshot that are not there, for a message; "" when all are. A file that is
// still being fetched is a link to nothing.
std::string missing_weights(const fs::path& snapshot) {
  std::error_code error;
  for (const std::string weights : {"model.safetensors", "pytorch_model.bin"}) {
    if (fs::exists(snapshot / weights, error)) return "";
    const fs::path index = snapshot / (weights + ".index.json");
    if (!fs::exists(index, error)) continue;
    try {
      const auto json = JsonReader::object(read_text(index), index.string());
      for (const JsonReader& part : json.at("weight_map").fields()) {
        if (part.is_text() && !fs::exists(snapshot / part.text(), error)) return part.text();
      }
    } catch (const FileError&) {  // whoever reads the weights says what is wrong with it
    }
    return "";
  }
  return "model.safetensors";
}

// A repository of the cache keeps its files under snapshots/REVISION; refs/main names the current
// one. These are its snapshots with a configuration, the current one first.
std::vector<fs::path> snapshots(const fs::path& repository) {
  std::error_code error;
  std::vector<fs::path> found;
  for (const auto& entry : fs::directory_iterator(repository / "snapshots", error)) {
    if (fs::exists(entry.path() / "config.json", error)) found.push_back(entry.path());
  }
  std::sort(found.begin(), found.end());
  if (fs::exists(repository / "refs/main", error)) {
    std::string revision = read_text(repository / "refs/main");
    while (!revision.empty() && revision.back() <= ' ') revision.pop_back();
    std::stable_partition(found.begin(), found.end(),
                          [&](const fs::path& p) { return p.filename() == revision; });
  }
  return found;
}

fs::path published_gpt2() {
  if (const auto dir = environment("VITRINE_GPT2"); !dir.empty()) {
    if (fs::exists(fs::path(dir) / "config.json")) return dir;
    throw FileError(fmt::format(
        "VITRINE_GPT2 is '{}', but there is no config.json in it; it must name HuggingFace's gpt2 "
        "folder (config.json, model.safetensors, vocab.json, merges.txt)",
        dir));
  }
  std::vector<fs::path> tried, found;
  for (const char* name : {"models--gpt2", "models--openai-community--gpt2"}) {
    tried.push_back(hub_cache() / name);
    for (fs::path& p : snapshots(tried.back())) found.push_back(std::move(p));
  }
  for (const fs::path& p : found) {
    if (missing_weights(p).empty()) return p;
  }
  if (!found.empty()) return found.front();  // its tokenizer, say, may be there
  throw FileError(fmt::format(
      "gpt2 is not on this machine: VITRINE_GPT2 is not set, and HuggingFace's cache does not have "
      "it; looked for{}\n"
      "To fetch it (548 MB, once):\n"
      "  pip install huggingface_hub\n"
      "  hf download openai-community/gpt2 config.json model.safetensors vocab.json merges.txt\n"
      "or copy these four files into a folder and set VITRINE_GPT2 to it.",
      listed(tried)));
}

fs::path smollm2() {
  const fs::path file = cache_of_vitrine() / "SmolLM2-135M-Instruct.Q4_1.gguf";
  if (fs::exists(file)) return file;
  throw FileError(
      fmt::format("smollm2 is not on this machine; looked for\n  {}\nTo fetch it (98 MB, once):\n"
                  "  bash apps/get_smollm2.sh",
                  file.string()));
}

// OWNER/NAME in HuggingFace's cache; an empty path where it is not.
fs::path in_hub_cache(std::string_view name) {
  const std::size_t slash = name.find('/');
  if (slash == 0 || slash == std::string_view::npos || slash + 1 == name.size() ||
      name.find('/', slash + 1) != std::string_view::npos)
    return {};
  const std::string folder =
      fmt::format("models--{}--{}", name.substr(0, slash), name.substr(slash + 1));
  const std::vector<fs::path> found = snapshots(hub_cache() / folder);
  for (const fs::path& p : found) {
    if (missing_weights(p).empty()) return p;
  }
  return found.empty() ? fs::path() : found.front();
}

// A folder that holds a model, as the path from which it is loaded: itself, or its only GGUF file.
fs::path model_in(const fs::path& folder) {
  std::error_code error;
  if (fs::exists(folder / "config.json", error)) return folder;
  std::vector<fs::path> files;
  for (const auto& entry : fs::directory_iterator(folder, error)) {
    if (entry.path().extension() == ".gguf") files.push_back(entry.path());
  }
  if (files.size() == 1) return files[0];
  if (files.size() > 1) {
    std::sort(files.begin(), files.end());
    throw FileError(fmt::format("{}: there are {} GGUF files in this folder; give one of them:{}",
                                folder.string(), files.size(), listed(files)));
  }
  throw FileError(fmt::format(
      "{}: there is no config.json in this folder, and no GGUF file; expected a HuggingFace folder "
      "(config.json, model.safetensors, the tokenizer's files)",
      folder.string()));
}

}  // namespace

void require_whole_download(const fs::path& folder) {
  if (folder.parent_path().filename() != "snapshots") return;
  const std::string missing = missing_weights(folder);
  if (missing.empty()) return;
  throw FileError(
      fmt::format("{}: this download is incomplete: {} is missing; fetch it with 'hf download', as "
                  "what is there "
                  "was fetched, or copy it into this folder",
                  folder.string(), missing));
}

fs::path find_model(std::string_view name) {
  if (name.empty()) return default_model();
  const fs::path path(name);
  std::error_code error;
  const bool folder = fs::is_directory(path, error);
  if (folder && (name != "gpt2" || fs::exists(path / "config.json", error))) return model_in(path);
  if (name == "gpt2" || name == "openai-community/gpt2") return published_gpt2();
  if (name == "smollm2" && !fs::exists(path, error)) return smollm2();
  if (fs::exists(path, error)) {
    if (is_model_file(path)) return path;
    throw FileError(fmt::format(
        "{}: not a model; give the folder that holds config.json, or a .gguf file", path.string()));
  }
  if (const auto models = environment("VITRINE_MODELS"); !models.empty()) {
    const fs::path inside = fs::path(models) / path;
    if (fs::is_directory(inside, error)) return model_in(inside);
    if (fs::exists(inside, error) && is_model_file(inside)) return inside;
  }
  if (const fs::path cached = in_hub_cache(name); !cached.empty()) return cached;
  throw FileError(
      fmt::format("{}: there is no such folder or file, and HuggingFace's cache has no model of "
                  "that name; give "
                  "a HuggingFace folder, a .gguf file, gpt2 or smollm2",
                  path.string()));
}

}  // namespace vitrine::nn
