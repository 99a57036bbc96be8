#include "apps/terminal/log_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <span>
#include <string>
#include <system_error>
#include <utility>

#include "apps/terminal/output.h"
#include "tensor/error.h"
#include "tensor/files/file.h"

namespace vitrine::app {
namespace {

// Whether a line is an object, and not of a later step.
bool is_up_to(const std::string& line, std::int64_t step) {
  try {
    const JsonValue json = JsonValue::parse(line, "");
    if (json.fields() == nullptr) return false;
    const JsonValue* at = json.find("step");
    return at == nullptr || at->whole().value_or(step) <= step;
  } catch (const FileError&) {
    return false;  // cut short
  }
}

// The lines of a JSONL log up to a step, of lines that have one: what a run that was killed made
// after its last save is dropped, and so is a line that was cut short. "" for a file that is not
// there.
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
    if (is_up_to(line, step)) kept += line + "\n";
  }
  return kept;
}

}  // namespace

LogFile::LogFile(std::filesystem::path file, std::optional<std::int64_t> step)
    : file_(std::move(file)) {
  try {
    write_text(file_, step ? lines_until(file_, *step) : "");
  } catch (const Error& error) {
    complain(error.what());  // lines that should have gone would stand before the new ones
    return;
  }
  descriptor_ = ::open(file_.c_str(), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0666);
  if (descriptor_ < 0) complain(error_text(errno));
}

LogFile::~LogFile() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

void LogFile::write(std::string_view line) {
  if (descriptor_ < 0) return;
  struct stat before {};
  if (::fstat(descriptor_, &before) != 0) return complain(error_text(errno));
  const int error = write_fully(descriptor_, std::as_bytes(std::span(line)));
  if (error == 0) return;
  [[maybe_unused]] const int cut = ::ftruncate(descriptor_, before.st_size);
  complain(error_text(error));
}

void LogFile::complain(std::string_view why) {
  if (std::exchange(complained_, true)) return;
  log(
      fmt::format("vitrine: {}: the log cannot be written: {}; the run goes on, but lines of its "
                  "log are missing",
                  visible(file_.string()), why));
}

}  // namespace vitrine::app
