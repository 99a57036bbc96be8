// Finds models: the default one, a folder, or "gpt2" in the local HuggingFace cache.
#pragma once

#include <filesystem>
#include <string_view>

namespace vitrine::nn {

// "" is the model that ships with the project; "gpt2" the folder in the environment variable
// VITRINE_GPT2, or else in HuggingFace's local cache ($HF_HUB_CACHE, $HF_HOME/hub,
// ~/.cache/huggingface/hub), a whole download rather than one that was broken off; anything else a
// folder. Throws FileError when there is none: it says what was tried and how to get one.
std::filesystem::path find_model(std::string_view name);

// Throws FileError, saying what is missing, when a folder of HuggingFace's cache does not have the
// weights: the download was broken off, or was of other files alone.
void require_whole_download(const std::filesystem::path& folder);

}  // namespace vitrine::nn
