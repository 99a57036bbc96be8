// Heatmaps: a matrix of numbers for a terminal, coloured by size.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "apps/terminal/text.h"

namespace vitrine::app {

struct Heatmap {
  struct Titles {
    std::string name;                  // stands before the line
    std::vector<std::string> columns;  // one each
  };
  std::vector<Titles> titles;     // lines above the columns
  std::vector<std::string> rows;  // what stands before each row
  std::vector<double> cells;      // [row, column]; exactly 0 is shown as a dot
  bool signs = true;              // +0.50; false: 0.50, for what is never below 0
  std::size_t most_blocks = 4;    // one below the other, where it is wider than the terminal

  // Less than 0 is blue, more is red, the largest of all in full colour; without colours the
  // signed numbers alone, which have no sign where they round to 0. What does not fit into
  // `columns` of the terminal stands in further blocks below; of what would be more blocks than that the
  // columns with the largest numbers are shown, and a line says so.
  std::string text(const Style& style, int columns) const;
};

}  // namespace vitrine::app
