// Reads the lines of a corpus as tokens, one after the other.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <span>

#include "nn/model/model.h"

namespace vitrine::nn {

struct CorpusLine {
  std::int64_t number = 0;          // in the file, from 1
  Tokens tokens;                    // at least one
  std::int64_t end = 0, total = 0;  // bytes of the file up to its end; of the whole file
};

// Visits every line that is not blank, from number `from` on. `special`: the text of an added token
// becomes its one id. Throws FileError for a file that cannot be read (and for malformed JSONL),
// TokenError, with the line, for ids outside the model's vocabulary, and for text when the model
// has no tokenizer. What `visit` throws passes through.
void for_each_line(const Model& model, const std::filesystem::path& file, bool special,
                   std::int64_t from, const std::function<void(const CorpusLine&)>& visit);

// The same for the lines with these numbers alone, in increasing order; other lines are not
// encoded. A number may occur more than once, and its line is visited once.
void for_each_line(const Model& model, const std::filesystem::path& file, bool special,
                   std::span<const std::int64_t> numbers,
                   const std::function<void(const CorpusLine&)>& visit);

}  // namespace vitrine::nn
