// Sets of characters, as [\p{L}\p{N}\r\n] and [^\s] name them in regular expressions.
#pragma once

#include <bitset>
#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

namespace vitrine::nn {

// Built by adding to it; then finish() once, then contains().
class CharacterSet {
 public:
  void add(char32_t first, char32_t last) { ranges_.push_back({first, last}); }
  // The characters of some of Unicode's categories, one bit each by their order; or all others.
  void add_categories(std::uint32_t categories, bool negated);
  void add_white_space(bool negated);
  void add(const CharacterSet& other) { parts_.push_back(other); }
  void negate() { negated_ = !negated_; }
  void finish();

  bool contains(char32_t c) const { return c < 128 ? ascii_[c] : contains_slowly(c); }
  bool contains_beyond_ascii() const { return beyond_ascii_; }  // true where it is not certain

 private:
  bool contains_slowly(char32_t c) const;

  struct Range {
    char32_t first, last;
  };
  struct Categories {
    std::uint32_t bits;
    bool negated;
  };
  std::vector<Range> ranges_;
  std::vector<Categories> categories_;
  std::vector<CharacterSet> parts_;
  bool white_space_ = false, no_white_space_ = false;  // \s, \S
  bool negated_ = false;
  bool beyond_ascii_ = true;
  std::bitset<128> ascii_;
};

// The categories that a name such as L or Nd stands for, one bit each; none for another name.
std::optional<std::uint32_t> categories_named(std::string_view name);

}  // namespace vitrine::nn
