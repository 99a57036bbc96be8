// Names for the ids of a model that has no tokenizer: a tokenizer whose texts are names with spaces
// between them.
//
//   const Tokenizer letters = named_ids({"<sort>", "a", "b", "c"}, "letters.txt");
//   letters.encode("<sort> c a");     // {0, 3, 1}
//   letters.to_single_token("b");     // 2
//   letters.decode(std::vector{3, 1});  // "c a"
#pragma once

#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "nn/tokenizer/tokenizer.h"

namespace vitrine::nn {

// `names` by id; nullopt: the id has none, and is shown as a number. `name` stands for the file.
// Throws FileError for a name that is empty, is there twice, or has white space in it.
Tokenizer named_ids(const std::vector<std::optional<std::string>>& names, std::string_view name);

// Of a file: one name a line, that of id n in line n from 0, an empty line for an id without one; or
// FILE.json, {"name": id}. Throws FileError, naming the place, and where there are more ids than
// the `vocabulary` of the model.
Tokenizer read_named_ids(const std::filesystem::path& file, int vocabulary);

}  // namespace vitrine::nn
