#include "apps/options/site_names.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <system_error>

#include "apps/terminal/numbers.h"
#include "autograd/graph/site.h"

namespace vitrine::app {
namespace {

constexpr std::string_view kBlocks = "blocks.";
constexpr std::array<std::string_view, 3> kPrefixes = {"attn.", "mlp.", "hook_"};

std::string full_pattern(std::string_view typed, std::span<const std::string> names) {
  const bool known = std::any_of(names.begin(), names.end(),
                                 [&](const std::string& name) { return matches(typed, name); });
  if (known) return std::string(typed);
  const SiteName wanted = site_name(typed);
  for (const std::string_view name : names) {
    if (!name.starts_with(kBlocks)) continue;
    const std::string_view inside = site_name(name).inside;
    if (!is_called(inside, wanted.inside)) continue;
    return wanted.layer ? fmt::format("blocks.{}.{}", *wanted.layer, inside)
                        : fmt::format("blocks.*.{}", inside);
  }
  return std::string(typed);
}

}  // namespace

SiteName site_name(std::string_view typed) {
  std::string_view rest = typed;
  if (rest.starts_with(kBlocks)) rest.remove_prefix(kBlocks.size());
  if (rest.starts_with("*.")) return {std::nullopt, rest.substr(2)};
  const std::size_t dot = rest.find('.');
  const auto layer = number_in<int>(rest.substr(0, dot));
  if (dot == rest.npos || !layer || *layer < 0) return {std::nullopt, typed};
  rest.remove_prefix(dot + 1);
  const std::size_t next = rest.find('.');
  const auto head = number_in<int>(rest.substr(0, next));
  if (next == rest.npos || !head || *head < 0) return {layer, rest};
  return {layer, rest.substr(next + 1), head};
}

std::string short_name(std::string_view inside) {
  for (const std::string_view prefix : kPrefixes) {
    if (inside.starts_with(prefix)) inside.remove_prefix(prefix.size());
  }
  return std::string(inside);
}

bool is_called(std::string_view inside, std::string_view wanted) {
  for (const std::string_view prefix : kPrefixes) {
    if (inside == wanted) return true;
    if (inside.starts_with(prefix)) inside.remove_prefix(prefix.size());
  }
  return inside == wanted;
}

std::string full_patterns(std::string_view typed, std::span<const std::string> names) {
  std::string all;
  for (const std::string& item : items_of(typed))
    all += (all.empty() ? "" : ",") + full_pattern(item, names);
  return all;
}

}  // namespace vitrine::app
