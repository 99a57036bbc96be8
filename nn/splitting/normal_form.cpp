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

const CanonicalParts* decomposition(char32_t c) {
  const auto all = unicode_decompositions();
  const auto at = std::lower_bound(
      all.begin(), all.end(), c,
      [](const CanonicalParts& one, char32_t wanted) { return one.composed < wanted; });
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
const std::vector<CanonicalParts>& compositions() {
  static const std::vector<CanonicalParts> kSorted = [] {
    std::vector<CanonicalParts> pairs;
    for (const CanonicalParts& one : unicode_decompositions()) {
      if (one.composes) pairs.push_back(one);
    }
    std::sort(pairs.begin(), pairs.end(), [](const CanonicalParts& a, const CanonicalParts& b) {
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
                                   [](const CanonicalParts& one, const auto& wanted) {
                                     return std::pair(one.first, one.second) < wanted;
                                   });
  return at != pairs.end() && at->first == first && at->second == second ? at->composed : 0;
}

// Whether some pair that composes ends in this character.
bool ends_a_pair(char32_t c) {
  static const std::vector<char32_t> kSeconds = [] {
    std::vector<char32_t> seconds;
    for (const CanonicalParts& one : compositions()) seconds.push_back(one.second);
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
  } else if (const CanonicalParts* parts = decomposition(c)) {
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

// Whether a text in form C may begin with this character whatever comes before it: it is of class 0,
// composes with nothing before it, and stays as it is.
bool begins_anew(char32_t c) {
  if (c < kFirstMark) return true;
  if (combining_class(c) != 0 || ends_a_pair(c)) return false;
  const CanonicalParts* parts = decomposition(c);
  return parts == nullptr || parts->composes;
}

// The first character from `begin` on that does not begin anew, or the end. `last`: the character
// before it.
std::size_t first_doubt(std::string_view text, std::size_t begin, std::size_t& last) {
  last = begin;
  for (std::size_t i = begin; i < text.size();) {
    if (static_cast<unsigned char>(text[i]) < 0x80) {
      last = i++;
      continue;
    }
    const Character c = read_character(text, i);
    if (c.valid && !begins_anew(c.code_point)) return i;
    last = i;
    i += c.length;
  }
  return text.size();
}

}  // namespace

bool surely_normal_form_c(std::string_view text) {
  std::size_t last = 0;
  return first_doubt(text, 0, last) == text.size();
}

std::string normal_form_c(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  std::vector<char32_t> characters;
  for (std::size_t begin = 0; begin < text.size();) {
    std::size_t last = begin;
    if (first_doubt(text, begin, last) == text.size()) {
      out += text.substr(begin);
      break;
    }
    // From the character before the one in doubt up to the next that begins anew.
    out += text.substr(begin, last - begin);
    characters.clear();
    bool doubted = false;
    for (begin = last; begin < text.size();) {
      const Character c = read_character(text, begin);
      if (!c.valid || (doubted && begins_anew(c.code_point))) break;
      doubted = doubted || !begins_anew(c.code_point);
      append_decomposed(characters, c.code_point);
      begin += c.length;
    }
    order_marks(characters);
    compose(characters);
    for (const char32_t c : characters) append_utf8(out, c);
    if (begin == last) {  // a byte that is no character
      const std::size_t length = read_character(text, begin).length;
      out += text.substr(begin, length);
      begin += length;
    }
  }
  return out;
}

}  // namespace vitrine::nn
