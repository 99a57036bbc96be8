// Resolves site names as users type them: in full, or by the end of the name.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace vitrine::app {

// A name of a site in a block: "blocks.2.attn.hook_z", "2.z" (layer 2), "2.4.z" (its head 4),
// "blocks.*.hook_z", "z" (no layer).
struct SiteName {
  std::optional<int> layer;
  std::string_view inside;  // what is said after the layer: "attn.hook_z", "z"
  std::optional<int> head = {};
};
SiteName site_name(std::string_view typed);

// "z" of "attn.hook_z" and "hook_z"; "mlp_out.hook_sae_error" of "hook_mlp_out.hook_sae_error".
std::string short_name(std::string_view inside);
// Whether a site of a block, such as "attn.hook_z", is meant by "attn.hook_z", "hook_z" or "z"; an
// SAE's by "hook_mlp_out.hook_sae_acts_post", "hook_sae_acts_post" or "sae_acts_post".
bool is_called(std::string_view inside, std::string_view wanted);

// Comma-separated patterns, in full: "z" becomes blocks.*.attn.hook_z, "2.z" blocks.2.attn.hook_z.
// What matches one of the names stays as it is, and so does what is none of them. Throws Error
// (usage), naming it, for one that says a head, "2.4.z", where whole sites are meant.
std::string full_patterns(std::string_view typed, std::span<const std::string> names);

// The same one by one, where a head may be said.
struct SitePattern {
  std::string patterns;
  std::optional<int> head = {};
};
std::vector<SitePattern> site_patterns(std::string_view typed, std::span<const std::string> names);
// blocks.2.4.attn.hook_z: the name of a head's part of a site in a block.
std::string name_of_head(std::string_view site, int head);

// One site of blocks and the layers that are meant. Throws SiteError for what matches nothing, and
// Error (usage), naming them, for several sites and for what is in no block.
struct SiteInLayers {
  std::string inside;  // "attn.hook_z"
  std::vector<int> layers;
};
SiteInLayers site_in_layers(std::string_view typed, std::span<const std::string> names);

}  // namespace vitrine::app
