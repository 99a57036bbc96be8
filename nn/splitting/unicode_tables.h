// Unicode's general categories: uppercase letter (Lu), decimal digit (Nd), space (Zs) and so on, and
// from these the classes of GPT-2's pattern. unicode_tables.cpp is generated from Unicode data by
// make_unicode_tables.py.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

namespace vitrine::nn {

// By Unicode's two-letter names: letters, marks, numbers, punctuation, symbols, separators, others.
// clang-format off
enum class Category : std::uint8_t {
  Lu, Ll, Lt, Lm, Lo,
  Mn, Mc, Me,
  Nd, Nl, No,
  Pc, Pd, Ps, Pe, Pi, Pf, Po,
  Sm, Sc, Sk, So,
  Zs, Zl, Zp,
  Cc, Cf, Cs, Co, Cn,  // Cn: assigned to nothing
};
// clang-format on

// Code points from `first` up to the first of the next run have this category.
struct CategoryRun {
  char32_t first;
  Category category;
};

// All code points: ascending, the first run begins at 0.
std::span<const CategoryRun> unicode_category_runs();

// The version of Unicode the table was made from. It decides how characters assigned later than
// that are split (as Cn), so it follows the version in HuggingFace tokenizers.
std::string_view unicode_table_version();

Category category(char32_t code_point);

// The property White_Space, which is \s: U+0085 and U+3000 are, U+180E and U+200B are not.
bool is_white_space(char32_t code_point);

enum class CharacterClass : std::uint8_t { other, letter, number, space };

// The class of a code point: \p{L}, \p{N}, \s, or none of them.
CharacterClass character_class(char32_t code_point);

}  // namespace vitrine::nn
