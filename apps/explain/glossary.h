// The words of the trade, and ours: what each means, which verb shows it, which lesson teaches it.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "apps/explain/topics.h"

namespace vitrine::app {

struct Term {
  // Its names, the usual one first; what stands in parentheses or behind a comma or semicolon is another:
  // "edge attribution patching (EAP)", "row, row table".
  std::string_view names;
  std::string_view meaning;
  // A command that shows it, with @prompt, @answer and @wrong where a prompt and what it is followed by go; "": none.
  std::string_view command;
  Topic topic;
  std::string_view source = "";  // the paper or formula that it is from
  // The first table of autograd/README.md has these, in this order, with this name in the first column.
  std::string_view in_readme = "";
};
std::span<const Term> glossary();

std::vector<std::string> names_of(const Term& term);  // without marks of Markdown

// The terms that a word names, in any case, with spaces, hyphens or underscores, in the plural too.
std::vector<const Term*> find_terms(std::string_view word);

// Of one prompt, its answer and a wrong one, with what a shell needs around them.
struct CommandWords {
  std::string prompt = "'The capital of Texas is'", answer = "' Austin'", wrong = "' Sacramento'";
  bool by_ids = false;  // they are token ids
};
std::string command_of(const Term& term, const CommandWords& words);

}  // namespace vitrine::app
