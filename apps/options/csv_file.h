// CSV files, read strictly (RFC 4180): a header line names the columns, cells may be in quotes.
//
//   state,capital
//   Texas,Austin
//   "Washington, the state",Olympia
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace vitrine::app {

struct CsvTable {
  std::vector<std::string> columns;            // different names
  std::vector<std::vector<std::string>> rows;  // each with a cell for every column
};

// Throws FileError, naming file and line, for a row with too few or too many cells, a quote in the
// middle of a cell or without an end, a column without a name or with that of another, and for a
// file without rows. `name` stands for the file. Blank lines count for nothing.
CsvTable read_csv(const std::string& file);
CsvTable parse_csv(std::string_view text, std::string_view name);

// One line of cells: Texas,"Washington, the state". Throws FileError like parse_csv.
std::vector<std::string> parse_csv_line(std::string_view line, std::string_view name);

}  // namespace vitrine::app
