#include "nn/tokenizer/tokenizer.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <utility>

#include "nn/tokenizer/byte_spelling.h"
#include "nn/tokenizer/pretokenize.h"
#include "tensor/error.h"
#include "tensor/files/utf8.h"

namespace vitrine::nn {

// Words repeat, so one call to encode remembers where in its own output it has put the tokens of a
// piece. A later piece in the same slot displaces an earlier one, which bounds the memory.
class Tokenizer::PieceCache {
 public:
  struct Entry {
    std::string_view piece;    // a part of the text
    std::size_t first_id = 0;  // where its ids begin in the output
    std::size_t count = 0;
  };

  explicit PieceCache(std::size_t text_length)
      : entries_(std::clamp<std::size_t>(std::bit_ceil(text_length / 16 + 1), 1, 1 << 14)) {}

  // The entry of this piece, or the one it should displace. Null for a piece too long to repeat.
  Entry* slot_for(std::string_view piece) {
    if (piece.size() > 32) return nullptr;
    return &entries_[Hash{}(piece) & (entries_.size() - 1)];
  }

 private:
  std::vector<Entry> entries_;
};

Tokenizer::Tokenizer(Vocabulary vocabulary, std::string_view name)
    : tokens_(std::move(vocabulary.tokens)),
      added_(std::move(vocabulary.added)),
      merges_(std::move(vocabulary.merges)),
      ignore_merges_(vocabulary.ignore_merges),
      first_(std::move(vocabulary.first)),
      name_(name) {
  for (const AddedToken& added : added_) {
    if (!in_use(added.id) || added.content.empty() ||
        (*tokens_[added.id] != added.content && spell_bytes(*tokens_[added.id]) != added.content)) {
      throw FileError(fmt::format("{}: added token {} does not have the id {} of the vocabulary",
                                  name_, quote(added.content), added.id));
    }
    added_ids_.emplace(added.content, added.id);
  }
  for (const int id : first_) {
    if (in_use(id)) continue;
    throw FileError(fmt::format("{}: the id {} is put before every text, but {}", name_, id,
                                no_such_token(id)));
  }
  std::vector<bool> is_added(tokens_.size());
  for (const AddedToken& added : added_) is_added[added.id] = *tokens_[added.id] == added.content;
  for (int id = 0; id < vocabulary_size(); ++id) {
    if (tokens_[id] && !is_added[id]) ids_.emplace(*tokens_[id], id);
  }
  for (int byte = 0; byte < 256; ++byte) {
    byte_ids_[byte] = find(std::string(1, static_cast<char>(byte))).value_or(-1);
  }
  // Merged tokens are the bytes they were merged from: this is what makes decode undo encode.
  for (const Merge& merge : merges_.merges()) {
    if (!in_use(merge.left) || !in_use(merge.right) || !in_use(merge.merged) ||
        *tokens_[merge.left] + *tokens_[merge.right] != *tokens_[merge.merged]) {
      throw FileError(fmt::format("{}: the merge of ids {} and {} does not make the token of id {}",
                                  name_, merge.left, merge.right, merge.merged));
    }
  }
}

std::vector<int> Tokenizer::encode(std::string_view text, Special special) const {
  std::vector<int> ids;
  ids.reserve(text.size() / 3);
  PieceCache cache(text.size());
  if (special == Special::as_text || added_.empty()) {
    encode_text(text, 0, cache, ids);
  } else {
    encode_with_added(text, 0, false, cache, ids);
  }
  return ids;
}

std::vector<int> Tokenizer::encode_prompt(std::string_view text, Special special) const {
  std::vector<int> ids = encode(text, special);
  ids.insert(ids.begin(), first_.begin(), first_.end());
  return ids;
}

// Added tokens first, the text between them after that. HuggingFace looks for those that are not
// `normalized` in a first round, and for the rest in what lies between: the first round wins where
// two overlap. Within a round the leftmost wins, and of two at the same place the longer one.
void Tokenizer::encode_with_added(std::string_view text, std::size_t begin, bool normalized,
                                  PieceCache& cache, std::vector<int>& ids) const {
  const auto encode_between = [&](std::size_t from, std::size_t to) {
    if (normalized) {
      encode_text(text.substr(0, to), from, cache, ids);
    } else {
      encode_with_added(text.substr(0, to), from, true, cache, ids);
    }
  };
  struct Search {
    const AddedToken* token;
    std::size_t found;  // the next place where it occurs
  };
  std::vector<Search> searches;
  for (const AddedToken& token : added_) {
    if (token.normalized != normalized) continue;
    searches.push_back({&token, text.find(token.content, begin)});
  }
  while (true) {
    const Search* best = nullptr;
    for (Search& search : searches) {
      if (search.found == std::string_view::npos) continue;
      if (search.found < begin) search.found = text.find(search.token->content, begin);
      if (search.found == std::string_view::npos) continue;
      if (best == nullptr || search.found < best->found ||
          (search.found == best->found &&
           search.token->content.size() > best->token->content.size())) {
        best = &search;
      }
    }
    if (best == nullptr) break;
    encode_between(begin, best->found);
    ids.push_back(best->token->id);
    begin = best->found + best->token->content.size();
  }
  encode_between(begin, text.size());
}

void Tokenizer::encode_text(std::string_view text, std::size_t begin, PieceCache& cache,
                            std::vector<int>& ids) const {
  while (begin < text.size()) {
    const std::size_t end = piece_end(text, begin);
    const std::string_view piece = text.substr(begin, end - begin);
    PieceCache::Entry* const entry = cache.slot_for(piece);
    if (entry != nullptr && entry->piece == piece) {
      for (std::size_t i = 0; i < entry->count; ++i) ids.push_back(ids[entry->first_id + i]);
    } else {
      const std::size_t first = ids.size();
      encode_piece(text, begin, end, ids);
      if (entry != nullptr) *entry = {piece, first, ids.size() - first};
    }
    begin = end;
  }
}

void Tokenizer::encode_piece(std::string_view text, std::size_t begin, std::size_t end,
                             std::vector<int>& ids) const {
  if (ignore_merges_) {
    if (const auto whole = ids_.find(text.substr(begin, end - begin)); whole != ids_.end()) {
      ids.push_back(whole->second);
      return;
    }
  }
  std::array<int, 64> short_piece;
  std::vector<int> long_piece;
  std::span<int> bytes(short_piece.data(), std::min(end - begin, short_piece.size()));
  if (end - begin > short_piece.size()) {
    long_piece.resize(end - begin);
    bytes = long_piece;
  }
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    const auto byte = static_cast<unsigned char>(text[begin + i]);
    bytes[i] = byte_ids_[byte];
    if (bytes[i] < 0) {
      throw TokenError(fmt::format(
          "byte 0x{:02X} at position {} of the text has no token in the vocabulary of {}, which "
          "lacks some single bytes: leave the character out, or use a tokenizer with all 256",
          byte, begin + i, name_));
    }
  }
  merges_.apply(bytes, ids);
}

std::string Tokenizer::decode(std::span<const int> ids) const {
  std::string text;
  text.reserve(ids.size() * 5);
  for (std::size_t i = 0; i < ids.size(); ++i) {
    if (!in_use(ids[i])) {
      throw TokenError(fmt::format("token {} of {} (counting from 0): {}", i, ids.size(),
                                   no_such_token(ids[i])));
    }
    text += *tokens_[ids[i]];
  }
  return text;
}

std::vector<std::string> Tokenizer::str_tokens(std::span<const int> ids) const {
  std::vector<std::string> texts;
  texts.reserve(ids.size());
  for (std::size_t i = 0; i < ids.size(); ++i) {
    texts.push_back(replace_invalid_utf8(decode(ids.subspan(i, 1))));
  }
  return texts;
}

std::vector<std::string> Tokenizer::str_tokens(std::string_view text) const {
  return str_tokens(encode(text));
}

const std::string& Tokenizer::token_bytes(int id) const {
  if (!in_use(id)) throw TokenError(no_such_token(id));
  return *tokens_[id];
}

std::string Tokenizer::shown(int id) const {
  return in_use(id) ? *tokens_[id] : fmt::format("<id {}>", id);
}

std::string Tokenizer::shown_text(std::span<const int> ids) const {
  std::string text;
  for (const int id : ids) text += shown(id);
  return text;
}

std::vector<std::string> Tokenizer::shown_tokens(std::span<const int> ids) const {
  std::vector<std::string> texts;
  texts.reserve(ids.size());
  for (const int id : ids) texts.push_back(replace_invalid_utf8(shown(id)));
  return texts;
}

std::string Tokenizer::no_such_token(int id) const {
  if (id >= 0 && id < vocabulary_size()) {
    return fmt::format("id {} is not in use in the vocabulary of {}", id, name_);
  }
  return fmt::format(
      "id {} is outside the vocabulary of {}, which has {} ids (0 to {}): do the ids come from "
      "another model's tokenizer?",
      id, name_, vocabulary_size(), vocabulary_size() - 1);
}

int Tokenizer::to_single_token(std::string_view text) const {
  if (const auto added = added_ids_.find(text); added != added_ids_.end()) return added->second;
  if (text.empty()) {
    throw TokenError("the empty text is not a token: give a text that is exactly one token");
  }
  const std::vector<int> ids = encode(text);
  if (ids.size() == 1) return ids[0];

  constexpr std::size_t kShown = 12;
  std::string pieces;
  for (std::size_t i = 0; i < std::min(ids.size(), kShown); ++i) {
    pieces += fmt::format("{}{}", i == 0 ? "" : "|", quote(*tokens_[ids[i]]));
  }
  if (ids.size() > kShown) pieces += "|...";

  const bool spaced = text.front() == ' ';
  const std::string other = spaced ? std::string(text.substr(1)) : " " + std::string(text);
  const std::vector<int> other_ids = encode(other);
  std::string advice = "give a text that is exactly one token, or a token id";
  if (other_ids.size() == 1) {
    advice = fmt::format("did you mean {}, {} a leading space? It is one token (id {})",
                         quote(other), spaced ? "without" : "with", other_ids[0]);
  }
  throw TokenError(fmt::format("{} is {} tokens, not one, in the vocabulary of {}: {}; {}",
                               quote(text), ids.size(), name_, pieces, advice));
}

std::optional<int> Tokenizer::find(std::string_view bytes) const {
  if (const auto id = ids_.find(bytes); id != ids_.end()) return id->second;
  if (const auto id = added_ids_.find(bytes); id != added_ids_.end()) return id->second;
  return std::nullopt;
}

std::optional<int> Tokenizer::end_of_text() const {
  const auto id = added_ids_.find(kEndOfText);
  return id == added_ids_.end() ? std::nullopt : std::optional(id->second);
}

}  // namespace vitrine::nn
