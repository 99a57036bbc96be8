// Templates of prompts: texts with slots in braces.
//
//   The capital of {state} is       the slot state; where its value stands is the role state
//   {b@s2} gave it to               the value of the slot b; its place is the role s2
//   {century@}                      no role
//   {capital:other}                 the slot's value in the corrupt partner
//   {{x}}                           braces that are text
#pragma once

#include <cstddef>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace vitrine::app {

// A run of text, or a slot.
struct TemplatePiece {
  std::string text;                 // "" of a slot
  std::string slot;                 // "" of a text
  bool other = false;               // the value of the corrupt partner
  std::optional<std::string> role;  // "" for none at all; nullopt where the template says nothing
};

struct PromptTemplate {
  std::string name;  // "ABBA", or ""
  std::vector<TemplatePiece> pieces;
  // What a line of the file says of it: {"template", "ABBA"}.
  std::vector<std::pair<std::string, std::string>> fields{};
};

// Throws Error (usage), showing the template and the place, for a brace without its partner, a
// name that is not one, and anything but `other` after a colon. `what` names the template.
std::vector<TemplatePiece> parse_template(std::string_view text, std::string_view what);
// NAME=TEXT, where NAME is a word; or a text alone.
PromptTemplate parse_named_template(std::string_view text, std::string_view what);

// Whether a text can be the name of a slot, a role or a field: letters, digits, _ and -, a letter
// first.
bool is_name(std::string_view text);

// A template with its slots filled, and where they came to stand.
struct FilledTemplate {
  struct Place {
    std::size_t piece = 0, begin = 0, end = 0;  // bytes [begin, end) of the text
  };
  std::string text;
  std::vector<Place> places;  // of the slots, in the order of the text
};
FilledTemplate fill(const std::vector<TemplatePiece>& pieces,
                    const std::function<std::string(const TemplatePiece&)>& value);

// The roles of the pieces, one each: "" for texts and slots without a role. A slot that stands once
// is a role by its name; one that stands several times is NAME1, NAME2, ... Throws Error (usage)
// for a role that is there twice, or is called end or all, which mean something else.
std::vector<std::string> roles_of(const std::vector<TemplatePiece>& pieces);

}  // namespace vitrine::app
