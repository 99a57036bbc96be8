#include "apps/experiment/roles.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <vector>

#include "apps/terminal/numbers.h"
#include "tensor/error.h"
#include "tensor/files/utf8.h"

namespace vitrine::app {
namespace {

using interp::Span;

// A prompt as bytes, and where its tokens begin.
struct Spelled {
  std::string bytes;
  std::vector<std::size_t> begins;  // of each token, and the end of the last
};
Spelled spelled(const nn::Tokenizer& tokenizer, const nn::Tokens& prompt) {
  Spelled s;
  for (const int id : prompt) {
    s.begins.push_back(s.bytes.size());
    s.bytes += tokenizer.shown(id);
  }
  s.begins.push_back(s.bytes.size());
  return s;
}

std::vector<std::size_t> occurrences(std::string_view of, std::string_view in) {
  std::vector<std::size_t> found;
  for (std::size_t at = in.find(of); at != std::string_view::npos; at = in.find(of, at + 1))
    found.push_back(at);
  return found;
}

class RoleReader {
 public:
  RoleReader(const nn::Model& model, const nn::Tokens& prompt, std::string_view text)
      : model_(model), prompt_(prompt), text_(text) {}

  Span span(const std::string& name, const JsonValue& value) const {
    const std::string role = fmt::format("the role {}", nn::quote(name));
    if (value.text() != nullptr) return of_text(role, *value.text());
    if (const auto position = value.whole()) {
      const auto length = std::ssize(prompt_);
      const std::int64_t at = *position < 0 ? *position + length : *position;
      if (at >= 0 && at < length) return {at, at + 1};
      throw ContextError(
          fmt::format("{}: there is no position {}: the prompt has {} tokens, 0 to {}", role,
                      *position, length, length - 1));
    }
    const auto* list = value.list_items();
    const auto begin = list != nullptr && list->size() == 2 ? (*list)[0].whole() : std::nullopt;
    const auto end = begin ? (*list)[1].whole() : std::nullopt;
    if (!end) {
      throw FileError(
          fmt::format("{} is {}; expected a text that occurs once in the prompt, a position "
                      "(3, or -1 from the end) or [begin, end] of two positions",
                      role, nn::quote(value.line())));
    }
    if (*begin >= 0 && *begin < *end && *end <= std::ssize(prompt_)) return {*begin, *end};
    throw ContextError(
        fmt::format("{}: [{}, {}] is not a part of the prompt's {} tokens; positions "
                    "count from 0, and the end is the one after the last",
                    role, *begin, *end, prompt_.size()));
  }

 private:
  Span of_text(const std::string& role, const std::string& text) const {
    if (!model_.has_tokenizer()) {
      throw TokenError(fmt::format("{} is text, but {}; give its position, or [begin, end]", role,
                                   model_.why_no_tokenizer()));
    }
    if (text.empty()) throw FileError(fmt::format("{} is an empty text", role));
    const Spelled s = spelled(model_.tokenizer(), prompt_);
    const auto found = occurrences(text, s.bytes);
    if (found.empty())
      throw FileError(fmt::format("{}: {} does not occur in the prompt", role, nn::quote(text)));
    if (found.size() > 1) {
      throw FileError(fmt::format("{}: {} occurs {} times; give the position", role,
                                  nn::quote(text), found.size()));
    }
    const auto begin = token_at(s, start_of(s, found[0]));
    const auto end = token_at(s, found[0] + text.size());
    if (begin && end) return {*begin, *end};
    throw FileError(fmt::format("{}: {} does not begin and end where tokens do: {}", role,
                                nn::quote(text), around(s, found[0], found[0] + text.size())));
  }

  // Some tokenizers put a space before a text: its first word is written without it.
  std::size_t start_of(const Spelled& s, std::size_t found) const {
    const auto first = static_cast<std::size_t>(std::ssize(model_.tokenizer().first()));
    const bool put_in = first < prompt_.size() && s.bytes[s.begins[first]] == ' ' &&
                        !text_.empty() && text_.front() != ' ';
    return put_in && found == s.begins[first] + 1 ? s.begins[first] : found;
  }
  static std::optional<std::int64_t> token_at(const Spelled& s, std::size_t byte) {
    const auto at = std::lower_bound(s.begins.begin(), s.begins.end(), byte);
    if (at == s.begins.end() || *at != byte) return std::nullopt;
    return at - s.begins.begin();
  }
  // The tokens that the bytes lie in: " Tex" " as".
  std::string around(const Spelled& s, std::size_t begin, std::size_t end) const {
    std::string tokens;
    for (std::size_t t = 0; t + 1 < s.begins.size(); ++t) {
      if (s.begins[t + 1] <= begin || s.begins[t] >= end) continue;
      tokens += fmt::format("{}{}", tokens.empty() ? "" : " ",
                            nn::quote(s.bytes.substr(s.begins[t], s.begins[t + 1] - s.begins[t])));
    }
    return tokens;
  }

  const nn::Model& model_;
  const nn::Tokens& prompt_;
  std::string_view text_;
};

}  // namespace

std::map<std::string, Span, std::less<>> read_roles(const JsonValue& roles, const nn::Model& model,
                                                    const nn::Tokens& prompt,
                                                    std::string_view text) {
  if (roles.fields() == nullptr) {
    throw FileError(
        fmt::format("\"roles\" must be an object, {{\"subject\": \" Texas\", \"end\": "
                    "-1}}, but is {}",
                    nn::quote(roles.line())));
  }
  std::map<std::string, Span, std::less<>> found;
  for (const auto& [name, value] : *roles.fields()) {
    if (name.empty() || name == "all" || interp::parse_position(name).role.empty() ||
        written_out({name}) != std::vector{name}) {
      throw FileError(
          fmt::format("a role cannot be called {}: where a position is asked for, that "
                      "means something else",
                      nn::quote(name)));
    }
    found[name] = RoleReader(model, prompt, text).span(name, value);
  }
  return found;
}

}  // namespace vitrine::app
