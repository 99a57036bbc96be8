#include "nn/splitting/character_set.h"

#include <algorithm>

#include "nn/splitting/unicode_tables.h"

namespace vitrine::nn {
namespace {

constexpr std::string_view kCategoryNames =
    "LuLlLtLmLoMnMcMeNdNlNoPcPdPsPePiPfPoSmScSkSoZsZlZpCcCfCsCoCn";

}  // namespace

std::optional<std::uint32_t> categories_named(std::string_view name) {
  std::uint32_t bits = 0;
  for (std::size_t i = 0; 2 * i < kCategoryNames.size(); ++i) {
    if (!name.empty() && kCategoryNames.substr(2 * i, 2).starts_with(name)) bits |= 1u << i;
  }
  return bits == 0 ? std::nullopt : std::optional(bits);
}

void CharacterSet::add_categories(std::uint32_t categories, bool negated) {
  categories_.push_back({categories, negated});
}

void CharacterSet::add_white_space(bool negated) {
  (negated ? no_white_space_ : white_space_) = true;
}

void CharacterSet::finish() {
  for (CharacterSet& part : parts_) part.finish();
  for (char32_t c = 0; c < 128; ++c) ascii_[c] = contains_slowly(c);
  beyond_ascii_ = negated_ || white_space_ || no_white_space_ || !categories_.empty() ||
                  !parts_.empty() ||
                  std::any_of(ranges_.begin(), ranges_.end(),
                              [](const Range& range) { return range.last >= 128; });
}

bool CharacterSet::contains_slowly(char32_t c) const {
  const auto listed = [&] {
    for (const Range& range : ranges_) {
      if (c >= range.first && c <= range.last) return true;
    }
    if (!categories_.empty()) {
      const std::uint32_t bit = 1u << static_cast<int>(category(c));
      for (const Categories& one : categories_) {
        if (((one.bits & bit) != 0) != one.negated) return true;
      }
    }
    if ((white_space_ || no_white_space_) && (is_white_space(c) ? white_space_ : no_white_space_))
      return true;
    for (const CharacterSet& part : parts_) {
      if (part.contains_slowly(c)) return true;
    }
    return false;
  };
  return listed() != negated_;
}

}  // namespace vitrine::nn
