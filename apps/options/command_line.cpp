#include "apps/options/command_line.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <deque>

#include "apps/terminal/output.h"
#include "tensor/error.h"
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

CLI::Validator not_empty(const std::string& shown) {
  return CLI::Validator(
      [shown](std::string& given) {
        return given.empty() ? "'' is no value; give " + shown : std::string();
      },
      "");
}

}  // namespace

std::string shell_text(const std::vector<std::string>& words) {
  std::string text;
  for (const std::string& word : words) text += (text.empty() ? "" : " ") + shell_quoted(word);
  return text;
}

// ---- options ------------------------------------------------------------------------------------
std::size_t Option::count() const { return option_->count(); }

Option* Option::required() {
  option_->required();
  return this;
}

Option* Option::one_of(const std::vector<std::string>& words) {
  option_->check(CLI::Validator(
      [words](std::string& given) {
        if (std::find(words.begin(), words.end(), given) != words.end()) return std::string();
        return fmt::format("'{}' is none of {{{}}}{}", given, fmt::join(words, ","),
                           did_you_mean(nearest(given, words, 1)));
      },
      ""));
  return this;
}

Option* Option::excludes(const Option* other) {
  option_->excludes(other->option_);
  return this;
}

struct CommandLine::Parser {
  CLI::App app;
  std::deque<Option> options;  // whose places in memory stay

  Option* keep(CLI::Option* option, const std::string& group) {
    return &options.emplace_back(option->group(group));
  }
};

CommandLine::CommandLine(const Arguments& arguments, const std::string& description,
                         std::string example)
    : arguments_(arguments), example_(std::move(example)), parser_(std::make_unique<Parser>()) {
  parser_->app.description(description);
  parser_->app.name("vitrine " + arguments.verb);
  parser_->app.set_help_flag();  // parse adds it, so that it stands last
}

CommandLine::~CommandLine() = default;

Option* CommandLine::option(const std::string& names, std::string& value, const std::string& shown,
                            const std::string& doc) {
  return parser_->keep(
      parser_->app.add_option(names, value, doc)->option_text(shown)->check(not_empty(shown)),
      group_);
}

Option* CommandLine::option(const std::string& names, std::vector<std::string>& values,
                            const std::string& shown, const std::string& doc) {
  return parser_->keep(parser_->app.add_option(names, values, doc)
                           ->option_text(shown)
                           ->check(not_empty(shown))
                           ->allow_extra_args(false),
                       group_);
}

Option* CommandLine::text(const std::string& names, std::string& value, const std::string& shown,
                          const std::string& doc) {
  return parser_->keep(parser_->app.add_option(names, value, doc)->option_text(shown), group_);
}

Option* CommandLine::rest(const std::string& name, std::vector<std::string>& values,
                          const std::string& doc) {
  return parser_->keep(parser_->app.add_option(name, values, doc)->option_text(""), group_);
}

Option* CommandLine::flag(const std::string& names, bool& value, const std::string& doc) {
  return parser_->keep(parser_->app.add_flag(names, value, doc), group_);
}

Option* CommandLine::checked(const std::string& names, const std::string& shown,
                             const std::string& doc, const Check& check,
                             const std::function<void(const std::string&)>& take) {
  return parser_->keep(
      parser_->app.add_option_function<std::string>(names, take, doc)
          ->check(CLI::Validator([check](std::string& given) { return check(given); }, ""))
          ->option_text(shown),
      group_);
}

Option* CommandLine::list(const std::string& names, const std::string& shown,
                          const std::string& doc, const TakeList& take) {
  const auto take_all = [take, names](const std::vector<std::string>& given) {
    std::vector<std::string> items;
    for (const std::string& several : given) {
      for (std::string& item : items_of(several)) items.push_back(std::move(item));
    }
    if (const std::string wrong = take(items); !wrong.empty())
      throw CLI::ValidationError(names, wrong);
  };
  return parser_->keep(
      parser_->app.add_option_function<std::vector<std::string>>(names, take_all, doc)
          ->allow_extra_args(false)
          ->option_text(shown),
      group_);
}

// ---- parsing ------------------------------------------------------------------------------------
bool CommandLine::parse() {
  parser_->app.set_help_flag("-h,--help", "print this help")->group("Common options");
  std::vector<std::string> reversed(arguments_.rest.rbegin(), arguments_.rest.rend());
  try {
    parser_->app.parse(reversed);
  } catch (const CLI::CallForHelp&) {
    write_stdout(help());
    return false;
  } catch (const CLI::ExtrasError&) {
    fail(unexpected(parser_->app.remaining()));
  } catch (const CLI::ArgumentMismatch& error) {
    fail(wrong_count(error.what()));
  } catch (const CLI::RequiredError& error) {
    if (const auto extras = parser_->app.remaining(); !extras.empty()) fail(unexpected(extras));
    fail(fmt::format("{}; give it a value: {}", error.what(), with_value(error.what())));
  } catch (const CLI::ExcludesError& error) {
    const std::string_view words = error.what();  // "--to excludes --from"
    fail(fmt::format("give {} or {}, not both", words.substr(0, words.find(' ')),
                     words.substr(words.rfind(' ') + 1)));
  } catch (const CLI::ConversionError& error) {   // of a flag: other options take texts
    const std::string_view words = error.what();  // "Could not convert: --quiet = maybe"
    const std::size_t name = std::min(words.find("--"), words.size());
    fail(fmt::format("{} is a switch, which takes no value; give it alone",
                     words.substr(name, words.find(' ', name) - name)));
  } catch (const CLI::ParseError& error) {
    fail(error.what());
  }
  for (const auto& check : checks_) check();
  return true;
}

// CLI11's messages begin with the name of their option.
std::string CommandLine::with_value(std::string_view message) const {
  const std::string name(message.substr(0, message.find_first_of(": ")));
  const CLI::Option* option = parser_->app.get_option_no_throw(name);
  return option == nullptr ? name : fmt::format("{} {}", name, option->get_option_text());
}

// An option without its value, or one that takes a single value and was given again.
std::string CommandLine::wrong_count(std::string_view message) const {
  for (const CLI::Option* option : parser_->app.get_options()) {
    const std::size_t given = option->results().size();
    if (given <= 1 || option->get_items_expected_max() != 1 || option->get_name().empty()) continue;
    return fmt::format("{} is given {}, and takes one value: {}; leave out the others",
                       option->get_name(),
                       given == 2 ? std::string("twice") : fmt::format("{} times", given),
                       with_value(option->get_name()));
  }
  const std::string wanted = with_value(message);
  return fmt::format("{} needs a value: {}", wanted.substr(0, wanted.find(' ')), wanted);
}

std::string CommandLine::unexpected(const std::vector<std::string>& extras) const {
  const auto option =
      std::find_if(extras.begin(), extras.end(), [](const auto& e) { return e.starts_with("-"); });
  if (option == extras.end()) return fmt::format("unexpected argument '{}'", extras.at(0));
  std::vector<std::string> names;
  for (const CLI::Option* known : parser_->app.get_options()) {
    for (const std::string& name : known->get_lnames()) names.push_back("--" + name);
  }
  const std::string wanted = option->substr(0, option->find('='));
  if (const auto advice = advice_.find(wanted); advice != advice_.end())
    return fmt::format("there is no option '{}': {}", wanted, advice->second);
  return fmt::format("there is no option '{}'{}", wanted, did_you_mean(nearest(wanted, names, 1)));
}

void CommandLine::fail(std::string_view message) const {
  throw Error(ErrorKind::usage, fmt::format("{}: {}; see 'vitrine {} --help'", arguments_.verb,
                                            message, arguments_.verb));
}

std::string CommandLine::help() const {
  std::string text = parser_->app.help();
  for (std::size_t at; (at = text.find("\n\n\n")) != std::string::npos;) text.erase(at, 1);
  while (text.ends_with("\n")) text.pop_back();
  return fmt::format("{}\n\nExample:\n  {}\n", text, example_);
}

std::string CommandLine::text() const {
  const std::string rest = shell_text(arguments_.rest);
  // The verb is words of ours: "sae eval".
  return "vitrine " + arguments_.verb + (rest.empty() ? "" : " " + rest);
}

bool CommandLine::was_given(const std::string& name) const {
  const CLI::Option* option = parser_->app.get_option_no_throw(name);
  return option != nullptr && option->count() > 0;
}

std::vector<std::string> CommandLine::given(const std::string& heading) const {
  std::vector<std::string> names;
  for (const CLI::Option* option : parser_->app.get_options()) {
    if (option->get_group() == heading && option->count() > 0) names.push_back(option->get_name());
  }
  return names;
}

}  // namespace vitrine::app
