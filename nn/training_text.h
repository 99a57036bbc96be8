// The texts of a training run as token ids, split into what is trained on and what is kept for
// validation.
#pragma once

#include <filesystem>
#include <functional>
#include <string>

#include "nn/tokenized_text.h"
#include "nn/tokenizer.h"
#include "nn/training_settings.h"

namespace vitrine::nn {

inline constexpr const char* kValidationName = "validation";
std::string source_name(std::size_t i);  // "source-0"

// Writes FOLDER/source-N (TokenizedText) for each source, and FOLDER/validation, which takes whole
// documents, drawn by the seed; of a document that is more than a twentieth of its file, the last
// part. A file of one document so gives both. `progress` gets the bytes read and false from it
// stops (InterruptedError). Whatever else was in the folder is removed. Throws FileError when a
// text is missing or has no token to train on, TokenError for a token id that the tokenizer does
// not have, and SaveError when the folder cannot be written.
void prepare_text(const TrainingSettings& settings, const Tokenizer& tokenizer,
                  const std::filesystem::path& folder,
                  const std::function<bool(std::int64_t done, std::int64_t total)>& progress = {});

}  // namespace vitrine::nn
