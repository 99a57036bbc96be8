#include <algorithm>

#include "nn/splitting/unicode_tables.h"

namespace vitrine::nn {

Category category(char32_t code_point) {
  const auto runs = unicode_category_runs();
  const auto after =
      std::upper_bound(runs.begin(), runs.end(), code_point,
                       [](char32_t wanted, const CategoryRun& run) { return wanted < run.first; });
  return (after - 1)->category;
}

bool is_white_space(char32_t code_point) {
  if (code_point < 0x80) return code_point == ' ' || (code_point >= '\t' && code_point <= '\r');
  if (code_point == 0x85) return true;
  const Category kind = category(code_point);
  return kind >= Category::Zs && kind <= Category::Zp;
}

CharacterClass character_class(char32_t code_point) {
  if (is_white_space(code_point)) return CharacterClass::space;
  const Category kind = category(code_point);
  if (kind <= Category::Lo) return CharacterClass::letter;
  const bool number = kind >= Category::Nd && kind <= Category::No;
  return number ? CharacterClass::number : CharacterClass::other;
}

}  // namespace vitrine::nn
