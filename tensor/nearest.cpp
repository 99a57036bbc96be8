#include "tensor/nearest.h"

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <optional>
#include <utility>

namespace vitrine {
namespace {

// Costs in hundredths of a letter, so that numbers can differ by less than one.
constexpr int kLetter = 100;
constexpr int kWord = 2 * kLetter;  // at most, for a word that only one side has
constexpr std::size_t kLongest =
    256;  // names beyond this are cut: the time grows with the product of the lengths

bool is_separator(char c) {
  return c == '.' || c == '_' || c == '/' || c == '-' || c == ' ' || c == ':';
}

char lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; }

std::vector<std::string> words_of(std::string_view name) {
  std::vector<std::string> words(1);
  for (const char c : name.substr(0, kLongest)) {
    if (!is_separator(c)) {
      words.back() += lower(c);
    } else if (!words.back().empty()) {
      words.emplace_back();
    }
  }
  if (words.back().empty()) words.pop_back();
  return words;
}

std::optional<int> number_of(std::string_view word) {
  int value = 0;
  const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), value);
  if (error != std::errc{} || end != word.data() + word.size()) return std::nullopt;
  return value;
}

// Levenshtein distance over two sequences with the given costs; a swap of neighbours is not
// special.
template <class Sequence, class Drop, class Change>
int edit_distance(const Sequence& a, const Sequence& b, Drop drop, Change change) {
  std::vector<int> row(b.size() + 1,
                       0);  // row[j]: the distance of the prefix of a so far to the first j of b
  for (std::size_t j = 0; j < b.size(); ++j) row[j + 1] = row[j] + drop(b[j]);
  for (const auto& x : a) {
    int diagonal = row[0];
    row[0] += drop(x);
    for (std::size_t j = 0; j < b.size(); ++j) {
      const int changed = diagonal + change(x, b[j]);
      diagonal = row[j + 1];
      row[j + 1] = std::min({changed, row[j + 1] + drop(x), row[j] + drop(b[j])});
    }
  }
  return row.back();
}

int letters(std::string_view a, std::string_view b) {
  return edit_distance(
      a, b, [](char) { return kLetter; }, [](char x, char y) { return x == y ? 0 : kLetter; });
}

int word_change(const std::string& a, const std::string& b) {
  if (a == b) return 0;
  const std::optional<int> x = number_of(a), y = number_of(b);
  if (x && y)
    return kLetter + static_cast<int>(std::min<std::int64_t>(std::abs(std::int64_t{*x} - *y), 99));
  return letters(a, b);
}

int word_drop(const std::string& word) {
  return std::min(static_cast<int>(word.size()) * kLetter, kWord);
}

int distance(const std::vector<std::string>& a, const std::vector<std::string>& b) {
  return edit_distance(a, b, word_drop, word_change);
}

// The distance to the empty name; two names without anything in common are this far from it, and
// from each other both.
int weight(const std::vector<std::string>& words) {
  int sum = 0;
  for (const std::string& word : words) sum += word_drop(word);
  return sum;
}

bool is_near(int cost, int wanted_weight, int other_weight) {
  const bool half_in_common = 2 * cost <= wanted_weight + other_weight;
  const bool part_of_other = wanted_weight > 0 && cost <= other_weight - wanted_weight;
  return half_in_common || part_of_other;
}

}  // namespace

std::vector<std::string> nearest(std::string_view wanted, std::span<const std::string> names,
                                 int count) {
  const std::vector<std::string> words = words_of(wanted);
  std::vector<std::pair<int, std::size_t>> found;  // cost and place
  for (std::size_t i = 0; i < names.size(); ++i) {
    const std::vector<std::string> other = words_of(names[i]);
    const int cost = distance(words, other);
    if (is_near(cost, weight(words), weight(other))) found.emplace_back(cost, i);
  }
  const std::size_t kept = std::min(found.size(), static_cast<std::size_t>(std::max(count, 0)));
  std::partial_sort(found.begin(), found.begin() + static_cast<std::ptrdiff_t>(kept), found.end());
  std::vector<std::string> out;
  for (std::size_t i = 0; i < kept; ++i) out.push_back(names[found[i].second]);
  return out;
}

std::string did_you_mean(std::span<const std::string> near) {
  if (near.empty()) return "";
  std::string out = " (did you mean ";
  for (std::size_t i = 0; i < near.size(); ++i) {
    if (i > 0) out += i + 1 == near.size() ? " or " : ", ";
    out += near[i];
  }
  return out + "?)";
}

}  // namespace vitrine
