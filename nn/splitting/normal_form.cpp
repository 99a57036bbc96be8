#include "nn/splitting/normal_form.h"

#include <algorithm>
#include <tuple>
#include <vector>

#include "tensor/files/utf8.h"

namespace vitrine::nn {
namespace {

// Below this nothing decomposes into, or composes with, what stands before it.
constexpr char32_t kFirstMark = 0x300;

// Hangul syllables are a leading consonant, a vowel and perhaps a trailing consonant, numbered in
// order (The Unicode Standard, section 3.12).
constexpr char32_t kSyllables = 0xAC00, kLeading = 0x1100, kVowels = 0x1161, kTrailing = 0x11A7;
constexpr char32_t kLeadingCount = 19, kVowelCount = 21, kTrailingCount = 28;
constexpr char32_t kSyllableCount = kLeadingCount * kVowelCount * kTrailingCount;

bool is_syllable(char32_t c) { return c >= kSyllables && c < kSyllables + kSyllableCount; }

const Decomposition* decomposition(char32_t c) {
  const auto all = unicode_decompositions();
  const auto at = std::lower_bound(
      all.begin(), all.end(), c,
      [](const Decomposition& one, char32_t wanted) { return one.composed < wanted; });
  return at != all.end() && at->composed == c ? &*at : nullptr;
}

int combining_class(char32_t c) {
  if (c < kFirstMark) return 0;
  const auto all = unicode_combining_ranges();
  const auto after = std::upper_bound(
      all.begin(), all.end(), c,
      [](char32_t wanted, const CombiningRange& range) { return wanted < range.first; });
  if (after == all.begin() || c > (after - 1)->last) return 0;
  return (after - 1)->combining_class;
}

// The pairs that compose, in order, so that a pair can be looked up.
const std::vector<Decomposition>& compositions() {
  static const std::vector<Decomposition> kSorted = [] {
    std::vector<Decomposition> pairs;
    for (const Decomposition& one : unicode_decompositions()) {
      if (one.composes) pairs.push_back(one);
    }
    std::sort(pairs.begin(), pairs.end(), [](const Decomposition& a, const Decomposition& b) {
      return std::tie(a.first, a.second) < std::tie(b.first, b.second);
    });
    return pairs;
  }();
  return kSorted;
}

// The character that two others make, or 0.
char32_t composed(char32_t first, char32_t second) {
  if (first >= kLeading && first < kLeading + kLeadingCount && second >= kVowels &&
      second < kVowels + kVowelCount) {
    return kSyllables + ((first - kLeading) * kVowelCount + (second - kVowels)) * kTrailingCount;
  }
  if (is_syllable(first) && (first - kSyllables) % kTrailingCount == 0 && second > kTrailing &&
      second < kTrailing + kTrailingCount) {
    return first + (second - kTrailing);
  }
  const auto& pairs = compositions();
  const auto at = std::lower_bound(pairs.begin(), pairs.end(), std::pair(first, second),
                                   [](const Decomposition& one, const auto& wanted) {
                                     return std::pair(one.first, one.second) < wanted;
                                   });
  return at != pairs.end() && at->first == first && at->second == second ? at->composed : 0;
}

// Whether some pair that composes ends in this character.
bool ends_a_pair(char32_t c) {
  static const std::vector<char32_t> kSeconds = [] {
    std::vector<char32_t> seconds;
    for (const Decomposition& one : compositions()) seconds.push_back(one.second);
    std::sort(seconds.begin(), seconds.end());
    return seconds;
  }();
  const bool vowel = c >= kVowels && c < kVowels + kVowelCount;
  const bool trailing = c > kTrailing && c < kTrailing + kTrailingCount;
  return vowel || trailing || std::binary_search(kSeconds.begin(), kSeconds.end(), c);
}

void append_decomposed(std::vector<char32_t>& out, char32_t c) {
  if (is_syllable(c)) {
    const char32_t index = c - kSyllables;
    out.push_back(kLeading + index / (kVowelCount * kTrailingCount));
    out.push_back(kVowels + index / kTrailingCount % kVowelCount);
    if (index % kTrailingCount != 0) out.push_back(kTrailing + index % kTrailingCount);
  } else if (const Decomposition* parts = decomposition(c)) {
    append_decomposed(out, parts->first);
    if (parts->second != 0) out.push_back(parts->second);  // which does not decompose further
  } else {
    out.push_back(c);
  }
}

// Marks in order of their classes; those of one class keep theirs.
void order_marks(std::vector<char32_t>& text) {
  for (std::size_t i = 0; i < text.size();) {
    std::size_t end = i;
    while (end < text.size() && combining_class(text[end]) != 0) ++end;
    std::stable_sort(text.begin() + i, text.begin() + end, [](char32_t a, char32_t b) {
      return combining_class(a) < combining_class(b);
    });
    i = end + 1;
  }
}

// Each character joins the last one of class 0 before it, unless another in between has its class
// or a higher one.
void compose(std::vector<char32_t>& text) {
  constexpr std::size_t kNone = SIZE_MAX;
  std::size_t starter = kNone, size = 0;
  int before = 0;  // the class of the last character after the starter
  for (const char32_t c : text) {
    const int order = combining_class(c);
    const bool adjacent = starter != kNone && size == starter + 1;
    if (starter != kNone && (adjacent || (before != 0 && before < order))) {
      if (const char32_t both = composed(text[starter], c)) {
        text[starter] = both;
        continue;
      }
    }
    if (order == 0) starter = size;
    before = order;
    text[size++] = c;
  }
  text.resize(size);
}

}  // namespace

bool surely_normal_form_c(std::string_view text) {
  for (std::size_t i = 0; i < text.size();) {
    if (static_cast<unsigned char>(text[i]) < 0x80) {
      ++i;
      continue;
    }
    const Character c = read_character(text, i);
    i += c.length;
    if (!c.valid || c.code_point < kFirstMark) continue;
    if (combining_class(c.code_point) != 0 || ends_a_pair(c.code_point)) return false;
    if (const Decomposition* parts = decomposition(c.code_point); parts && !parts->composes)
      return false;
  }
  return true;
}

std::string normal_form_c(std::string_view text) {
  if (surely_normal_form_c(text)) return std::string(text);
  std::string out;
  out.reserve(text.size());
  std::vector<char32_t> characters;
  const auto flush = [&] {
    order_marks(characters);
    compose(characters);
    for (const char32_t c : characters) append_utf8(out, c);
    characters.clear();
  };
  for (std::size_t i = 0; i < text.size();) {
    const Character c = read_character(text, i);
    if (c.valid) {
      // Nothing reaches across a character below the marks that follows one of its kind.
      if (c.code_point < kFirstMark && characters.size() > 4096) flush();
      append_decomposed(characters, c.code_point);
    } else {
      flush();
      out += text.substr(i, c.length);
    }
    i += c.length;
  }
  flush();
  return out;
}

}  // namespace vitrine::nn
