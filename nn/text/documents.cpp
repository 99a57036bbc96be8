#include "nn/text/documents.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "tensor/error.h"
#include "tensor/files/file.h"
#include "tensor/files/json_text.h"
#include "tensor/files/utf8.h"

namespace vitrine::nn {
namespace {

using Json = nlohmann::json;

// ---- lines --------------------------------------------------------------------------------------
struct Line {
  std::string_view text;           // without its end, which is \n or \r\n
  std::int64_t number = 0;         // from 1
  std::size_t begin = 0, end = 0;  // in the file; `end` is past the line's end

  bool blank() const { return text.find_first_not_of(" \t\r") == text.npos; }
};

class Lines {
 public:
  explicit Lines(std::string_view text) : text_(text) {}

  bool next() {
    const std::size_t begin = line_.end;
    if (begin >= text_.size()) return false;
    const std::size_t stop = std::min(text_.find('\n', begin), text_.size());
    line_ = {text_.substr(begin, stop - begin), line_.number + 1, begin,
             std::min(stop + 1, text_.size())};
    if (line_.text.ends_with('\r')) line_.text.remove_suffix(1);
    return true;
  }
  const Line& line() const { return line_; }

 private:
  std::string_view text_;
  Line line_;
};

// ---- plain text ---------------------------------------------------------------------------------
using VisitDocument = std::function<void(const Document&)>;

void visit_text(std::string_view text, std::int64_t line, std::size_t end,
                const VisitDocument& visit) {
  if (!text.empty()) visit({text, {}, false, line, static_cast<std::int64_t>(end)});
}

void visit_lines(std::string_view text, const VisitDocument& visit) {
  for (Lines lines(text); lines.next();) {
    const Line& line = lines.line();
    if (!line.blank()) visit_text(line.text, line.number, line.end, visit);
  }
}

void visit_paragraphs(std::string_view text, const VisitDocument& visit) {
  Line first, last;
  bool inside = false;
  const auto finish = [&] {
    if (!inside) return;
    const std::size_t length = last.begin + last.text.size() - first.begin;
    visit_text(text.substr(first.begin, length), first.number, last.end, visit);
    inside = false;
  };
  for (Lines lines(text); lines.next();) {
    if (lines.line().blank()) {
      finish();
      continue;
    }
    if (!inside) first = lines.line();
    last = lines.line();
    inside = true;
  }
  finish();
}

// ---- JSONL --------------------------------------------------------------------------------------
constexpr const char* kExpected = R"(expected one {"text": "..."} or {"tokens": [1, 2, 3]} a line)";

// Takes the two fields out of one line as the parser goes over it, and builds no values for the
// rest. The names of the member functions are nlohmann's.
class LineParser : public nlohmann::json_sax<Json> {
 public:
  explicit LineParser(std::string where) : where_(std::move(where)) {}

  bool null() override { return value("null"); }
  bool boolean(bool) override { return value("true or false"); }
  bool number_integer(number_integer_t number) override { return id(fmt::format("{}", number)); }
  bool number_unsigned(number_unsigned_t number) override {
    if (in_tokens() && number <= INT32_MAX) {
      tokens.push_back(static_cast<int>(number));
      return true;
    }
    return id(fmt::format("{}", number));
  }
  bool number_float(number_float_t, const string_t& spelling) override { return id(spelling); }
  bool string(string_t& string) override {
    if (depth_ == 1 && field_ == Field::text) {
      text = std::move(string);
      return true;
    }
    return in_tokens() ? id(quote(string)) : value("a string");
  }
  bool binary(binary_t&) override { return true; }  // JSON has none
  bool start_object(std::size_t) override { return open("an object"); }
  bool end_object() override { return close(); }
  bool start_array(std::size_t) override {
    if (depth_ == 1 && field_ == Field::tokens) return ++depth_, true;
    return open("a list");
  }
  bool end_array() override { return close(); }

  bool key(string_t& name) override {
    if (depth_ != 1) return true;
    field_ = name == "text" ? Field::text : name == "tokens" ? Field::tokens : Field::other;
    if (field_ == Field::other) return true;
    bool& seen = field_ == Field::text ? has_text : has_tokens;
    if (seen) fail(fmt::format("\"{}\" occurs twice; keep one of them", name));
    seen = true;
    if (has_text && has_tokens) {
      fail("there are both \"text\" and \"tokens\"; keep one of them");
    }
    return true;
  }

  bool parse_error(std::size_t position, const std::string&,
                   const nlohmann::detail::exception& error) override {
    const std::string what = json_mistake_alone(error);
    const bool not_utf8 = what.find("UTF-8") != what.npos;
    fail(fmt::format("not valid JSON at byte {} of the line: {}; {}", position, what,
                     not_utf8 ? "JSON must be UTF-8: convert the file, or give it as plain text "
                                "(any name that does not end in .jsonl), which may hold any bytes"
                              : kExpected));
  }

  const std::string& where() const { return where_; }

  std::string text;
  std::vector<int> tokens;
  bool has_text = false, has_tokens = false;

  [[noreturn]] void fail(std::string_view what) const {
    throw FileError(fmt::format("{}: {}", where_, what));
  }

 private:
  enum class Field { other, text, tokens };

  bool in_tokens() const { return depth_ == 2 && field_ == Field::tokens; }

  // A value that is neither a text nor a list of ids: it may stand in other fields alone.
  bool value(std::string_view what) const {
    if (depth_ == 0) fail(fmt::format("the line is {}, not an object; {}", what, kExpected));
    if (in_tokens()) {
      fail(fmt::format("\"tokens\" holds {}; a token id is a whole number from 0", what));
    }
    if (depth_ > 1 || field_ == Field::other) return true;
    fail(fmt::format("\"{}\" is {}, not {}; {}", field_ == Field::text ? "text" : "tokens", what,
                     field_ == Field::text ? "a string" : "a list of ids", kExpected));
  }
  bool id(const std::string& spelling) const {
    if (in_tokens()) {
      fail(fmt::format("\"tokens\" holds {}; a token id is a whole number from 0 to {}", spelling,
                       INT32_MAX));
    }
    return value("a number");
  }
  bool open(std::string_view what) {
    if (depth_ > 0 || what == "a list") value(what);
    ++depth_;
    return true;
  }
  bool close() {
    if (--depth_ == 1) field_ = Field::other;
    return true;
  }

  std::string where_;
  int depth_ = 0;  // how many objects and lists are open
  Field field_ = Field::other;
};

void visit_jsonl(std::string_view text, const std::string& file, const VisitDocument& visit) {
  for (Lines lines(text); lines.next();) {
    const Line& line = lines.line();
    if (line.blank()) continue;
    LineParser parser(fmt::format("{}, line {}", file, line.number));
    const PlainJson plain(line.text, parser.where());
    Json::sax_parse(plain.text().begin(), plain.text().end(), &parser);
    if (!parser.has_text && !parser.has_tokens) {
      parser.fail(fmt::format("there is neither \"text\" nor \"tokens\"; {}", kExpected));
    }
    if (parser.text.empty() && parser.tokens.empty()) continue;
    visit({parser.text, parser.tokens, parser.has_tokens, line.number,
           static_cast<std::int64_t>(line.end)});
  }
}

}  // namespace

void for_each_document(const std::filesystem::path& file, Split split, const VisitDocument& visit) {
  const MappedFile mapped = map_file(file);
  const std::string_view text(reinterpret_cast<const char*>(mapped.bytes.data()),
                              mapped.bytes.size());
  if (file.extension() == ".jsonl") return visit_jsonl(text, file.string(), visit);
  switch (split) {
    case Split::whole_file:
      return visit_text(text, 1, text.size(), visit);
    case Split::blank_line:
      return visit_paragraphs(text, visit);
    case Split::line:
      return visit_lines(text, visit);
  }
}

}  // namespace vitrine::nn
