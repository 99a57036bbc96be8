// What `vitrine explain` found, for people: out of the JSON of entries.h.
#pragma once

#include <string>

#include "apps/terminal/output.h"

namespace vitrine::app {

// An entry in full. `str_tokens` are the prompt's, where there is one, else null.
std::string entry_text(const Json& entry, const Json& str_tokens, const Style& style);
// Many entries, a line each, under the names of their kinds.
std::string list_text(const Json& entries, const Style& style);

}  // namespace vitrine::app
