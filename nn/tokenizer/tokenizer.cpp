#include "nn/tokenizer/tokenizer.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <unordered_set>
#include <utility>

#include "nn/tokenizer/byte_spelling.h"
#include "tensor/error.h"
#include "tensor/files/utf8.h"

namespace vitrine::nn {
namespace {

// What stands for a space where tokens are characters: SentencePiece's choice.
constexpr std::string_view kMetaspace = "\u2581";

}  // namespace

// One call to encode: the text, what was made of it, and the ids so far.
struct Tokenizer::Encoding {
  // Words repeat, so it remembers where in its own output it has put the tokens of a piece. A later
  // piece in the same slot displaces an earlier one, which bounds the memory.
  struct Remembered {
    std::string_view piece;    // a part of the text, or of what was made
    std::size_t first_id = 0;  // where its ids begin in the output
    std::size_t count = 0;
  };

  Encoding(std::string_view whole, Special treatment)
      : text(whole),
        special(treatment == Special::as_tokens),
        remembered(std::clamp<std::size_t>(std::bit_ceil(whole.size() / 16 + 1), 1, 1 << 14)) {
    ids.reserve(whole.size() / 3);
  }

  // The slot of this piece, or of the one it should displace. Null for a piece too long to repeat.
  Remembered* slot_for(std::string_view piece) {
    if (piece.size() > 32) return nullptr;
    return &remembered[Hash{}(piece) & (remembered.size() - 1)];
  }

  // " at position 7 of the text", of a part of a piece if that is a part of the text.
  std::string position(const char* at) const {
    const std::less<const char*> before;
    if (before(at, text.data()) || !before(at, text.data() + text.size())) return " of the text";
    return fmt::format(" at position {} of the text", at - text.data());
  }

  const std::string_view text;
  const bool special;
  std::vector<Remembered> remembered;
  MadeTexts made;
  std::vector<int> ids;
  std::vector<int> symbols;  // of the piece at hand
};

Tokenizer::Tokenizer(Vocabulary vocabulary, std::string_view name)
    : tokens_(std::move(vocabulary.tokens)),
      added_(std::move(vocabulary.added)),
      merges_(std::move(vocabulary.merges)),
      ignore_merges_(vocabulary.ignore_merges),
      first_(std::move(vocabulary.first)),
      steps_(std::move(vocabulary.steps)),
      characters_(std::move(vocabulary.characters)),
      between_(std::move(vocabulary.between)),
      name_(name) {
  if (characters_.has_value() == steps_.byte_level() ||
      (characters_ && characters_->spelling.size() != tokens_.size())) {
    throw FileError(
        fmt::format("{}: tokens are made of characters where the text is not cut into "
                    "bytes, and only there, and each has a spelling",
                    name_));
  }
  index_added_tokens();
  for (const int id : first_) {
    if (in_use(id)) continue;
    throw FileError(fmt::format("{}: the id {} is put before every text, but {}", name_, id,
                                no_such_token(id)));
  }
  check_merges();
  if (characters_) {
    index_characters();
  } else {
    index_bytes();
  }
}

void Tokenizer::index_added_tokens() {
  MadeTexts made;
  for (std::size_t i = 0; i < added_.size(); ++i) {
    const AddedToken& added = added_[i];
    const bool literal = characters_ || (in_use(added.id) && *tokens_[added.id] == added.content);
    if (!in_use(added.id) || added.content.empty() ||
        (!literal && spell_bytes(*tokens_[added.id]) != added.content)) {
      throw FileError(fmt::format("{}: added token {} does not have the id {} of the vocabulary",
                                  name_, quote(added.content), added.id));
    }
    added_ids_.emplace(added.content, added.id);
    finders_[added.normalized].add(
        i, added.special,
        std::string(added.normalized ? steps_.normalize(added.content, made) : added.content));
  }
}

void Tokenizer::index_bytes() {
  std::vector<bool> is_added(tokens_.size());
  for (const AddedToken& added : added_) is_added[added.id] = *tokens_[added.id] == added.content;
  for (int id = 0; id < vocabulary_size(); ++id) {
    if (tokens_[id] && !is_added[id]) ids_.emplace(*tokens_[id], id);
  }
  for (int byte = 0; byte < 256; ++byte) {
    byte_ids_[byte] = find(std::string(1, static_cast<char>(byte))).value_or(-1);
  }
}

void Tokenizer::index_characters() {
  written_.resize(tokens_.size());
  for (int id = 0; id < vocabulary_size(); ++id) {
    const auto& spelling = characters_->spelling[id];
    if (!spelling || !tokens_[id]) continue;
    written_[id] = *spelling;
    spelled_ids_.emplace(*spelling, id);
  }
  for (const AddedToken& added : added_) written_[added.id] = added.content;
  for (int byte = 0; byte < 256; ++byte) {
    const auto id = spelled_ids_.find(fmt::format("<0x{:02X}>", byte));
    byte_ids_[byte] = id == spelled_ids_.end() ? -1 : id->second;
  }
  for (int c = 0; c < 128; ++c) {
    const auto id = spelled_ids_.find(std::string(1, static_cast<char>(c)));
    ascii_ids_[c] = id == spelled_ids_.end() ? -1 : id->second;
  }
  cuts_at_spaces_ =
      !ignore_merges_ && spelled_ids_.contains(kMetaspace) &&
      std::none_of(merges_.merges().begin(), merges_.merges().end(), [&](const Merge& merge) {
        return written_[merge.right].starts_with(kMetaspace) &&
               !written_[merge.left].ends_with(kMetaspace);
      });
  // A character is found before the byte that stands for it where there is no such token.
  const std::unordered_set<int> bytes(byte_ids_.begin(), byte_ids_.end());
  for (const bool of_bytes : {false, true}) {
    for (int id = 0; id < vocabulary_size(); ++id) {
      if (tokens_[id] && characters_->spelling[id] && bytes.contains(id) == of_bytes)
        ids_.emplace(*tokens_[id], id);
    }
  }
}

// Merged tokens are what they were merged from: this is what makes decode undo encode.
void Tokenizer::check_merges() const {
  const auto part = [&](int id) -> const std::optional<std::string>& {
    return characters_ ? characters_->spelling[id] : tokens_[id];
  };
  for (const Merge& merge : merges_.merges()) {
    if (!in_use(merge.left) || !in_use(merge.right) || !in_use(merge.merged) || !part(merge.left) ||
        !part(merge.right) || !part(merge.merged) ||
        *part(merge.left) + *part(merge.right) != *part(merge.merged)) {
      throw FileError(fmt::format("{}: the merge of ids {} and {} does not make the token of id {}",
                                  name_, merge.left, merge.right, merge.merged));
    }
  }
}

std::vector<int> Tokenizer::encode(std::string_view text, Special special) const {
  Encoding to(text, special);
  encode_text(text, true, to);
  return std::move(to.ids);
}

std::vector<int> Tokenizer::encode_prompt(std::string_view text, Special special) const {
  std::vector<int> ids = encode(text, special);
  ids.insert(ids.begin(), first_.begin(), first_.end());
  return ids;
}

// Added tokens first, the text between them after that. HuggingFace looks for those that are not
// `normalized` in a first round, and for the rest in what lies between once it is normalised: the
// first round wins where two overlap. Within a round the leftmost wins, and of two at the same place
// the longer one.
void Tokenizer::encode_text(std::string_view text, bool at_start, Encoding& to) const {
  split_at_added(finders_[0], text, to, [&](std::size_t begin, std::size_t end) {
    encode_normalized(steps_.normalize(text.substr(begin, end - begin), to.made),
                      at_start && begin == 0, to);
  });
}

void Tokenizer::encode_normalized(std::string_view text, bool at_start, Encoding& to) const {
  const TextSteps::Visit encode_one = [&](std::string_view piece) { encode_piece(piece, to); };
  split_at_added(finders_[1], text, to, [&](std::size_t begin, std::size_t end) {
    steps_.split(text.substr(begin, end - begin), at_start && begin == 0, to.made, encode_one);
  });
}

// White space that one token took is not looked at again by lstrip of the next; but a token that
// begins inside what rstrip took is found all the same, as in HuggingFace.
template <class Between>
void Tokenizer::split_at_added(const AddedTokenFinder& finder, std::string_view text, Encoding& to,
                               Between&& between) const {
  std::size_t begin = 0;
  auto found = finder.find(text, 0, to.special);
  for (; found; found = finder.find(text, found->end, to.special)) {
    const AddedToken& token = added_[found->index];
    std::size_t from = found->begin, end = found->end;
    if (token.lstrip) from = std::max(white_space_before(text, from), begin);
    if (token.rstrip) end = white_space_after(text, end);
    if (begin < from) between(begin, from);
    to.ids.push_back(token.id);
    begin = end;
  }
  if (begin < text.size()) between(begin, text.size());
}

void Tokenizer::encode_piece(std::string_view piece, Encoding& to) const {
  // Where no token has a space inside, cutting before spaces changes nothing, and words repeat.
  for (std::size_t next = 1; cuts_at_spaces_ && next < piece.size();) {
    next = piece.find(kMetaspace, next);
    if (next == piece.npos) break;
    if (piece.substr(0, next).ends_with(kMetaspace)) {
      next += kMetaspace.size();
      continue;
    }
    encode_short(piece.substr(0, next), to);
    piece.remove_prefix(next);
    next = kMetaspace.size();
  }
  encode_short(piece, to);
}

void Tokenizer::encode_short(std::string_view piece, Encoding& to) const {
  Encoding::Remembered* const slot = to.slot_for(piece);
  if (slot != nullptr && slot->piece == piece) {
    for (std::size_t i = 0; i < slot->count; ++i) to.ids.push_back(to.ids[slot->first_id + i]);
    return;
  }
  const std::size_t first = to.ids.size();
  const IdOf& whole_tokens = characters_ ? spelled_ids_ : ids_;
  const auto whole = ignore_merges_ ? whole_tokens.find(piece) : whole_tokens.end();
  if (whole != whole_tokens.end()) {
    to.ids.push_back(whole->second);
  } else if (!between_.empty()) {
    const bool marked = piece.starts_with(kMetaspace);
    throw TokenError(fmt::format("{} is no name in {}; names stand with spaces between them",
                                 quote(piece.substr(marked ? kMetaspace.size() : 0)), name_));
  } else {
    to.symbols.clear();
    if (characters_) {
      append_characters(piece, to);
    } else {
      append_bytes(piece, to);
    }
    merges_.apply(to.symbols, to.ids);
  }
  if (slot != nullptr) *slot = {piece, first, to.ids.size() - first};
}

void Tokenizer::append_bytes(std::string_view piece, Encoding& to) const {
  for (const char& c : piece) {
    const auto byte = static_cast<unsigned char>(c);
    to.symbols.push_back(byte_ids_[byte]);
    if (to.symbols.back() >= 0) continue;
    throw TokenError(
        fmt::format("byte 0x{:02X}{} has no token in the vocabulary of {}, which lacks some single "
                    "bytes: leave "
                    "the character out, or use a tokenizer with all 256",
                    byte, to.position(&c), name_));
  }
}

// As in HuggingFace, an unknown token waits until a character with a token of its own comes, also
// where the bytes of others come in between.
void Tokenizer::append_characters(std::string_view piece, Encoding& to) const {
  bool unknown = false;
  const auto put_unknown = [&] {
    if (unknown) to.symbols.push_back(*characters_->unknown);
    unknown = false;
  };
  for (std::size_t i = 0, length = 0; i < piece.size(); i += length) {
    length = read_character(piece, i).length;
    const std::string_view character = piece.substr(i, length);
    const auto first = static_cast<unsigned char>(character[0]);
    int id = -1;
    if (first < 128) {
      id = ascii_ids_[first];
    } else if (const auto found = spelled_ids_.find(character); found != spelled_ids_.end()) {
      id = found->second;
    }
    if (id >= 0) {
      put_unknown();
      to.symbols.push_back(id);
      continue;
    }
    const auto byte_id = [&](char byte) { return byte_ids_[static_cast<unsigned char>(byte)]; };
    if (characters_->byte_fallback &&
        std::all_of(character.begin(), character.end(), [&](char b) { return byte_id(b) >= 0; })) {
      for (const char byte : character) to.symbols.push_back(byte_id(byte));
    } else if (characters_->unknown) {
      if (!characters_->fuse_unknown) put_unknown();
      unknown = true;
    } else {
      throw TokenError(fmt::format(
          "{}{} has no token in the vocabulary of {}, and there is none for what is unknown: leave "
          "the character out",
          quote(character), to.position(character.data()), name_));
    }
  }
  put_unknown();
}

std::string Tokenizer::decode(std::span<const int> ids) const {
  std::string text;
  text.reserve(ids.size() * 5);
  for (std::size_t i = 0; i < ids.size(); ++i) {
    if (!in_use(ids[i])) {
      throw TokenError(fmt::format("token {} of {} (counting from 0): {}", i, ids.size(),
                                   no_such_token(ids[i])));
    }
    if (i > 0) text += between_;
    text += characters_ && i == 0 ? steps_.decode_first_token(written_[ids[i]]) : *tokens_[ids[i]];
  }
  steps_.decode_whole(text);
  return text;
}

std::vector<std::string> Tokenizer::str_tokens(std::span<const int> ids) const {
  std::vector<std::string> texts;
  texts.reserve(ids.size());
  for (std::size_t i = 0; i < ids.size(); ++i) {
    if (!in_use(ids[i])) (void)decode(ids);  // throws
    texts.push_back(replace_invalid_utf8(*tokens_[ids[i]]));
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
  for (std::size_t i = 0; i < ids.size(); ++i) text += (i > 0 ? between_ : "") + shown(ids[i]);
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
  if (const auto whole = characters_ ? find(text) : std::nullopt) return *whole;
  const std::vector<int> ids = encode(text);
  if (ids.size() == 1 && !characters_) return ids[0];

  constexpr std::size_t kShown = 12;
  std::string pieces;
  for (std::size_t i = 0; i < std::min(ids.size(), kShown); ++i) {
    pieces += fmt::format("{}{}", i == 0 ? "" : "|", quote(*tokens_[ids[i]]));
  }
  if (ids.size() > kShown) pieces += "|...";

  const bool spaced = text.front() == ' ';
  const std::string other = spaced ? std::string(text.substr(1)) : " " + std::string(text);
  const std::vector<int> other_ids = encode(other);
  const int other_id = characters_             ? find(other).value_or(-1)
                       : other_ids.size() == 1 ? other_ids[0]
                                               : -1;
  std::string advice = "give a text that is exactly one token, or a token id";
  if (other_id >= 0) {
    advice = fmt::format("did you mean {}, {} a leading space? It is one token (id {})",
                         quote(other), spaced ? "without" : "with", other_id);
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
