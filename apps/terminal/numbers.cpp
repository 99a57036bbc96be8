#include "apps/terminal/numbers.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdint>

namespace vitrine::app {

std::string written(double x) { return fmt::format("{:g}", x); }

std::vector<std::string> items_of(std::string_view list) {
  constexpr std::string_view kSpace = " \t\r\n";
  std::vector<std::string> items;
  for (std::size_t begin = 0; begin <= list.size();) {
    const std::size_t end = std::min(list.find(',', begin), list.size());
    std::string_view item = list.substr(begin, end - begin);
    item.remove_prefix(std::min(item.find_first_not_of(kSpace), item.size()));
    items.emplace_back(item.substr(0, item.find_last_not_of(kSpace) + 1));
    begin = end + 1;
  }
  return items;
}

std::vector<std::string> written_out(const std::vector<std::string>& items) {
  constexpr std::int64_t kMost = 100'000;
  std::vector<std::string> all;
  for (const std::string& item : items) {
    const std::size_t dash = std::min(item.find('-', 1), item.size());
    const auto first = number_in<std::int64_t>(item.substr(0, dash));
    const auto last =
        dash < item.size() ? number_in<std::int64_t>(item.substr(dash + 1)) : std::nullopt;
    if (!first || !last || *first < 0 || *last < *first || *last - *first >= kMost) {
      all.push_back(item);
      continue;
    }
    for (std::int64_t i = *first; i <= *last; ++i) all.push_back(written(i));
  }
  return all;
}

}  // namespace vitrine::app
