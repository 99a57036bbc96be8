// Added tokens in a text: where the text of one stands, before anything else is done to it.
#pragma once

#include <array>
#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace vitrine::nn {

// A token that stands outside the merges, such as <|endoftext|>: its text is taken literally. It
// may be how a file spells another token: when "é" is added to a vocabulary in which it is the byte
// 0xE9, HuggingFace gives the text "é" the id of that byte, and the token stays the byte.
struct AddedToken {
  int id;
  std::string content;
  bool special = true;      // a control token, rather than a word added later
  bool normalized = false;  // HuggingFace looks for these in a second round, after the others, in
                            // the normalised text
  bool lstrip = false;      // white space before it, and
  bool rstrip = false;      // white space after it, is part of it and is lost
};

// Finds those of one round.
class AddedTokenFinder {
 public:
  struct Found {
    std::size_t index;  // as it was added
    std::size_t begin, end;
  };

  // An empty text is never found.
  void add(std::size_t index, bool special, std::string text);

  // The leftmost in text[begin..], of several at one place the longest. Special ones only where
  // `special` asks for them.
  std::optional<Found> find(std::string_view text, std::size_t begin, bool special) const;

  bool empty() const { return count_ == 0; }

 private:
  struct Wanted {
    std::size_t index;
    bool special;
    std::string text;
  };
  std::array<std::vector<Wanted>, 256> by_first_byte_;  // each the longest first
  std::size_t count_ = 0;
};

// Where the white space at the end of text[0..end) begins; where that at text[begin..] ends.
std::size_t white_space_before(std::string_view text, std::size_t end);
std::size_t white_space_after(std::string_view text, std::size_t begin);

}  // namespace vitrine::nn
