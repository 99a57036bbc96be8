// A tokenizer's files, as HuggingFace's tokenizers and transformers read them.
#pragma once

#include <filesystem>

#include "nn/tokenizer/tokenizer.h"

namespace vitrine::nn {

// Writes FOLDER/tokenizer.json, and vocab.json and merges.txt for programs that read those, each
// all or nothing; the folder is made if it is not there. Tokenizer::load gives the same tokenizer
// back: also one from a GGUF file. When there are added tokens besides <|endoftext|>, vocab.json needs
// added_tokens.json beside it, which is written then. A tokenizer that splits text in another way
// than GPT-2's, or has `ignore_merges` or first(), which only tokenizer.json can state, gets that
// file alone. Other files in the folder are left as they are.
// Throws SaveError when a file cannot be written, and, before any is, when two tokens would be
// spelled alike or a token that is written as it is is not UTF-8 (no tokenizer that was read from files
// or trained is like that).
void save_tokenizer(const Tokenizer& tokenizer, const std::filesystem::path& folder);

}  // namespace vitrine::nn
