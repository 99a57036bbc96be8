#include "nn/tokenizer/added_tokens.h"

#include <algorithm>
#include <utility>

#include "nn/splitting/unicode_tables.h"
#include "tensor/files/utf8.h"

namespace vitrine::nn {

void AddedTokenFinder::add(std::size_t index, bool special, std::string text) {
  if (text.empty()) return;
  auto& bucket = by_first_byte_[static_cast<unsigned char>(text[0])];
  const auto shorter = std::find_if(bucket.begin(), bucket.end(), [&](const Wanted& other) {
    return other.text.size() < text.size();
  });
  bucket.insert(shorter, {index, special, std::move(text)});
  ++count_;
}

std::optional<AddedTokenFinder::Found> AddedTokenFinder::find(std::string_view text,
                                                              std::size_t begin,
                                                              bool special) const {
  if (empty()) return std::nullopt;
  for (std::size_t i = begin; i < text.size(); ++i) {
    for (const Wanted& wanted : by_first_byte_[static_cast<unsigned char>(text[i])]) {
      if (wanted.special && !special) continue;
      if (text.compare(i, wanted.text.size(), wanted.text) == 0)
        return Found{wanted.index, i, i + wanted.text.size()};
    }
  }
  return std::nullopt;
}

std::size_t white_space_before(std::string_view text, std::size_t end) {
  while (end > 0) {
    std::size_t begin = end - 1;  // of the last character
    while (begin > 0 && (static_cast<unsigned char>(text[begin]) & 0xC0) == 0x80) --begin;
    const Character c = read_character(text, begin);
    if (!c.valid || begin + c.length != end || !is_white_space(c.code_point)) break;
    end = begin;
  }
  return end;
}

std::size_t white_space_after(std::string_view text, std::size_t begin) {
  while (begin < text.size()) {
    const Character c = read_character(text, begin);
    if (!c.valid || !is_white_space(c.code_point)) break;
    begin += c.length;
  }
  return begin;
}

}  // namespace vitrine::nn
