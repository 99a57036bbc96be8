// log.jsonl of a run: whole lines, appended.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string_view>

namespace vitrine::app {

// A log is no result: one that cannot be written is told on stderr, once, and the run goes on.
class LogFile {
 public:
  // Of a run that goes on after `step`: lines of later steps, which a killed run made after its
  // last save, are dropped. Of a run that begins (nothing): earlier lines are another run's, and
  // go.
  LogFile(std::filesystem::path file, std::optional<std::int64_t> step);
  ~LogFile();
  LogFile(const LogFile&) = delete;
  LogFile& operator=(const LogFile&) = delete;

  void write(std::string_view line);  // with its end; the whole line or nothing of it

 private:
  void complain(std::string_view why);

  std::filesystem::path file_;
  int descriptor_ = -1;
  bool complained_ = false;
};

}  // namespace vitrine::app
