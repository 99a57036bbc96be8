// What a lesson prints with: sections, tables, bars, pictures of matrices, and numbers that are checked.
#pragma once

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <limits>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "tensor/tensor.h"

namespace vitrine::lesson {

inline void section(std::string_view title) { fmt::print("\n── {} ──\n\n", title); }

template <class... A>
void say(fmt::format_string<A...> format, A&&... values) {
  fmt::print("{}\n", fmt::format(format, std::forward<A>(values)...));
}

// ---- tables and pictures ------------------------------------------------------------------------
// Characters of a text: bytes of UTF-8 that continue a character are none.
inline std::size_t width_of(std::string_view text) {
  return static_cast<std::size_t>(
      std::count_if(text.begin(), text.end(), [](char c) { return (c & 0xC0) != 0x80; }));
}

// A text and the spaces that make it `width` characters wide.
inline std::string padded(std::string_view text, std::size_t width, bool right = false) {
  const std::string spaces(width > width_of(text) ? width - width_of(text) : 0, ' ');
  return right ? spaces + std::string(text) : std::string(text) + spaces;
}

using Row = std::vector<std::string>;

// Columns as wide as their widest cell: the first one flush left, the others flush right.
inline void table(const Row& titles, const std::vector<Row>& rows) {
  std::vector<std::size_t> width(titles.size());
  const auto widen = [&](const Row& row) {
    for (std::size_t i = 0; i < titles.size(); ++i)
      width[i] = std::max(width[i], width_of(row.at(i)));
  };
  widen(titles);
  for (const Row& row : rows) widen(row);
  const auto print = [&](const Row& row) {
    std::string line;
    for (std::size_t i = 0; i < titles.size(); ++i) line += "  " + padded(row[i], width[i], i > 0);
    fmt::print("{}\n", line);
  };
  print(titles);
  std::size_t all = 0;
  for (const std::size_t w : width) all += w + 2;
  std::string rule = "  ";
  for (std::size_t i = 2; i < all; ++i) rule += "─";
  fmt::print("{}\n", rule);
  for (const Row& row : rows) print(row);
}

// One bar for each number, the largest 40 characters long; those of numbers below `from`, where bars begin, are light.
inline void bars(const std::vector<std::pair<std::string, double>>& numbers, double from = 0) {
  static constexpr const char* kPart[] = {"", "▏", "▎", "▍", "▌", "▋", "▊", "▉"};
  std::size_t width = 0;
  double largest = 0;
  for (const auto& [name, number] : numbers) {
    width = std::max(width, width_of(name));
    largest = std::max(largest, std::abs(number - from));
  }
  for (const auto& [name, number] : numbers) {
    const double part = largest > 0 ? std::abs(number - from) / largest : 0;
    const auto eighths = static_cast<int>(std::lround(part * 320));
    const bool below = number < from;
    std::string bar;
    for (int i = 0; i < (below ? eighths + 4 : eighths) / 8; ++i) bar += below ? "░" : "█";
    if (!below) bar += kPart[eighths % 8];
    fmt::print("  {}  {:>9.4g}{}{}\n", padded(name, width), number, bar.empty() ? "" : "  ", bar);
  }
  if (from != 0) fmt::print("  (bars begin at {:g})\n", from);
}

// A matrix of numbers from 0 to 1, [rows, columns], as a picture: the darker the larger; · is nothing.
inline void picture(const Row& row_names, const Row& column_names, const Tensor& matrix) {
  static constexpr const char* kShade[] = {"·", "░", "▒", "▓", "█"};
  std::size_t first = 0, width = 3;
  for (const std::string& name : row_names) first = std::max(first, width_of(name));
  for (const std::string& name : column_names) width = std::max(width, width_of(name));
  std::string head = "  " + std::string(first, ' ');
  for (const std::string& name : column_names) head += " " + padded(name, width, true);
  fmt::print("{}\n", head);
  const std::vector<double> cells = matrix.to_vector<double>();
  for (std::size_t r = 0; r < row_names.size(); ++r) {
    std::string line = "  " + padded(row_names[r], first, true);
    for (std::size_t c = 0; c < column_names.size(); ++c) {
      const double x = std::clamp(cells.at(r * column_names.size() + c), 0.0, 1.0);
      const bool none = !(x >= 0.05);  // NaN, too
      const std::string shade = kShade[none ? 0 : std::min(4, 1 + static_cast<int>(x * 4))];
      line += " " + padded(none ? shade : shade + shade + shade, width, true);
    }
    fmt::print("{}\n", line);
  }
}

// ---- numbers that are checked -------------------------------------------------------------------
struct Bounds {
  double least, most;
};
inline Bounds near(double value, double tolerance) {
  return {value - tolerance, value + tolerance};
}
inline Bounds between(double least, double most) { return {least, most}; }
inline Bounds at_least(double least) { return {least, std::numeric_limits<double>::infinity()}; }
inline Bounds at_most(double most) { return {-std::numeric_limits<double>::infinity(), most}; }

inline std::string in_words(const Bounds& bounds) {
  if (bounds.least == bounds.most) return fmt::format("{:.6g}", bounds.least);
  if (std::isinf(bounds.least)) return fmt::format("at most {:.6g}", bounds.most);
  if (std::isinf(bounds.most)) return fmt::format("at least {:.6g}", bounds.least);
  return fmt::format("{:.6g} to {:.6g}", bounds.least, bounds.most);
}

// Prints a number, and ends the program with exit code 4 when it is out of bounds or NaN.
inline void expect(std::string_view what, double value, const Bounds& bounds) {
  const bool good = value >= bounds.least && value <= bounds.most;
  fmt::print("  {} {}: {:.6g}\n", good ? "✓" : "✗", what, value);
  if (good) return;
  fmt::print("    expected {}; the lesson ends here\n", in_words(bounds));
  std::fflush(stdout);
  std::exit(4);
}

}  // namespace vitrine::lesson
