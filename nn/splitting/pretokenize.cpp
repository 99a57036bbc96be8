#include "nn/splitting/pretokenize.h"

#include <array>

#include "nn/splitting/unicode_tables.h"
#include "tensor/files/utf8.h"

namespace vitrine::nn {
namespace {

constexpr std::array<CharacterClass, 128> make_ascii_classes() {
  std::array<CharacterClass, 128> classes{};  // other
  for (char c = 'A'; c <= 'Z'; ++c) classes[c] = classes[c + 32] = CharacterClass::letter;
  for (char c = '0'; c <= '9'; ++c) classes[c] = CharacterClass::number;
  for (const char c : {'\t', '\n', '\v', '\f', '\r', ' '}) classes[c] = CharacterClass::space;
  return classes;
}
constexpr std::array<CharacterClass, 128> kAsciiClasses = make_ascii_classes();

struct Scanned {
  CharacterClass kind;
  std::size_t length;  // in bytes
};

inline Scanned scan(std::string_view text, std::size_t position) {
  const auto byte = static_cast<unsigned char>(text[position]);
  if (byte < 0x80) return {kAsciiClasses[byte], 1};
  const Character c = read_character(text, position);
  return {c.valid ? character_class(c.code_point) : CharacterClass::other, c.length};
}

// The end of the run of characters of class `kind` that goes on at `position`.
std::size_t run_end(std::string_view text, std::size_t position, CharacterClass kind) {
  while (position < text.size()) {
    const Scanned next = scan(text, position);
    if (next.kind != kind) break;
    position += next.length;
  }
  return position;
}

// The length of 's, 't, 'm, 'd, 're, 've or 'll at the start of `text`, or 0. Lower case only, as
// in the pattern: "IT'S" is cut into IT|'|S.
std::size_t contraction_length(std::string_view text) {
  if (text.size() < 2 || text[0] != '\'') return 0;
  const char c = text[1];
  if (c == 's' || c == 't' || c == 'm' || c == 'd') return 2;
  const std::string_view three = text.substr(0, 3);
  return three == "'re" || three == "'ve" || three == "'ll" ? 3 : 0;
}

}  // namespace

std::size_t piece_end(std::string_view text, std::size_t begin) {
  if (const std::size_t length = contraction_length(text.substr(begin))) return begin + length;

  const Scanned first = scan(text, begin);
  const std::size_t second_begin = begin + first.length;
  // \p{L}+  \p{N}+  [^\s\p{L}\p{N}]+
  if (first.kind != CharacterClass::space) return run_end(text, second_begin, first.kind);

  // The same three with the ` ?` before them: U+0020 alone joins the word that follows it.
  if (text[begin] == ' ' && second_begin < text.size()) {
    const Scanned second = scan(text, second_begin);
    if (second.kind != CharacterClass::space) {
      return run_end(text, second_begin + second.length, second.kind);
    }
  }

  // \s+(?!\S): spaces up to the end of the text; or, before a word, all of them but the last, which
  // may join the word. \s+: a single space that cannot be left over, such as a line break.
  std::size_t last = begin;
  std::size_t end = second_begin;
  while (end < text.size()) {
    const Scanned next = scan(text, end);
    if (next.kind != CharacterClass::space) return last > begin ? last : end;
    last = end;
    end += next.length;
  }
  return end;
}

}  // namespace vitrine::nn
