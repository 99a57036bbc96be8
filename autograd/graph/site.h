// Sites (hook points): the named activations of a model that can be read, edited and
// differentiated.
//
// A site is a name (TransformerLens's, such as blocks.5.attn.hook_pattern, or the user's own) and
// the meaning of its axes. Typed constructors for GPT-2's sites are in nn/families/sites.h; strings
// are parsed only at the edges of the program.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace vitrine {

// The meaning of an axis. `row` is the packed (sequence, position) axis of a ragged batch: what is
// fetched comes back with it unpacked into [batch, position].
enum class Axis { batch, pos, row, head, query, key, feature, other };
using Axes = std::vector<Axis>;
std::string_view name_of(Axis axis);

// One site, by its full name.
struct Site {
  std::string name;
  friend bool operator==(const Site&, const Site&) = default;
};

// Any number of sites, by comma-separated patterns in which * stands for any run of characters:
// sites("*.hook_pattern").
struct SiteSet {
  std::string patterns;
};
inline SiteSet sites(std::string_view patterns) { return {std::string(patterns)}; }

// Leaves (parameters and inputs) by comma-separated patterns.
struct LeafSet {
  std::string patterns;
};
inline LeafSet leaves(std::string_view patterns) { return {std::string(patterns)}; }

// The names under which results are kept.
inline std::string grad_name(std::string_view of) { return "grad(" + std::string(of) + ")"; }
inline std::string before_name(std::string_view site) {
  return "before(" + std::string(site) + ")";
}

bool matches(std::string_view pattern, std::string_view name);

// The names that match, in the order of `names`. Throws SiteError for a pattern that matches
// nothing, with the nearest names.
std::vector<std::string> select_sites(const SiteSet& set, std::span<const std::string> names);

}  // namespace vitrine
