// The command line of one verb: its options, its help, and usage errors that say what to do.
//
// CLI11 parses it, in command_line.cpp alone: it takes longer to compile than a verb.
#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "apps/terminal/numbers.h"

namespace CLI {
class Option;
}

namespace vitrine::app {

// What the user typed: vitrine VERB REST...
struct Arguments {
  std::string verb;
  std::vector<std::string> rest;
};

// Words as a POSIX shell reads them back, in single quotes where they are not plain.
std::string shell_text(const std::vector<std::string>& words);

// An option that has been added. It lives as long as its command line.
class Option {
 public:
  explicit Option(CLI::Option* option) : option_(option) {}
  std::size_t count() const;  // how often it was given
  Option* required();
  Option* one_of(const std::vector<std::string>& words);
  Option* excludes(const Option* other);

 private:
  CLI::Option* option_;
};

class CommandLine {
 public:
  // `example` is a whole command that works as it stands; the help ends with it.
  CommandLine(const Arguments& arguments, const std::string& description, std::string example);
  ~CommandLine();
  CommandLine(const CommandLine&) = delete;
  CommandLine& operator=(const CommandLine&) = delete;

  // Adds an option with a value, shown as VALUE in the help: "--top", "K". An empty text is
  // refused.
  Option* option(const std::string& names, std::string& value, const std::string& shown,
                 const std::string& doc);
  // The same for an option that may be given several times.
  Option* option(const std::string& names, std::vector<std::string>& values,
                 const std::string& shown, const std::string& doc);
  // The same for what may be empty: a prompt, say.
  Option* text(const std::string& names, std::string& value, const std::string& shown,
               const std::string& doc);
  // Arguments that are no options, one after the other.
  Option* rest(const std::string& name, std::vector<std::string>& values, const std::string& doc);
  // A whole number from `least` to `most`, in decimal.
  template <std::integral T>
  Option* number(const std::string& names, T& value, const std::string& shown,
                 const std::string& doc, T least, T most) {
    return ranged(names, value, shown, doc, NumberRange<T>{least, most});
  }
  // A real number in the range.
  Option* real(const std::string& names, double& value, const std::string& shown,
               const std::string& doc, const Reals& range) {
    return ranged(names, value, shown, doc, range);
  }
  // Several numbers: X,Y,Z, or the option again; of whole ones also ranges, 1-3.
  template <class T>
  Option* numbers(const std::string& names, std::vector<T>& values, const std::string& shown,
                  const std::string& doc, const NumberRange<T>& range) {
    return list(names, shown, doc, [&values, range](const std::vector<std::string>& items) {
      values.clear();
      for (const std::string& item : std::integral<T> ? written_out(items) : items) {
        if (std::string wrong = complaint(item, range); !wrong.empty())
          return std::integral<T> ? wrong + "; a list of them is 1,2,3 or 1-3" : wrong;
        values.push_back(*number_in<T>(item));
      }
      return std::string();
    });
  }
  Option* flag(const std::string& names, bool& value, const std::string& doc);
  // A value of an option of `number` or `real` that is given in another place, which `where` names:
  // the option's own range holds there too. Throws Error (usage).
  template <class T>
  T value_of(const std::string& option, const std::string& text, const std::string& where) const {
    const std::string wrong = complaint(text, std::get<NumberRange<T>>(ranges_.at(option)));
    if (!wrong.empty()) fail(where + ": " + wrong);
    return *number_in<T>(text);
  }
  // What to do instead, where somebody gives an option of other verbs that this one does not have.
  void without(const std::string& name, const std::string& advice) { advice_[name] = advice; }
  // Something that is looked at when everything has been parsed.
  void after_parsing(std::function<void()> check) { checks_.push_back(std::move(check)); }
  // Options added from now on stand under this heading of the help.
  void heading(const std::string& text) { group_ = text; }

  // False when help was asked for, and printed. Throws Error (usage) for an unknown option, with
  // the nearest ones, and for a value that does not fit.
  bool parse();

  // The options under a heading that were given, in the order of the help.
  std::vector<std::string> given(const std::string& heading) const;
  bool was_given(const std::string& name) const;  // false for one that the verb does not have

  // Throws Error (usage): the verb, the message, and where the help is.
  [[noreturn]] void fail(std::string_view message) const;

  std::string help() const;
  // The command as typed, quoted for the shell: outputs record it.
  std::string text() const;

 private:
  using AnyRange =
      std::variant<NumberRange<int>, NumberRange<std::int64_t>, NumberRange<std::uint64_t>, Reals>;

  template <class T>
  Option* ranged(const std::string& names, T& value, const std::string& shown,
                 const std::string& doc, const NumberRange<T>& range) {
    ranges_.emplace(names, range);
    return checked(
        names, shown, doc, [range](const std::string& given) { return complaint(given, range); },
        [&value](const std::string& given) { value = *number_in<T>(given); });
  }
  // What is wrong with a text, or with the items of a list; "" when nothing is.
  using Check = std::function<std::string(const std::string&)>;
  using TakeList = std::function<std::string(const std::vector<std::string>&)>;
  Option* checked(const std::string& names, const std::string& shown, const std::string& doc,
                  const Check& check, const std::function<void(const std::string&)>& take);
  Option* list(const std::string& names, const std::string& shown, const std::string& doc,
               const TakeList& take);
  std::string unexpected(const std::vector<std::string>& extras) const;
  std::string with_value(std::string_view message) const;  // "--top K"
  std::string wrong_count(std::string_view message) const;

  Arguments arguments_;
  std::string example_;
  std::string group_ = "Options";
  std::map<std::string, AnyRange> ranges_;     // by option
  std::map<std::string, std::string> advice_;  // of options that other verbs have
  std::vector<std::function<void()>> checks_;
  struct Parser;  // CLI11's
  std::unique_ptr<Parser> parser_;
};

}  // namespace vitrine::app
