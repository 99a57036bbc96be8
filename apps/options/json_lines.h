// Files with one JSON value a line (JSONL).
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace vitrine::app {

class JsonLines {
 public:
  // Reads all of the file; - is standard input. Throws FileError.
  explicit JsonLines(const std::string& file);
  JsonLines(const JsonLines&) = delete;  // line() is a part of it
  JsonLines& operator=(const JsonLines&) = delete;

  bool next();                                       // to the next line that is not blank
  std::string_view line() const { return line_; }    // without its end
  int number() const { return number_; }             // from 1, blank lines too
  std::string where() const;                         // FILE:NUMBER
  const std::string& name() const { return name_; }  // the file's, or stdin
  std::size_t size() const { return text_.size(); }  // bytes
  std::size_t done() const { return done_; }         // of these, up to the end of the line

 private:
  std::string name_, text_;
  std::string_view line_;
  int number_ = 0;
  std::size_t done_ = 0, begin_ = 0;
};

}  // namespace vitrine::app
