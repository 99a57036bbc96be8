// Resolves site names as users type them: in full, or by the end of the name.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace vitrine::app {

// A name of a site in a block: "blocks.2.attn.hook_z", "2.z" (layer 2), "2.4.z" (its head 4),
// "blocks.*.hook_z", "z" (no layer).
struct SiteName {
  std::optional<int> layer;
  std::string_view inside;  // what is said after the layer: "attn.hook_z", "z"
  std::optional<int> head = {};
};
SiteName site_name(std::string_view typed);

// "z" of "attn.hook_z" and "hook_z".
std::string short_name(std::string_view inside);
// Whether a site of a block, such as "attn.hook_z", is meant by "attn.hook_z", "hook_z" or "z".
bool is_called(std::string_view inside, std::string_view wanted);

// Comma-separated patterns, in full: "z" becomes blocks.*.attn.hook_z, "2.z" blocks.2.attn.hook_z.
// What matches one of the names stays as it is, and so does what is none of them.
std::string full_patterns(std::string_view typed, std::span<const std::string> names);

}  // namespace vitrine::app
