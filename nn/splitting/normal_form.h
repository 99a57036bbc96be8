// Unicode's normalisation form C: a letter and its accents become one character where there is one.
//
// "e" U+0301 becomes U+00E9. A text is decomposed, its marks are put in order of their combining
// classes, and neighbours are composed again (Unicode Standard Annex 15). normal_form_tables.cpp is
// generated from Unicode data by make_unicode_tables.py, without the characters that are younger than
// Unicode 9: HuggingFace tokenizers 0.23 does not know these, and models have seen what it makes of
// a text.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace vitrine::nn {

// The text in form C. Any bytes will do: those that are not UTF-8 stay as they are.
std::string normal_form_c(std::string_view text);

// Whether a look at its characters one by one shows that a text is in form C already. False does not
// mean that it is not.
bool surely_normal_form_c(std::string_view text);

// A canonical decomposition by one step; `second` is 0 where one character stands for one other.
struct CanonicalParts {
  char32_t composed;
  char32_t first;
  char32_t second;
  bool composes;  // form C puts the two together again
};

// Ascending. Hangul syllables, which follow a rule, are not among them.
std::span<const CanonicalParts> unicode_decompositions();

// Marks first to last, both included, of one combining class; all others are of class 0.
struct CombiningRange {
  char32_t first;
  char32_t last;
  std::uint8_t combining_class;
};

std::span<const CombiningRange> unicode_combining_ranges();

}  // namespace vitrine::nn
