#include "autograd/graph/site.h"

#include <fmt/format.h>

#include "tensor/error.h"
#include "tensor/nearest.h"

namespace vitrine {

std::string_view name_of(Axis axis) {
  switch (axis) {
    case Axis::batch:
      return "batch";
    case Axis::pos:
      return "pos";
    case Axis::row:
      return "row";
    case Axis::head:
      return "head";
    case Axis::query:
      return "query";
    case Axis::key:
      return "key";
    case Axis::feature:
      return "feature";
    case Axis::other:
      return "other";
  }
  return "";
}

bool matches(std::string_view pattern, std::string_view name) {
  // Greedy matching with one point to come back to: the last *.
  std::size_t p = 0, n = 0, star = std::string_view::npos, mark = 0;
  while (n < name.size()) {
    if (p < pattern.size() && pattern[p] == '*') {
      star = p++;
      mark = n;
    } else if (p < pattern.size() && pattern[p] == name[n]) {
      ++p;
      ++n;
    } else if (star != std::string_view::npos) {
      p = star + 1;
      n = ++mark;
    } else {
      return false;
    }
  }
  while (p < pattern.size() && pattern[p] == '*') ++p;
  return p == pattern.size();
}

std::vector<std::string> select_sites(const SiteSet& set, std::span<const std::string> names) {
  std::vector<bool> wanted(names.size(), false);
  std::size_t begin = 0;
  while (begin <= set.patterns.size()) {
    const std::size_t end = std::min(set.patterns.find(',', begin), set.patterns.size());
    std::string_view pattern = std::string_view(set.patterns).substr(begin, end - begin);
    while (!pattern.empty() && pattern.front() == ' ') pattern.remove_prefix(1);
    while (!pattern.empty() && pattern.back() == ' ') pattern.remove_suffix(1);
    begin = end + 1;
    bool found = false;
    for (std::size_t i = 0; i < names.size(); ++i) {
      if (matches(pattern, names[i])) wanted[i] = found = true;
    }
    if (found) continue;
    const auto near = nearest(pattern, names);
    if (pattern.find('*') != std::string_view::npos) {
      throw SiteError(fmt::format("no site matches '{}'{}", pattern, did_you_mean(near)));
    }
    throw SiteError(fmt::format("there is no site '{}'{}", pattern, did_you_mean(near)));
  }
  std::vector<std::string> result;
  for (std::size_t i = 0; i < names.size(); ++i) {
    if (wanted[i]) result.push_back(names[i]);
  }
  return result;
}

}  // namespace vitrine
