#include "apps/terminal/output.h"

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <cerrno>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <span>

#include "apps/terminal/host.h"
#include "apps/terminal/numbers.h"
#include "apps/terminal/reader_gone.h"
#include "tensor/error.h"
#include "tensor/files/file.h"
#include "tensor/files/utf8.h"

namespace vitrine::app {

void write_stdout(std::string_view text) {
  if (Host* h = host()) {
    h->written += text;
    return;
  }
  const bool written = std::fwrite(text.data(), 1, text.size(), stdout) == text.size();
  if (written && std::fflush(stdout) == 0) return;
  if (errno == EPIPE) throw ReaderGone();
  throw SaveError(fmt::format("cannot write to standard output: {}", error_text(errno)));
}

void print_progress(std::string_view text) {
  if (host() != nullptr) return;
  std::fwrite(text.data(), 1, text.size(), stderr);
  std::fflush(stderr);
}

void log(std::string_view line) {
  if (const Host* h = host()) {
    if (h->log) h->log(line);
    return;
  }
  print_progress(fmt::format("{}\n", line));
}

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
  if (host() != nullptr) return {false};
  if (when == "always") return {true};
  if (when == "never") return {false};
  const char* no_color = std::getenv("NO_COLOR");  // https://no-color.org: set and not empty
  if (no_color != nullptr && *no_color != '\0') return {false};
  const char* terminal = std::getenv("TERM");
  if (terminal != nullptr && std::string_view(terminal) == "dumb") return {false};
  return {(out.empty() || out == "-") && ::isatty(STDOUT_FILENO) == 1};
}

std::optional<int> columns_of_terminal(const std::string& out) {
  if (host() != nullptr) return host()->columns;
  if (const char* set = std::getenv("COLUMNS"); set != nullptr) {
    const auto columns = number_in<int>(set);
    if (columns && NumberRange<int>{1, 100'000}.contains(*columns)) return *columns;
  }
  winsize size{};
  if (!(out.empty() || out == "-") || ::ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) != 0 ||
      size.ws_col == 0)
    return std::nullopt;
  return size.ws_col;
}

int terminal_columns(const std::string& out) {
  constexpr int kElsewhere = 100;
  return columns_of_terminal(out).value_or(kElsewhere);
}

namespace {

bool is_finite(const Json& json) { return !json.is_number() || std::isfinite(*json.number()); }

void require_finite(const Json& json, const std::string& path) {
  if (!is_finite(json)) {
    const double x = *json.number();
    throw NumericError(
        fmt::format("'{}' of the result is {}: numbers of the model, or of what was put into it, "
                    "have become too large to compute with",
                    path,
                    std::isnan(x) ? "NaN"
                    : x > 0       ? "inf"
                                  : "-inf"));
  }
  if (const auto* fields = json.fields()) {
    for (const JsonField& f : *fields)
      require_finite(f.value, path.empty() ? f.name : path + "." + f.name);
  } else if (const auto* items = json.list_items()) {
    for (std::size_t i = 0; i < items->size(); ++i) {
      const Json& item = (*items)[i];
      if (item.fields() != nullptr || item.list_items() != nullptr || !is_finite(item))
        require_finite(item, fmt::format("{}[{}]", path, i));
    }
  }
}

}  // namespace

void require_finite(const Json& result) { require_finite(result, ""); }

std::string to_line(const Json& json) { return json.line() + "\n"; }

std::string json_text(std::string_view bytes) { return nn::replace_invalid_utf8(bytes); }

std::map<std::string, std::string> as_metadata(const Json& object) {
  std::map<std::string, std::string> metadata;
  for (const JsonField& f : *object.fields())
    metadata[f.name] = f.value.text() != nullptr ? *f.value.text() : f.value.line();
  return metadata;
}

}  // namespace vitrine::app
