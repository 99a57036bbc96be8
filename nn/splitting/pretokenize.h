// Pre-tokenization: cuts a text at words, numbers, punctuation and spaces before byte-pair
// encoding.
//
// "We're here,  2 of us" is cut into  We|'re| here|,| | 2| of| us : no token ever crosses a cut.
// The cuts are those of the regular expression of GPT-2 (Radford et al. 2019, released code),
//
//   's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
//
// matched here by hand: every character begins a match, so the pieces joined give the text back.
#pragma once

#include <cstddef>
#include <string_view>

namespace vitrine::nn {

// Finds the end of the piece that begins at `begin`: an index in (begin, text.size()]. `begin` must
// lie inside the text and be where a piece begins: 0, or the end of the piece before. Text may be
// any bytes; what is not UTF-8 counts as punctuation (neither letter, number nor space).
std::size_t piece_end(std::string_view text, std::size_t begin);

}  // namespace vitrine::nn
