#include "tensor/files/json_text.h"

#include <fmt/format.h>

#include <algorithm>

#include "tensor/error.h"
#include "tensor/files/utf8.h"

namespace vitrine {
namespace {

constexpr std::string_view kNumbersOfPython[] = {"NaN", "Infinity", "-Infinity"};

// "line 3, column 7" of a place in a text.
std::string place(std::string_view text, std::size_t at) {
  const std::string_view before = text.substr(0, at);
  const auto line = std::count(before.begin(), before.end(), '\n') + 1;
  const std::size_t begin = before.rfind('\n') + 1;  // 0 when there is none
  return fmt::format("line {}, column {}", line, at - begin + 1);
}

bool part_of_word(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
         c == '.' || c == '-' || c == '+';
}

// The word of Python that stands at text[at], or nothing.
std::string_view number_of_python(std::string_view text, std::size_t at) {
  if (at > 0 && part_of_word(text[at - 1])) return {};
  for (const std::string_view word : kNumbersOfPython) {
    if (!text.substr(at).starts_with(word)) continue;
    const std::size_t end = at + word.size();
    if (end == text.size() || !part_of_word(text[end])) return word;
  }
  return {};
}

}  // namespace

PlainJson::PlainJson(std::string_view text, const std::string& where) : text_(text) {
  std::size_t depth = 0, copied = 0;
  bool in_string = false;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (in_string) {
      if (c == '\\') ++i;
      if (c == '"') in_string = false;
    } else if (c == '"') {
      in_string = true;
    } else if (c == '[' || c == '{') {
      if (++depth > kDeepestJson) {
        throw FileError(
            fmt::format("{}: {}: lists and objects lie more than {} deep inside each other; "
                        "nothing that is read here is nested like that",
                        where, place(text, i), kDeepestJson));
      }
    } else if (c == ']' || c == '}') {
      if (depth > 0) --depth;
    } else if (c == '\0') {
      throw FileError(
          fmt::format("{}: not valid JSON: there is a zero byte at {}", where, place(text, i)));
    } else if (c == 'N' || c == 'I' || c == '-') {
      const std::string_view word = number_of_python(text, i);
      if (word.empty()) continue;
      changed_ += text.substr(copied, i - copied);
      changed_ += fmt::format("\"{}\"", word);
      copied = i + word.size();
      i = copied - 1;
    }
  }
  if (copied == 0) return;
  changed_ += text.substr(copied);
  text_ = changed_;
}

std::string json_mistake(const std::exception& error) {
  std::string what = error.what();  // "[json.exception.parse_error.101] parse error at line ..."
  if (const auto tag = what.find("] "); tag != what.npos) what.erase(0, tag + 2);
  return nn::replace_invalid_utf8(what);
}

std::string json_mistake_alone(const std::exception& error) {
  std::string what = json_mistake(error);  // "parse error at line 1, column 9: what happened"
  if (const auto place = what.find(": "); what.starts_with("parse error at ") && place != what.npos)
    what.erase(0, place + 2);
  return what;
}

std::string printable(std::string_view text) {
  constexpr std::size_t kLongest = 200;
  std::string out = "'";
  for (const char c : text.substr(0, kLongest)) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte < 0x20 || byte == 0x7f) {
      out += fmt::format("\\x{:02x}", byte);
    } else {
      out += c;
    }
  }
  return nn::replace_invalid_utf8(out) + (text.size() > kLongest ? "...'" : "'");
}

}  // namespace vitrine
