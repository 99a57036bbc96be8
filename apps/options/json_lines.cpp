#include "apps/options/json_lines.h"

#include <fmt/format.h>

#include <algorithm>

#include "apps/options/options.h"
#include "tensor/files/file.h"

namespace vitrine::app {

JsonLines::JsonLines(const std::string& file)
    : name_(file == "-" ? "stdin" : file), text_(file == "-" ? read_stdin() : read_text(file)) {}

bool JsonLines::next() {
  while (begin_ < text_.size()) {
    done_ = std::min(text_.find('\n', begin_), text_.size());
    line_ = std::string_view(text_).substr(begin_, done_ - begin_);
    begin_ = done_ + 1;
    ++number_;
    if (line_.find_first_not_of(" \t\r") != std::string_view::npos) return true;
  }
  return false;
}

std::string JsonLines::where() const { return fmt::format("{}:{}", name_, number_); }

}  // namespace vitrine::app
