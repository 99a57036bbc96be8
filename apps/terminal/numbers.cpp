#include "apps/terminal/numbers.h"

#include <fmt/format.h>

#include <algorithm>

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

}  // namespace vitrine::app
