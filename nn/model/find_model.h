// Finds models: the default one, a folder, a file, or a name in the local caches.
#pragma once

#include <filesystem>
#include <string_view>

namespace vitrine::nn {

// "" is the model that ships with the project. Otherwise, the first of these that is there:
// - a HuggingFace folder; a file FILE.gguf, or a PyTorch checkpoint FILE.bin beside its config.json
// - "gpt2": the folder in the environment variable VITRINE_GPT2, or else in HuggingFace's cache
// - "smollm2": what apps/get_smollm2.sh fetches into ~/.cache/vitrine
// - a folder or file of that name in the folder that VITRINE_MODELS names
// - OWNER/NAME: a whole download in HuggingFace's local cache ($HF_HUB_CACHE, $HF_HOME/hub,
//   ~/.cache/huggingface/hub)
// Throws FileError when there is none: it says what was tried and how to get one.
std::filesystem::path find_model(std::string_view name);

// Throws FileError, saying what is missing, when a folder of HuggingFace's cache does not have the
// weights: the download was broken off, or was of other files alone.
void require_whole_download(const std::filesystem::path& folder);

}  // namespace vitrine::nn
