// Where results go: standard output or --out FILE, as text or JSON. Logs go to standard error.
#pragma once

#include <filesystem>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>

#include "apps/terminal/text.h"
#include "tensor/files/json_value.h"

namespace vitrine::app {

using Json = JsonValue;

// Writes and flushes. Throws SaveError when standard output cannot take it (a full disk).
void write_stdout(std::string_view text);
// On stderr. What cannot be written there is lost and nothing else: progress is no result.
void print_progress(std::string_view text);
void log(std::string_view line);  // to standard error

// To standard output when `out` is "" or "-", else to that file, all or nothing (SaveError).
void write_result(const std::string& out, std::string_view text);

// The same for a result that is too long to be held as one text: `write` is given where to put its
// pieces.
void write_result_in_pieces(
    const std::string& out,
    const std::function<void(const std::function<void(std::string_view)>&)>& write);

// Throws SaveError when the folder of `out` does not exist: said before a long run, not after it.
void check_folder_of(const std::string& out);

// Colours in what goes to `out`: `when` is always, never or auto (a terminal, and NO_COLOR unset).
Style style_for(const std::string& when, const std::string& out);

// How wide tables may be: $COLUMNS where it is set, else the width of the terminal that `out` goes
// to; 100 where it goes to a file or a pipe.
int terminal_columns(const std::string& out);
// The same, but nothing where it goes to a file or a pipe: tables of text are as wide as they are
// there.
std::optional<int> columns_of_terminal(const std::string& out);

// Throws NumericError, saying which, when a number of a result is NaN or infinite. A result for
// people is looked at as the JSON that it would be.
void require_finite(const Json& result);

// JSON on one line. Strings that are not UTF-8 hold U+FFFD for what is not.
std::string to_line(const Json& json);
// Text that may hold parts of characters, for JSON: U+FFFD stands for them.
std::string json_text(std::string_view bytes);
// The fields of an object as a file's metadata: strings as they are, everything else as JSON.
std::map<std::string, std::string> as_metadata(const Json& object);

}  // namespace vitrine::app
