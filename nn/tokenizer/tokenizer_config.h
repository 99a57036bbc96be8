// Special and added tokens from the files beside a vocabulary: tokenizer_config.json,
// special_tokens_map.json and added_tokens.json, taken together as HuggingFace's GPT2Tokenizer
// does.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "nn/tokenizer/tokenizer.h"
#include "tensor/files/json_reader.h"

namespace vitrine::nn {

inline constexpr int kNoId = -1;

// A token that these files name.
struct NamedToken {
  AddedToken
      token;  // kNoId where no file gives the id: it is the vocabulary's, or the next free one
  std::string where;     // the file and the place in it
  bool implied = false;  // no file names it: it is GPT2Tokenizer's default, and may be left out
};

struct TokenizerConfig {
  std::vector<NamedToken> tokens;            // none twice, in the order in which they get ids
  std::optional<std::string> first;          // the one of them that is put before every text
  std::optional<JsonReader> prefix_space{};  // add_prefix_space, where it is stated

  // Refuses an add_prefix_space that differs from what the tokenizer does.
  void check_prefix_space(bool puts_space_first) const;
};

// Reads those of the files that `folder` has. `beside_json`: there is a tokenizer.json, which says
// the rest. Throws FileError for what is malformed, ConfigError for what would change the ids and
// is not supported.
TokenizerConfig read_tokenizer_config(const std::filesystem::path& folder, bool beside_json);

// The same from the text of an added_tokens.json, {"text": id}, alone.
TokenizerConfig parse_added_tokens(std::string_view json, const std::string& file);

// {"content": ..., "lstrip": ...}: what HuggingFace calls an AddedToken, without its id. Throws
// ConfigError for a flag that is not supported.
AddedToken read_added_token(const JsonReader& entry);

// How the readers of a tokenizer's files refuse: FileError for what is malformed, ConfigError for
// fields that are not known.
JsonRules tokenizer_rules();

}  // namespace vitrine::nn
