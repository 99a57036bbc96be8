// JSON text of untrusted files: checks it before it is parsed, and quotes it in messages.
//
// Who reads a file uses json_reader.h.
#pragma once

#include <cstddef>
#include <exception>
#include <string>
#include <string_view>

namespace vitrine {

// How deeply lists and objects may lie inside each other. Trees are walked, printed and freed by
// recursion, so that depth is stack; what this program reads is some five deep.
inline constexpr std::size_t kDeepestJson = 200;

// The text, checked and made plain before it is parsed, in one pass over it and no recursion.
// Python writes the bare words NaN, Infinity and -Infinity, which are not JSON: they become
// strings, so that a field that should be a number is refused by its name, and one that is not used
// does no harm. Throws FileError for what is nested too deeply and for a zero byte. `where` is the
// file in messages.
class PlainJson {
 public:
  PlainJson(std::string_view text, const std::string& where);
  PlainJson(const PlainJson&) = delete;
  PlainJson& operator=(const PlainJson&) = delete;

  std::string_view text() const { return text_; }

 private:
  std::string changed_;    // when there was something to replace
  std::string_view text_;  // this, or what was given
};

// What nlohmann's parser says is wrong with a text, without its own name for the error; valid
// UTF-8.
std::string json_mistake(const std::exception& error);

// The same without the parser's words for the place, where the caller names a better one.
std::string json_mistake_alone(const std::exception& error);

// A name or a piece of text from an untrusted file, in single quotes, for a message: control
// characters are escaped (\x0a), what is not UTF-8 becomes U+FFFD, and a long one is cut.
std::string printable(std::string_view text);

}  // namespace vitrine
