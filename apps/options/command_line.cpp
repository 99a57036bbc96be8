#include "apps/options/command_line.h"

#include <fmt/format.h>

#include <algorithm>

#include "apps/terminal/output.h"
#include "tensor/nearest.h"

namespace vitrine::app {
namespace {

// In single quotes unless it is plain: what a POSIX shell reads back as the same argument.
std::string shell_quoted(std::string_view argument) {
  constexpr std::string_view kPlain =
      "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_=+,./:@%";
  if (!argument.empty() && argument.find_first_not_of(kPlain) == std::string_view::npos) {
    return std::string(argument);
  }
  std::string out = "'";
  for (const char c : argument) {
    if (c == '\'') {
      out += "'\\''";
    } else {
      out += c;
    }
  }
  return out + "'";
}

}  // namespace

CommandLine::CommandLine(const Arguments& arguments, const std::string& description,
                         std::string example)
    : arguments_(arguments),
      example_(std::move(example)),
      app_(description, "vitrine " + arguments.verb) {
  app_.set_help_flag();  // parse adds it, so that it stands last
}

bool CommandLine::parse() {
  app_.set_help_flag("-h,--help", "print this help")->group("Common options");
  std::vector<std::string> reversed(arguments_.rest.rbegin(), arguments_.rest.rend());
  try {
    app_.parse(reversed);
  } catch (const CLI::CallForHelp&) {
    write_stdout(help());
    return false;
  } catch (const CLI::ExtrasError&) {
    fail(unexpected(app_.remaining()));
  } catch (const CLI::ParseError& error) {
    fail(error.what());
  }
  for (const auto& check : checks_) check();
  return true;
}

std::string CommandLine::unexpected(const std::vector<std::string>& extras) const {
  const auto option =
      std::find_if(extras.begin(), extras.end(), [](const auto& e) { return e.starts_with("-"); });
  if (option == extras.end()) return fmt::format("unexpected argument '{}'", extras.at(0));
  std::vector<std::string> names;
  for (const CLI::Option* known : app_.get_options()) {
    for (const std::string& name : known->get_lnames()) names.push_back("--" + name);
  }
  const std::string wanted = option->substr(0, option->find('='));
  return fmt::format("there is no option '{}'{}", wanted, did_you_mean(nearest(wanted, names, 1)));
}

void CommandLine::fail(std::string_view message) const {
  throw Error(ErrorKind::usage, fmt::format("{}: {}; see 'vitrine {} --help'", arguments_.verb,
                                            message, arguments_.verb));
}

std::string CommandLine::help() const {
  std::string text = app_.help();
  for (std::size_t at; (at = text.find("\n\n\n")) != std::string::npos;) text.erase(at, 1);
  while (text.ends_with("\n")) text.pop_back();
  return fmt::format("{}\n\nExample:\n  {}\n", text, example_);
}

std::string CommandLine::text() const {
  std::string text = "vitrine " + arguments_.verb;  // words of ours: "sae eval"
  for (const std::string& argument : arguments_.rest) text += " " + shell_quoted(argument);
  return text;
}

std::vector<std::string> CommandLine::given(const std::string& heading) const {
  std::vector<std::string> names;
  for (const CLI::Option* option : app_.get_options()) {
    if (option->get_group() == heading && option->count() > 0) names.push_back(option->get_name());
  }
  return names;
}

}  // namespace vitrine::app
