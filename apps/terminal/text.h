// Text for a terminal: what a token looks like, tables, bars, sizes and colours.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "nn/tokenizer/tokenizer.h"
#include "tensor/files/utf8.h"

namespace vitrine::app {

// Colours, or none of them; and how wide tables may be.
struct Style {
  bool colour = false;
  int columns = 0;  // 0: as wide as they are

  std::string bold(std::string_view text) const { return wrap("1", text); }
  std::string dim(std::string_view text) const { return wrap("2", text); }
  std::string strong(std::string_view text) const { return wrap("1;32", text); }  // the answer
  std::string bar(std::string_view text) const { return wrap("36", text); }
  std::string warning(std::string_view text) const { return wrap("1;33", text); }
  std::string failure(std::string_view text) const { return wrap("1;31", text); }
  // From blue (-1) over none (0) to red (1), in the 256 colours: letters when it is little, else
  // the ground.
  std::string heat(double fraction, std::string_view text) const;

 private:
  std::string wrap(const char* code, std::string_view text) const;
};

// Columns that a text takes on a terminal: escape sequences none, East Asian characters and emoji
// two.
int display_width(std::string_view text);

// At most `columns` columns of a text; "…" stands for what was cut off. Colours end where it ends.
std::string shortened(std::string_view text, int columns);

// Bytes as they can be printed within a line: \n, \t and other control characters escaped, what is
// not UTF-8 as \xHH.
using nn::visible;

// What the library calls by its names, by those of the program's options: --special.
std::string with_option_names(std::string message);

// A token in quotes, so that its spaces show: " Austin". Without a tokenizer, the id; <id 6015> for
// one that the tokenizer does not have.
std::string token_label(const nn::Tokenizer* tokenizer, int id);

// Rows in columns as wide as their widest cell, two spaces apart. What is wider than the style
// allows has its long texts shortened; where that is not enough, the columns are shown in blocks,
// one below the other, that begin with the first column.
class Table {
 public:
  enum class Align { left, right };
  struct Column {
    std::string title;
    Align align = Align::left;
  };
  explicit Table(std::vector<Column> columns) : columns_(std::move(columns)) {}
  void row(std::vector<std::string> cells) { rows_.push_back(std::move(cells)); }
  std::string text(const Style& style) const;  // without a line of titles when all are empty

 private:
  std::vector<int> widths(int most) const;  // of the columns, as far as they can be shortened
  std::string block(const std::vector<std::size_t>& shown, const std::vector<int>& width,
                    const Style& style) const;

  std::vector<Column> columns_;
  std::vector<std::vector<std::string>> rows_;
};

// `fraction` of `width` columns, in eighths of a block.
std::string bar(double fraction, int width);

std::string percent(double fraction);       // "97.93%", "<0.01%"
std::string byte_size(std::int64_t bytes);  // "4.5 MB", in powers of 1000
std::string duration(double seconds);       // "12 s", "3:05 min", "1:30 h"
std::string grouped(std::int64_t number);   // "124,439,808"

}  // namespace vitrine::app
