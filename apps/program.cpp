#include "apps/program.h"

#include <fmt/format.h>

#include <algorithm>
#include <csignal>
#include <exception>
#include <filesystem>
#include <new>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

#include "apps/terminal/interrupt.h"
#include "apps/terminal/output.h"
#include "apps/terminal/reader_gone.h"
#include "apps/verbs/verbs.h"
#include "tensor/error.h"

namespace vitrine::app {
namespace {

std::string overview() {
  std::string text =
      "Vitrine looks inside transformers.\n\n"
      "Usage: vitrine VERB [options]\n\n";
  for (const Verb& verb : verbs()) text += fmt::format("  {:<10} {}\n", verb.name, verb.summary);
  text +=
      "\n'vitrine VERB --help' lists a verb's options and ends with an example; "
      "'vitrine --version'\nprints the version.\n\n"
      "Example:\n  vitrine predict --prompt 'The capital of Texas is'\n";
  return text;
}

void run(std::vector<std::string> words) {
  if (words.empty() || words[0] == "--help" || words[0] == "-h") return write_stdout(overview());
  if (words[0] == "--version") return write_stdout("vitrine " VITRINE_VERSION "\n");
  if (words[0] == "help") {  // vitrine help VERB
    if (words.size() == 1) return write_stdout(overview());
    words = {words[1], "--help"};
  }
  const Verb& verb = find_verb(words[0]);
  verb.run({words[0], {words.begin() + 1, words.end()}});
}

// The contract with scripts: see README.md.
int exit_code(ErrorKind kind) {
  switch (kind) {
    case ErrorKind::runtime:
      return 1;
    case ErrorKind::usage:
      return 2;
    case ErrorKind::input:
      return 3;
    case ErrorKind::numeric:
      return 4;
    case ErrorKind::interrupted:
      return 130;
  }
  return 1;
}

// What the system said, in words.
std::string in_words(const std::error_code& error) {
  using std::errc;
  if (error == errc::no_such_file_or_directory) return "there is no such file or folder";
  if (error == errc::is_a_directory) return "it is a folder";
  if (error == errc::not_a_directory) return "a part of the path is not a folder";
  if (error == errc::permission_denied) return "you may not read it, or not enter its folder";
  if (error == errc::too_many_symbolic_link_levels) return "its links lead in a circle";
  if (error == errc::filename_too_long) return "the name is too long";
  if (error == errc::not_supported) return "it is not a file of the usual kind";
  return error.message();
}

// As programs end whose reader has gone: quietly, by the signal that says so.
int end_without_reader() {
  ::signal(SIGPIPE, SIG_DFL);
  ::raise(SIGPIPE);
  return 128 + SIGPIPE;
}

int report(std::string_view message, ErrorKind kind) {
  log(fmt::format("vitrine: {}", message));
  return exit_code(kind);
}

}  // namespace

int run_program(std::vector<std::string> words) {
  open_standard_streams();
  try {
    handle_interrupts();
    run(std::move(words));
    return 0;
  } catch (const ReaderGone&) {
    return end_without_reader();
  } catch (const SiteError& error) {
    return report(fmt::format("{}; 'vitrine info --sites' lists all", error.what()), error.kind());
  } catch (const Error& error) {
    return report(with_option_names(error.what()), error.kind());
  } catch (const std::bad_alloc&) {
    return report("out of memory; try a shorter prompt, fewer sites, or smaller batches",
                  ErrorKind::runtime);
  } catch (const std::filesystem::filesystem_error& error) {
    return report(
        fmt::format("cannot read '{}': {}", error.path1().string(), in_words(error.code())),
        ErrorKind::input);
  } catch (const std::system_error& error) {
    return report(
        fmt::format("the system refused something that is needed here: {}", in_words(error.code())),
        ErrorKind::runtime);
  } catch (const std::exception& error) {
    return report(fmt::format("this is a mistake in the program ({}); please report the "
                              "command, and what it read",
                              error.what()),
                  ErrorKind::runtime);
  }
}

}  // namespace vitrine::app
