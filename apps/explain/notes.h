// What is known of sites and verbs besides what graphs and the program's tables say themselves.
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "apps/explain/topics.h"

namespace vitrine::app {

struct SiteNote {
  std::string_view inside;  // its name after "blocks.L.", or the whole: "attn.hook_z", "hook_embed"
  std::string_view summary;  // what it holds
  std::string_view
      axes;  // what its axes are in TransformerLens's order, for models that do not have it
  std::string_view code;  // the constructor: "site::z(2)"; "" where there is none
  Topic topic;
};
std::span<const SiteNote> site_notes();
// Of a site by its full name, or of one of a spliced SAE; null where nothing was said.
const SiteNote* find_site_note(std::string_view name);

struct VerbNote {
  std::string_view verb;     // "sae train"
  std::string_view library;  // the header of what it does, for those who write C++: "interp/lens.h"
  std::string_view python;   // the same in Python: "Model.lens"
  Topic topic;
};
std::span<const VerbNote> verb_notes();
const VerbNote* find_verb_note(std::string_view verb);

}  // namespace vitrine::app
