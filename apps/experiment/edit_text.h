// Edits as they are typed: 'zero blocks.1.attn.hook_z head=0,2'.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "interp/data/data_set.h"
#include "nn/model/standing_edits.h"

namespace vitrine::app {

struct EditText {
  enum class Action { zero, mean, resample, scale, set, add, project_out, detach };
  Action action = Action::zero;
  std::string site;  // as it was typed, without a head: "z", "2.z", a full name, a glob
  Where where;       // heads, keys, features
  std::vector<interp::Position> positions;  // none: all
  std::optional<double> number;             // factor= of scale and add, to= of set
  std::string from;                         // a file
};

// Throws Error (usage) for what is not an edit, saying what was expected, and naming the word.
EditText parse_edit(std::string_view text);
std::string_view name_of(EditText::Action action);  // "project_out"
// The forms that edits have, for people: one a line.
std::string edit_forms();

}  // namespace vitrine::app
