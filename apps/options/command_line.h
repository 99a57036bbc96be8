// The command line of one verb: its options, its help, and usage errors that say what to do.
#pragma once

#include <CLI/CLI.hpp>
#include <concepts>
#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "apps/terminal/numbers.h"
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

  // Adds an option with a value, shown as VALUE in the help: "--top", "K". An empty text is
  // refused.
  template <class T>
  CLI::Option* option(const std::string& names, T& value, const std::string& shown,
                      const std::string& doc) {
    return text(names, value, shown, doc)
        ->check(CLI::Validator(
            [shown](std::string& given) {
              return given.empty() ? "'' is no value; give " + shown : std::string();
            },
            ""));
  }
  // The same for what may be empty: a prompt, say.
  template <class T>
  CLI::Option* text(const std::string& names, T& value, const std::string& shown,
                    const std::string& doc) {
    return app_.add_option(names, value, doc)->option_text(shown)->group(group_);
  }
  // A whole number from `least` to `most`, in decimal.
  template <std::integral T>
  CLI::Option* number(const std::string& names, T& value, const std::string& shown,
                      const std::string& doc, T least, T most) {
    return ranged(names, value, shown, doc, Range<T>{least, most});
  }
  // A real number in the range.
  CLI::Option* real(const std::string& names, double& value, const std::string& shown,
                    const std::string& doc, const Reals& range) {
    return ranged(names, value, shown, doc, range);
  }
  // Several numbers: X,Y,Z, or the option again.
  template <class T>
  CLI::Option* numbers(const std::string& names, std::vector<T>& values, const std::string& shown,
                       const std::string& doc, const Range<T>& range) {
    const auto take = [&values, names, range](const std::vector<std::string>& given) {
      values.clear();
      for (const std::string& list : given) {
        for (const std::string& item : items_of(list)) {
          if (const std::string wrong = complaint(item, range); !wrong.empty())
            throw CLI::ValidationError(names, wrong);
          values.push_back(*number_in<T>(item));
        }
      }
    };
    return app_.add_option_function<std::vector<std::string>>(names, take, doc)
        ->allow_extra_args(false)
        ->option_text(shown)
        ->group(group_);
  }
  CLI::Option* flag(const std::string& names, bool& value, const std::string& doc) {
    return app_.add_flag(names, value, doc)->group(group_);
  }
  // A value of an option of `number` or `real` that is given in another place, which `where` names:
  // the option's own range holds there too. Throws Error (usage).
  template <class T>
  T value_of(const std::string& option, const std::string& text, const std::string& where) const {
    const std::string wrong = complaint(text, std::get<Range<T>>(ranges_.at(option)));
    if (!wrong.empty()) fail(where + ": " + wrong);
    return *number_in<T>(text);
  }
  // Something that is looked at when everything has been parsed.
  void after_parsing(std::function<void()> check) { checks_.push_back(std::move(check)); }
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
  using AnyRange = std::variant<Range<int>, Range<std::int64_t>, Range<std::uint64_t>, Reals>;

  template <class T>
  CLI::Option* ranged(const std::string& names, T& value, const std::string& shown,
                      const std::string& doc, const Range<T>& range) {
    ranges_.emplace(names, range);
    const auto check = [range](std::string& text) { return complaint(text, range); };
    const auto take = [&value](const std::string& text) { value = *number_in<T>(text); };
    return app_.add_option_function<std::string>(names, take, doc)
        ->check(CLI::Validator(check, ""))
        ->option_text(shown)
        ->group(group_);
  }
  std::string unexpected(const std::vector<std::string>& extras) const;

  Arguments arguments_;
  std::string example_;
  std::string group_ = "Options";
  std::map<std::string, AnyRange> ranges_;  // by option
  std::vector<std::function<void()>> checks_;
  CLI::App app_;
};

}  // namespace vitrine::app
