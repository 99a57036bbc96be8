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
  enum class Action { zero, mean, resample, scale, set, add, project_out, detach, patch };
  bool later = false;  // "then ...": acts on what the edits before it left
  Action action = Action::zero;
  std::string site;  // as it was typed, without a head: "z", "2.z", a full name, a glob
  Where where;       // heads, features
  std::vector<interp::Position> positions;  // none: all
  std::vector<interp::Position> keys;       // of a pattern: positions that are attended to
  std::optional<double> number;             // factor= of scale and add, to= of set
  // Where the value comes from, as the action needs it; "" where it is not given.
  std::string from;         // a file; of a patch the text of the other prompt
  std::string over;         // of a mean: a text, over whose tokens
  std::string toward;       // of a direction: a token, whose unembedding vector it is ...
  std::string plus, minus;  // ... or what the model holds after one text, less that after another
};

// Throws Error (usage) for what is not an edit, saying what was expected, and naming the word.
EditText parse_edit(std::string_view text);
std::string_view name_of(EditText::Action action);  // "project_out"
// A word of an edit with a text as its value: from='The capital of Ohio is', in quotes as parse_edit
// reads them.
std::string edit_word(std::string_view key, std::string_view text);
// The forms that edits have, for people: one a line.
std::string edit_forms();

}  // namespace vitrine::app
