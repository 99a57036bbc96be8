#include "apps/options/csv_file.h"

#include <fmt/format.h>

#include <algorithm>

#include "tensor/error.h"
#include "tensor/files/file.h"
#include "tensor/files/utf8.h"

namespace vitrine::app {
namespace {

// Reads cells one after the other, counting lines: a cell in quotes may have line ends in it.
class CsvReader {
 public:
  CsvReader(std::string_view text, std::string_view name) : text_(text), name_(name) {
    constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";
    if (text_.starts_with(kByteOrderMark)) at_ = kByteOrderMark.size();
  }

  // The cells of the next line that is not blank, false at the end of the text.
  bool next(std::vector<std::string>& cells) {
    while (at_ < text_.size() && ends_line()) pass_line_end();
    if (at_ >= text_.size()) return false;
    first_line_ = line_;
    cells = {cell()};
    while (at_ < text_.size() && text_[at_] == ',') {
      ++at_;
      cells.push_back(cell());
    }
    if (at_ < text_.size()) pass_line_end();
    return true;
  }
  [[noreturn]] void refuse(const std::string& what) const {
    throw FileError(fmt::format("{}:{}: {}", name_, first_line_, what));
  }

 private:
  bool ends_line() const { return text_[at_] == '\n' || text_.substr(at_).starts_with("\r\n"); }
  void pass_line_end() {
    at_ += text_[at_] == '\r' ? 2 : 1;
    ++line_;
  }
  std::string cell() { return at_ < text_.size() && text_[at_] == '"' ? quoted() : plain(); }
  std::string plain() {
    const std::size_t begin = at_;
    while (at_ < text_.size() && text_[at_] != ',' && !ends_line()) {
      if (text_[at_] == '"') {
        refuse(
            fmt::format("there is a quote inside the cell {}; put the whole cell in quotes, and "
                        "write \"\" for one",
                        nn::quote(text_.substr(begin, at_ + 1 - begin))));
      }
      ++at_;
    }
    return std::string(text_.substr(begin, at_ - begin));
  }
  std::string quoted() {
    std::string cell;
    for (++at_; at_ < text_.size(); ++at_) {
      if (text_[at_] == '\n') ++line_;
      if (text_[at_] != '"') {
        cell += text_[at_];
      } else if (text_.substr(at_ + 1).starts_with("\"")) {
        cell += text_[at_++];
      } else {
        ++at_;
        if (at_ == text_.size() || text_[at_] == ',' || ends_line()) return cell;
        refuse(fmt::format("something follows the quotes of the cell {}", nn::quote(cell)));
      }
    }
    refuse("a cell in quotes has no end");
  }

  std::string_view text_, name_;
  std::size_t at_ = 0;
  int line_ = 1, first_line_ = 1;  // first_line_: where the cells of `next` begin
};

}  // namespace

CsvTable read_csv(const std::string& file) { return parse_csv(read_text(file), file); }

CsvTable parse_csv(std::string_view text, std::string_view name) {
  CsvReader reader(text, name);
  CsvTable table;
  if (!reader.next(table.columns)) {
    throw FileError(fmt::format(
        "{}: it is empty; expected a line of column names, then a row of cells a line", name));
  }
  for (std::size_t c = 0; c < table.columns.size(); ++c) {
    const auto here = table.columns.begin() + static_cast<std::ptrdiff_t>(c);
    if (here->empty()) reader.refuse(fmt::format("column {} has no name", c + 1));
    if (std::find(table.columns.begin(), here, *here) != here)
      reader.refuse(fmt::format("two columns are called {}", nn::quote(*here)));
  }
  for (std::vector<std::string> row; reader.next(row); table.rows.push_back(row)) {
    if (row.size() == table.columns.size()) continue;
    reader.refuse(
        fmt::format("{} cells, but the first line names {} columns (a cell with a comma "
                    "in it is put in quotes)",
                    row.size(), table.columns.size()));
  }
  if (table.rows.empty())
    throw FileError(fmt::format("{}: there are no rows below the names of the columns", name));
  return table;
}

std::vector<std::string> parse_csv_line(std::string_view line, std::string_view name) {
  CsvReader reader(line, name);
  std::vector<std::string> cells, more;
  if (!reader.next(cells)) return {};
  if (reader.next(more)) reader.refuse("there is more than one line");
  return cells;
}

}  // namespace vitrine::app
