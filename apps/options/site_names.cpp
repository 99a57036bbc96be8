#include "apps/options/site_names.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <system_error>

#include "apps/terminal/numbers.h"
#include "autograd/graph/site.h"
#include "tensor/error.h"

namespace vitrine::app {
namespace {

constexpr std::string_view kBlocks = "blocks.";
constexpr std::array<std::string_view, 3> kPrefixes = {"attn.", "mlp.", "hook_"};

// Of a name without a head.
std::string full_pattern(std::string_view typed, const SiteName& wanted,
                         std::span<const std::string> names) {
  std::vector<std::string_view> everywhere, there;  // in any layer; in the one that is meant
  for (const std::string_view name : names) {
    if (!name.starts_with(kBlocks)) continue;
    const SiteName site = site_name(name);
    if (!is_called(site.inside, wanted.inside)) continue;
    for (auto* list : {&everywhere, &there}) {
      if (list == &there && site.layer != wanted.layer) continue;
      if (std::find(list->begin(), list->end(), site.inside) == list->end())
        list->push_back(site.inside);
    }
  }
  const auto& insides = there.empty() ? everywhere : there;
  if (insides.empty()) return std::string(typed);
  std::vector<std::string> patterns;
  for (const std::string_view inside : insides) {
    patterns.push_back(wanted.layer ? fmt::format("blocks.{}.{}", *wanted.layer, inside)
                                    : fmt::format("blocks.*.{}", inside));
  }
  return fmt::format("{}", fmt::join(patterns, ","));
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
  const std::string_view whole = inside;
  for (const std::string_view prefix : kPrefixes) {
    if (inside == wanted) return true;
    if (inside.starts_with(prefix)) inside.remove_prefix(prefix.size());
  }
  if (inside == wanted) return true;
  const std::size_t sae = whole.find(".hook_sae_");
  return sae != whole.npos && is_called(whole.substr(sae + 1), wanted);
}

std::vector<SitePattern> site_patterns(std::string_view typed, std::span<const std::string> names) {
  std::vector<SitePattern> all;
  for (const std::string& item : items_of(typed)) {
    const bool known = std::any_of(names.begin(), names.end(),
                                   [&](const std::string& name) { return matches(item, name); });
    const SiteName wanted = site_name(item);
    all.push_back({known ? item : full_pattern(item, wanted, names), wanted.head});
  }
  return all;
}

std::string full_patterns(std::string_view typed, std::span<const std::string> names) {
  std::string all;
  for (const std::string& item : items_of(typed)) {
    for (const SitePattern& site : site_patterns(item, names)) {
      if (site.head) {
        const SiteName name = site_name(item);
        throw Error(ErrorKind::usage,
                    fmt::format("'{}' is one head of a site, and whole sites are meant here: give "
                                "{}.{}",
                                item, *name.layer, name.inside));
      }
      all += (all.empty() ? "" : ",") + site.patterns;
    }
  }
  return all;
}

std::string name_of_head(std::string_view site, int head) {
  const SiteName name = site_name(site);
  return name.layer ? fmt::format("{}{}.{}.{}", kBlocks, *name.layer, head, name.inside)
                    : fmt::format("{}.{}", head, site);
}

SiteInLayers site_in_layers(std::string_view typed, std::span<const std::string> names) {
  SiteInLayers found;
  std::vector<std::string> insides;
  for (const std::string& name : select_sites({full_patterns(typed, names)}, names)) {
    const SiteName site = site_name(name);
    if (!name.starts_with(kBlocks) || !site.layer)
      throw Error(ErrorKind::usage,
                  fmt::format("'{}' means {}, which is in no layer; sites of layers are meant here",
                              typed, name));
    found.layers.push_back(*site.layer);
    if (std::find(insides.begin(), insides.end(), site.inside) == insides.end())
      insides.emplace_back(site.inside);
  }
  if (insides.size() > 1) {
    constexpr std::size_t kShown = 6;
    const bool more = insides.size() > kShown;
    if (more) insides.resize(kShown);
    throw Error(ErrorKind::usage,
                fmt::format("'{}' means several sites: {}{}; give one of them", typed,
                            fmt::join(insides, ", "), more ? ", ..." : ""));
  }
  found.inside = insides.front();
  return found;
}

}  // namespace vitrine::app
