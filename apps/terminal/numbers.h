// Parses numbers as users type them, and explains what is wrong with any other text.
#pragma once

#include <charconv>
#include <cmath>
#include <concepts>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

namespace vitrine::app {

// Which numbers an option takes: those from `least` to `most`, `least` itself unless `above`.
// NaN and infinities never are.
template <class T>
struct NumberRange {
  T least, most;
  bool above = false;

  bool contains(T x) const {
    if constexpr (std::floating_point<T>) {
      if (!std::isfinite(x)) return false;
    }
    return (above ? x > least : x >= least) && x <= most;
  }
  std::string text() const;  // "a number above 0, at most 1", "a whole number from 1 to 1024"
};
using Reals = NumberRange<double>;

std::string written(double x);  // 0.5, 1000, 1e+12
template <std::integral T>
std::string written(T x) {
  return std::to_string(x);
}

template <class T>
std::string NumberRange<T>::text() const {
  const std::string kind = std::floating_point<T> ? "a number" : "a whole number";
  return above ? kind + " above " + written(least) + ", at most " + written(most)
               : kind + " from " + written(least) + " to " + written(most);
}

// All of the text as a number, in decimal; none for a text that is not one, or one too large.
template <class T>
std::optional<T> number_in(std::string_view text) {
  if (text.starts_with('+')) text.remove_prefix(1);
  T x{};
  const auto [stop, error] = std::from_chars(text.data(), text.data() + text.size(), x);
  if (error != std::errc() || stop != text.data() + text.size()) return std::nullopt;
  return x;
}

// The items of a list X,Y,Z, without spaces around them.
std::vector<std::string> items_of(std::string_view list);

// The same with ranges of whole numbers written out: 0, 2, 3, 4 of "0", "2-4". What is no range, or
// one of very many numbers, stays as it is.
std::vector<std::string> written_out(const std::vector<std::string>& items);

// What is wrong with a text as a number in the range; "" when nothing is.
template <class T>
std::string complaint(std::string_view text, const NumberRange<T>& range) {
  const std::optional<T> x = number_in<T>(text);
  if (x && range.contains(*x)) return "";
  return "'" + std::string(text) + "' is not " + range.text();
}

}  // namespace vitrine::app
