#include "apps/terminal/output.h"

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <cerrno>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <span>
#include <system_error>

#include "apps/terminal/numbers.h"
#include "apps/terminal/reader_gone.h"
#include "tensor/error.h"
#include "tensor/files/file.h"
#include "tensor/files/json_text.h"
#include "tensor/files/utf8.h"

namespace vitrine::app {

void write_stdout(std::string_view text) {
  const bool written = std::fwrite(text.data(), 1, text.size(), stdout) == text.size();
  if (written && std::fflush(stdout) == 0) return;
  if (errno == EPIPE) throw ReaderGone();
  throw SaveError(
      fmt::format("cannot write to standard output: {}", std::generic_category().message(errno)));
}

void print_progress(std::string_view text) {
  std::fwrite(text.data(), 1, text.size(), stderr);
  std::fflush(stderr);
}

void log(std::string_view line) { print_progress(fmt::format("{}\n", line)); }

void write_result(const std::string& out, std::string_view text) {
  if (out.empty() || out == "-") {
    write_stdout(text);
  } else {
    write_text(out, text);
  }
}

void write_result_in_pieces(
    const std::string& out,
    const std::function<void(const std::function<void(std::string_view)>&)>& write) {
  if (out.empty() || out == "-") return write(write_stdout);
  write_atomically(out, [&](const Sink& sink) {
    write([&](std::string_view text) { sink(std::as_bytes(std::span(text))); });
  });
}

void check_folder_of(const std::string& out) {
  const std::filesystem::path folder = std::filesystem::path(out).parent_path();
  std::error_code error;
  if (folder.empty() || std::filesystem::is_directory(folder, error)) return;
  throw SaveError(
      fmt::format("cannot write '{}': there is no folder '{}'; make it first, or name another file",
                  out, folder.string()));
}

Style style_for(const std::string& when, const std::string& out) {
  if (when == "always") return {true};
  if (when == "never") return {false};
  const char* no_color = std::getenv("NO_COLOR");  // https://no-color.org: set and not empty
  if (no_color != nullptr && *no_color != '\0') return {false};
  const char* terminal = std::getenv("TERM");
  if (terminal != nullptr && std::string_view(terminal) == "dumb") return {false};
  return {(out.empty() || out == "-") && ::isatty(STDOUT_FILENO) == 1};
}

int terminal_columns(const std::string& out) {
  constexpr int kElsewhere = 100;
  if (const char* set = std::getenv("COLUMNS"); set != nullptr) {
    const auto columns = number_in<int>(set);
    if (columns && Range<int>{1, 100'000}.contains(*columns)) return *columns;
  }
  winsize size{};
  if (!(out.empty() || out == "-") || ::ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) != 0)
    return kElsewhere;
  return size.ws_col > 0 ? size.ws_col : kElsewhere;
}

namespace {

void require_finite(const Json& json, const std::string& path) {
  if (json.is_number_float() && !std::isfinite(json.get<double>())) {
    const double x = json.get<double>();
    throw NumericError(
        fmt::format("'{}' of the result is {}: numbers of the model, or of what was put into it, "
                    "have become too large to compute with",
                    path,
                    std::isnan(x) ? "NaN"
                    : x > 0       ? "inf"
                                  : "-inf"));
  }
  if (json.is_object()) {
    for (const auto& [key, entry] : json.items())
      require_finite(entry, path.empty() ? key : path + "." + key);
  } else if (json.is_array()) {
    for (std::size_t i = 0; i < json.size(); ++i) {
      if (json[i].is_structured() || json[i].is_number_float())
        require_finite(json[i], fmt::format("{}[{}]", path, i));
    }
  }
}

}  // namespace

void require_finite(const Json& result) { require_finite(result, ""); }

std::string to_line(const Json& json) { return json_line(json) + "\n"; }

std::string json_text(std::string_view bytes) { return nn::replace_invalid_utf8(bytes); }

std::map<std::string, std::string> as_metadata(const Json& object) {
  std::map<std::string, std::string> metadata;
  for (const auto& [key, entry] : object.items())
    metadata[key] = entry.is_string() ? entry.get<std::string>() : json_line(entry);
  return metadata;
}

std::string lines_until(const std::filesystem::path& file, std::int64_t step) {
  std::error_code absent;  // what is there and cannot be read is told by read_text
  if (std::filesystem::status(file, absent).type() == std::filesystem::file_type::not_found)
    return "";
  const std::string text = read_text(file);
  std::string kept;
  for (std::size_t begin = 0; begin < text.size();) {
    const std::size_t end = text.find('\n', begin);
    if (end == std::string::npos) break;
    const std::string line = text.substr(begin, end - begin);
    begin = end + 1;
    const Json json = Json::parse(line, nullptr, false);
    if (!json.is_object()) continue;
    const auto at = json.find("step");
    if (at == json.end() || !at->is_number_integer() || at->get<std::int64_t>() <= step)
      kept += line + "\n";
  }
  return kept;
}

}  // namespace vitrine::app
