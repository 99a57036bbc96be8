// Builds a Vocabulary from a tokenizer's files, checking each part against what came before.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "nn/tokenizer/tokenizer.h"
#include "nn/tokenizer/tokenizer_config.h"
#include "tensor/files/json_reader.h"

namespace vitrine::nn {

// A token id: a whole number from 0. Throws FileError naming the token otherwise.
int read_token_id(const JsonReader& value, std::string_view token);

// Everything here throws FileError; `where` names the file and the place in it.
class VocabularyReader {
 public:
  explicit VocabularyReader(TextSteps steps = {});

  // Added tokens come first. One that the vocabulary spells in bytes has that token's id: its text
  // is looked for literally, and the token is what the bytes are. All others are literal.
  void add_added_token(AddedToken token, const std::string& where);
  // Those of other files; one that is an added token already is passed over.
  void add_named_tokens(const std::vector<NamedToken>& tokens);

  // Then the tokens: the object {"spelling": id, ...}. Some ids may be unused. Added tokens without
  // an id have the one that they have here, or else the next free one. Where text is cut into bytes,
  // these spell bytes; else they are texts, and the decoders say what they stand for.
  void read_tokens(const JsonReader& object);

  // Then the merges, one by one in order of rank, as the file spells their tokens.
  void add_merge(const std::string& left, const std::string& right, const std::string& where);

  void set_ignore_merges(bool value) { vocabulary_.ignore_merges = value; }

  // What becomes of a character without a token; only where text is not cut into bytes.
  void set_unknown(bool byte_fallback, std::optional<int> unknown, bool fuse_unknown);
  std::optional<int> id_of(const std::string& spelling) const;

  // Tokens that are put before every text: these ids, or an added token of this text.
  void set_first(std::vector<int> ids) { vocabulary_.first = std::move(ids); }
  void set_first(const std::string& content) { vocabulary_.first = {added_.at(content)}; }

  // Whether tokens are bytes rather than characters.
  bool spells_bytes() const { return !vocabulary_.characters; }

  // A byte without a token of its own, or -1.
  int missing_byte() const;

  Vocabulary take() { return std::move(vocabulary_); }

 private:
  void settle_ids(const JsonReader& object, const std::vector<JsonReader>& fields);

  Vocabulary vocabulary_;
  std::unordered_map<std::string, int> added_;  // by content
  std::unordered_set<std::string> implied_;     // those of them that no file names
  std::unordered_map<std::string, int> ids_;    // by spelling
  std::unordered_set<std::uint64_t> pairs_;     // merges so far
};

}  // namespace vitrine::nn
