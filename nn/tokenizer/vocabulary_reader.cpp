#include "nn/tokenizer/vocabulary_reader.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <string_view>
#include <utility>
#include <vector>

#include "nn/tokenizer/byte_spelling.h"
#include "tensor/error.h"
#include "tensor/files/utf8.h"

namespace vitrine::nn {
namespace {

// The bytes that a token's spelling in the file stands for. Throws FileError.
std::string bytes_of_token(const std::string& spelling, const std::string& where) {
  if (auto bytes = bytes_of_spelling(spelling)) return std::move(*bytes);
  std::size_t i = 0;
  Character c = read_character(spelling, i);
  while (byte_of_character(c.code_point) >= 0) c = read_character(spelling, i += c.length);
  throw FileError(fmt::format(
      "{}: token {} is not byte-level: its character {} stands for no byte (a space is spelled "
      "\"\u0120\"); a token that is meant literally must be an added token",
      where, quote(spelling), quote(std::string_view(spelling).substr(i, c.length))));
}

}  // namespace

int read_token_id(const JsonReader& value, std::string_view token) {
  const auto id = value.value().natural();
  if (!id || *id > INT32_MAX) {
    value.reject(fmt::format("a whole number from 0 to {}", INT32_MAX),
                 fmt::format("it is the id of token {}", quote(token)));
  }
  return static_cast<int>(*id);
}

VocabularyReader::VocabularyReader(TextSteps steps) {
  if (!steps.byte_level()) vocabulary_.characters.emplace();
  vocabulary_.steps = std::move(steps);
}

void VocabularyReader::set_unknown(bool byte_fallback, std::optional<int> unknown,
                                   bool fuse_unknown) {
  vocabulary_.characters->byte_fallback = byte_fallback;
  vocabulary_.characters->unknown = unknown;
  vocabulary_.characters->fuse_unknown = fuse_unknown;
}

std::optional<int> VocabularyReader::id_of(const std::string& spelling) const {
  const auto found = ids_.find(spelling);
  return found == ids_.end() ? std::nullopt : std::optional(found->second);
}

void VocabularyReader::add_added_token(AddedToken token, const std::string& where) {
  if (token.content.empty()) {
    throw FileError(fmt::format("{}: the added token with id {} is empty", where, token.id));
  }
  if (!added_.emplace(token.content, token.id).second) {
    throw FileError(
        fmt::format("{}: the added token {} is listed twice", where, quote(token.content)));
  }
  vocabulary_.added.push_back(std::move(token));
}

void VocabularyReader::add_named_tokens(const std::vector<NamedToken>& tokens) {
  for (const NamedToken& named : tokens) {
    if (added_.contains(named.token.content)) continue;
    add_added_token(named.token, named.where);
    if (named.implied) implied_.insert(named.token.content);
  }
}

// As in HuggingFace, a token that is new follows after all others.
void VocabularyReader::settle_ids(const JsonReader& object, const std::vector<JsonReader>& fields) {
  std::unordered_set<int> taken;
  int largest = kNoId;
  const auto take = [&](int id) {
    taken.insert(id);
    largest = std::max(largest, id);
  };
  for (const JsonReader& field : fields) take(read_token_id(field, field.name()));
  for (AddedToken& token : vocabulary_.added) {
    const JsonReader known = object.at(token.content);
    if (token.id == kNoId && !known.absent()) token.id = read_token_id(known, token.content);
    if (token.id != kNoId) take(token.id);
  }
  const bool gaps = largest != static_cast<int>(taken.size()) - 1;
  if (gaps) {
    std::erase_if(vocabulary_.added, [&](const AddedToken& token) {
      return token.id == kNoId && implied_.contains(token.content) && added_.erase(token.content);
    });
  }
  for (AddedToken& token : vocabulary_.added) {
    if (token.id == kNoId) {
      if (gaps) {
        throw FileError(fmt::format(
            "{}: the token {} is not among these and no file says its id, which is not certain "
            "because ids below {} are not in use; give it an id here",
            object.place(), quote(token.content), largest));
      }
      take(token.id = largest + 1);
    }
    added_[token.content] = token.id;
  }
}

void VocabularyReader::read_tokens(const JsonReader& object) {
  const std::vector<JsonReader> fields = object.fields();
  const std::string where = object.place();
  settle_ids(object, fields);
  struct Entry {
    std::string spelling;
    int id;
    bool literal;
  };
  std::vector<Entry> entries;
  int largest = -1;
  entries.reserve(fields.size());
  for (const JsonReader& field : fields) {
    std::string spelling(field.name());
    const int id = read_token_id(field, spelling);
    const auto added = added_.find(spelling);
    if (added != added_.end() && added->second != id) {
      throw FileError(fmt::format("{}: token {} has the id {} here, but {} among the added tokens",
                                  where, quote(spelling), id, added->second));
    }
    if (spelling.empty()) throw FileError(fmt::format("{}: token {} is empty", where, id));
    const bool literal = spells_bytes() && added != added_.end() && !bytes_of_spelling(spelling);
    entries.push_back({std::move(spelling), id, literal});
    largest = std::max(largest, id);
  }
  for (const AddedToken& added : vocabulary_.added) {
    if (object.value().find(added.content) == nullptr)
      entries.push_back({added.content, added.id, spells_bytes()});
    largest = std::max(largest, added.id);
  }
  if (entries.empty()) throw FileError(fmt::format("{}: the vocabulary is empty", where));
  // A few ids may be unused; a stray one must not make us reserve two thousand million.
  if (static_cast<std::size_t>(largest) > 2 * entries.size() + 1000) {
    throw FileError(fmt::format(
        "{}: the largest id is {}, but there are only {} tokens: ids must (nearly) follow on",
        where, largest, entries.size()));
  }

  vocabulary_.tokens.resize(static_cast<std::size_t>(largest) + 1);
  if (!spells_bytes()) vocabulary_.characters->spelling.resize(vocabulary_.tokens.size());
  for (const Entry& entry : entries) {
    auto& token = vocabulary_.tokens[entry.id];
    std::string bytes = entry.literal    ? entry.spelling
                        : spells_bytes() ? bytes_of_token(entry.spelling, where)
                                         : vocabulary_.steps.decode_token(entry.spelling);
    if (token) {
      throw FileError(fmt::format("{}: tokens {} and {} have the same id {}", where, quote(*token),
                                  quote(bytes), entry.id));
    }
    token = std::move(bytes);
    if (object.value().find(entry.spelling) == nullptr) continue;
    ids_.emplace(entry.spelling, entry.id);
    if (!spells_bytes()) vocabulary_.characters->spelling[entry.id] = entry.spelling;
  }
}

void VocabularyReader::add_merge(const std::string& left, const std::string& right,
                                 const std::string& where) {
  const auto id = [&](const std::string& token) {
    const auto found = ids_.find(token);
    if (found == ids_.end()) {
      throw FileError(fmt::format(
          "{}: the merge of {} and {} needs the token {}, which the vocabulary does not have: do "
          "vocabulary and merges belong together?",
          where, quote(left), quote(right), quote(token)));
    }
    return found->second;
  };
  const Merge merge = {id(left), id(right), id(left + right)};
  const auto& tokens = vocabulary_.tokens;
  if (spells_bytes() && *tokens[merge.left] + *tokens[merge.right] != *tokens[merge.merged]) {
    throw FileError(fmt::format(
        "{}: the merge of {} and {} involves an added token, whose text is literal: it cannot be "
        "spelled in bytes as well",
        where, quote(left), quote(right)));
  }
  const std::uint64_t pair = std::uint64_t(merge.left) << 32 | std::uint64_t(merge.right);
  if (!pairs_.insert(pair).second) {
    throw FileError(fmt::format("{}: the merge of {} and {} is listed a second time", where,
                                quote(left), quote(right)));
  }
  vocabulary_.merges.push_back(merge);
}

int VocabularyReader::missing_byte() const {
  std::array<bool, 256> present{};
  for (const auto& token : vocabulary_.tokens) {
    if (token && token->size() == 1) present[static_cast<unsigned char>(token->front())] = true;
  }
  const auto missing = std::find(present.begin(), present.end(), false);
  return missing == present.end() ? -1 : static_cast<int>(missing - present.begin());
}

}  // namespace vitrine::nn
