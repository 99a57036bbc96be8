// The command line of one verb: its options, its help, and usage errors that say what to do.
#pragma once

#include <CLI/CLI.hpp>
#include <charconv>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

#include "tensor/error.h"

namespace vitrine::app {

// What the user typed: vitrine VERB REST...
struct Arguments {
  std::string verb;
  std::vector<std::string> rest;
};

class CommandLine {
 public:
  // `example` is a whole command that works as it stands; the help ends with it.
  CommandLine(const Arguments& arguments, const std::string& description, std::string example);

  // Adds an option with a value, shown as VALUE in the help: "--top", "K".
  template <class T>
  CLI::Option* option(const std::string& names, T& value, const std::string& shown,
                      const std::string& doc) {
    return app_.add_option(names, value, doc)->option_text(shown)->group(group_);
  }
  // A whole number from `least` to `most`, in decimal.
  template <class T>
  CLI::Option* number(const std::string& names, T& value, const std::string& shown,
                      const std::string& doc, T least, T most) {
    return option(names, value, shown, doc)
        ->transform(CLI::Validator(
            [least, most](std::string& text) {
              T parsed{};
              const auto [stop, error] =
                  std::from_chars(text.data(), text.data() + text.size(), parsed);
              const bool whole = error == std::errc() && stop == text.data() + text.size();
              if (!whole || parsed < least || parsed > most) {
                return "'" + text + "' is not a whole number from " + std::to_string(least) +
                       " to " + std::to_string(most);
              }
              text = std::to_string(parsed);  // CLI11 would read 010 as octal
              return std::string();
            },
            ""));
  }
  CLI::Option* flag(const std::string& names, bool& value, const std::string& doc) {
    return app_.add_flag(names, value, doc)->group(group_);
  }
  // Options added from now on stand under this heading of the help.
  void heading(const std::string& text) { group_ = text; }

  // False when help was asked for, and printed. Throws Error (usage) for an unknown option, with
  // the nearest ones, and for a value that does not fit.
  bool parse();

  // The options under a heading that were given, in the order of the help.
  std::vector<std::string> given(const std::string& heading) const;

  // Throws Error (usage): the verb, the message, and where the help is.
  [[noreturn]] void fail(std::string_view message) const;

  std::string help() const;
  // The command as typed, quoted for the shell: outputs record it.
  std::string text() const;

 private:
  std::string unexpected(const std::vector<std::string>& extras) const;

  Arguments arguments_;
  std::string example_;
  std::string group_ = "Options";
  CLI::App app_;
};

}  // namespace vitrine::app
