// The tokenized texts of a training run, split into training and validation sets.
#pragma once

#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "nn/text/tokenized_text.h"
#include "nn/tokenizer/tokenizer.h"
#include "nn/training/training_settings.h"

namespace vitrine::nn {

inline constexpr const char* kValidationName = "validation";
std::string source_name(std::size_t i);  // "source-0"

// The files of a folder of texts, none where it is absent. Throws FileError when it holds anything
// else, which is somebody else's then, or is a symbolic link.
std::vector<std::filesystem::path> texts_in(const std::filesystem::path& folder);
// Removes them and the folder; SaveError when it cannot.
void remove_texts(const std::filesystem::path& folder);

// Writes FOLDER/source-N (TokenizedText) for each source, and FOLDER/validation, which takes whole
// documents, drawn by the seed; of a document that is more than a twentieth of its file, the last
// part. A file of one document so gives both. `progress` gets the bytes read and false from it
// stops (InterruptedError). Earlier texts in the folder are replaced. Throws FileError when a
// text is missing or has no token to train on, TokenError for a token id that the tokenizer does
// not have, and SaveError when the folder cannot be written. Without a tokenizer the documents must
// be token ids of the model's vocabulary: FileError for one that is text. Also when the folder
// holds anything else.
void prepare_text(const TrainingSettings& settings, const std::optional<Tokenizer>& tokenizer,
                  const std::filesystem::path& folder,
                  const std::function<bool(std::int64_t done, std::int64_t total)>& progress = {});

}  // namespace vitrine::nn
