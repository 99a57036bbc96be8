// Unicode character classes for the tokenizer's pattern: letter (\p{L}), number (\p{N}), space (\s)
// or none of these. tokenizer/unicode_tables.cpp is generated from Unicode data by
// make_unicode_tables.py.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

namespace vitrine::nn {

enum class CharacterClass : std::uint8_t { other, letter, number, space };

// Code points first to last, both included, that share a class.
struct ClassRange {
  char32_t first;
  char32_t last;
  CharacterClass kind;
};

// Every letter, number and space of Unicode, ascending, no two ranges overlap; what no range covers
// is `other`. Spaces are the characters with the property White_Space: U+0085 and U+3000 are,
// U+180E and U+200B are not.
std::span<const ClassRange> unicode_class_ranges();

// The version of Unicode the table was made from. It decides how characters assigned later than
// that are split (as `other`), so it follows the version in HuggingFace tokenizers.
std::string_view unicode_table_version();

}  // namespace vitrine::nn
