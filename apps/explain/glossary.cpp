#include "apps/explain/glossary.h"

#include <algorithm>
#include <cctype>
#include <utility>

namespace vitrine::app {
namespace {

constexpr std::string_view kPair =
    "--clean 'The capital of Texas is' --corrupt 'The capital of California is' --answer ' Austin' "
    "--wrong ' Sacramento'";

// Whether a letter separates words of a name.
bool is_gap(char c) { return c == ' ' || c == '-' || c == '_'; }

std::string plain(std::string_view name) {
  std::string text;
  for (const char c : name) {
    if (c == '`') continue;
    text += is_gap(c) ? ' ' : static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  }
  const auto first = text.find_first_not_of(' ');
  if (first == std::string::npos) return "";
  return text.substr(first, text.find_last_not_of(' ') - first + 1);
}

// "heads" is "head", "axes" and "bias" are no plurals of words that are here.
bool means(const std::string& wanted, const std::string& name) {
  return wanted == name || wanted == name + "s";
}

void replace_all(std::string& text, std::string_view what, std::string_view by) {
  for (auto at = text.find(what); at != std::string::npos; at = text.find(what, at + by.size()))
    text.replace(at, what.size(), by);
}

}  // namespace

std::vector<std::string> names_of(const Term& term) {
  std::vector<std::string> names(1);
  for (const char c : term.names) {
    if (c == ',' || c == ';' || c == '(' || c == ')') names.emplace_back();
    else if (c != '`' && !(c == ' ' && names.back().empty())) names.back() += c;
  }
  for (std::string& name : names) {
    while (name.ends_with(' ')) name.pop_back();
  }
  std::erase(names, "");
  return names;
}

std::vector<const Term*> find_terms(std::string_view word) {
  const std::string wanted = plain(word);
  std::vector<const Term*> found;
  for (const Term& term : glossary()) {
    const std::vector<std::string> names = names_of(term);
    if (std::any_of(names.begin(), names.end(),
                    [&](const std::string& name) { return means(wanted, plain(name)); }))
      found.push_back(&term);
  }
  return found;
}

std::string command_of(const Term& term, const CommandWords& words) {
  std::string command(term.command);
  replace_all(command, "@pair", kPair);
  if (words.by_ids) {
    replace_all(command, "--prompt @prompt", "--tokens @prompt");
    for (const char* option : {"answer", "wrong"})
      replace_all(command, std::string("--") + option + " @",
                  std::string("--") + option + "-token @");
  }
  replace_all(command, "@prompt", words.prompt);
  replace_all(command, "@answer", words.answer);
  replace_all(command, "@wrong", words.wrong);
  return command;
}

}  // namespace vitrine::app
