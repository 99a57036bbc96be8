#include "apps/terminal/heatmap.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numeric>

namespace vitrine::app {
namespace {

constexpr int kWidestTitle = 14;

std::string cell_text(double cell, bool signs) {
  if (cell == 0) return "·";
  const bool rounds_to_zero = std::abs(cell) < 0.005;  // of which the sign says nothing
  if (rounds_to_zero) return "0.00";
  return signs ? fmt::format("{:+.2f}", cell) : fmt::format("{:.2f}", cell);
}

std::string padding(int width, std::string_view text) {
  return std::string(static_cast<std::size_t>(std::max(0, width - display_width(text))), ' ');
}

void end_line(std::string& text) {
  text.erase(text.find_last_not_of(' ') + 1);
  text += '\n';
}

// Columns that stand side by side.
using Block = std::vector<std::size_t>;

// The columns in their order, as many side by side as fit into `room`, at least one.
std::vector<Block> side_by_side(const std::vector<std::size_t>& shown,
                                const std::vector<int>& width, int room) {
  std::vector<Block> blocks;
  int used = 0;
  for (const std::size_t c : shown) {
    const int needs = width[c] + 2;
    if (blocks.empty() || used + needs > room) {
      blocks.emplace_back();
      used = 0;
    }
    blocks.back().push_back(c);
    used += needs;
  }
  return blocks;
}

// All columns, or of many those with the largest numbers, in a few blocks: none that is 0, then.
std::vector<Block> blocks_of(const std::vector<int>& width, const std::vector<double>& largest,
                             int room, std::size_t most_blocks) {
  std::vector<std::size_t> by_size(width.size());
  std::iota(by_size.begin(), by_size.end(), 0);
  std::stable_sort(by_size.begin(), by_size.end(),
                   [&](std::size_t a, std::size_t b) { return largest[a] > largest[b]; });
  // Each takes three columns of the terminal at least.
  const auto most = most_blocks * static_cast<std::size_t>(std::max(1, room / 3));
  const auto leave_out_zeros = [&] {
    while (by_size.size() > 1 && largest[by_size.back()] == 0) by_size.pop_back();
  };
  if (by_size.size() > most) {
    by_size.resize(most);
    leave_out_zeros();
  }
  for (;; by_size.pop_back(), leave_out_zeros()) {
    std::vector<std::size_t> shown = by_size;
    std::sort(shown.begin(), shown.end());
    std::vector<Block> blocks = side_by_side(shown, width, room);
    if (blocks.size() <= most_blocks) return blocks;
  }
}

}  // namespace

std::string Heatmap::text(const Style& style, int columns) const {
  const std::size_t count = titles.at(0).columns.size();
  const auto at = [&](std::size_t row, std::size_t column) { return cells[row * count + column]; };

  std::vector<int> width(count, 1);  // without the space on both sides
  std::vector<double> largest(count, 0);
  for (std::size_t c = 0; c < count; ++c) {
    for (const Titles& line : titles)
      width[c] = std::max(width[c], std::min(kWidestTitle, display_width(line.columns.at(c))));
    for (std::size_t r = 0; r < rows.size(); ++r) {
      width[c] = std::max(width[c], display_width(cell_text(at(r, c), signs)));
      largest[c] = std::max(largest[c], std::abs(at(r, c)));
    }
  }
  int names = 0;
  for (const std::string& row : rows) names = std::max(names, display_width(row));
  for (const Titles& line : titles) names = std::max(names, display_width(line.name));

  const double most = count == 0 ? 0 : *std::max_element(largest.begin(), largest.end());
  const std::vector<Block> blocks = blocks_of(width, largest, columns - names, most_blocks);
  std::size_t fit = 0;
  std::string text;
  for (const Block& shown : blocks) {
    if (fit > 0) text += '\n';
    fit += shown.size();
    for (const Titles& line : titles) {
      std::string row = style.dim(line.name) + padding(names, line.name);
      for (const std::size_t c : shown) {
        const std::string title = shortened(line.columns[c], kWidestTitle);
        row += " " + padding(width[c], title) + style.dim(title) + " ";
      }
      end_line(row);
      text += row;
    }
    for (std::size_t r = 0; r < rows.size(); ++r) {
      std::string row = style.dim(rows[r]) + padding(names, rows[r]);
      for (const std::size_t c : shown) {
        const std::string cell = cell_text(at(r, c), signs);
        row += style.heat(most == 0 ? 0 : at(r, c) / most,
                          fmt::format(" {}{} ", padding(width[c], cell), cell));
      }
      end_line(row);
      text += row;
    }
  }
  if (fit < count) {
    text +=
        style.dim(fmt::format("({} of {} columns: those with the largest numbers)", fit, count));
    text += '\n';
  }
  return text;
}

}  // namespace vitrine::app
