// UTF-8, read from bytes that may not be UTF-8 at all.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace vitrine::nn {

// One character, or the bytes that stand where one should be.
struct Character {
  char32_t code_point;  // U+FFFD when the bytes are not UTF-8
  std::size_t length;   // in bytes, at least 1
  bool valid;
};

// The character at text[position]; position must lie inside text. Bytes that are not UTF-8 come as
// the longest run that could have begun a character, at least one byte: the "maximal subpart" of
// the Unicode standard (section 3.9), which is also how Rust's and Python's lossy decoders count.
Character read_character(std::string_view text, std::size_t position);

// Appends a code point, which must be a Unicode scalar value (no surrogate, at most U+10FFFF).
void append_utf8(std::string& out, char32_t code_point);

// The bytes as valid UTF-8: whatever is not a character becomes U+FFFD.
std::string replace_invalid_utf8(std::string_view bytes);

// The bytes for a terminal: control characters and invalid bytes are escaped (\n, \x07).
std::string visible(std::string_view bytes);

// The bytes in double quotes for a message: control characters, quotes and invalid bytes are
// escaped (\n, \", \x07), and a long text is cut after about 80 bytes with its length appended.
std::string quote(std::string_view bytes);

}  // namespace vitrine::nn
