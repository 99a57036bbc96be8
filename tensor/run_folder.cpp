#include "tensor/run_folder.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <string>
#include <system_error>
#include <vector>

#include "tensor/error.h"

namespace vitrine {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kOurs = "vitrine-", kLock = "vitrine-lock";

std::string reason(int error) { return std::generic_category().message(error); }

// "NAME.tmp.PID-XXXXXXXX" for one of `names`, as write_atomically makes them.
bool is_left_over(std::string_view file, std::initializer_list<std::string_view> names) {
  for (const std::string_view name : names) {
    if (!file.starts_with(name) || !file.substr(name.size()).starts_with(".tmp.")) continue;
    const std::string_view rest = file.substr(name.size() + 5);
    const std::size_t dash = rest.find('-');
    const auto all_of = [](std::string_view text, std::string_view allowed) {
      return !text.empty() && text.find_first_not_of(allowed) == text.npos;
    };
    if (dash != rest.npos && all_of(rest.substr(0, dash), "0123456789") && rest.size() == dash + 9 &&
        all_of(rest.substr(dash + 1), "0123456789abcdef"))
      return true;
  }
  return false;
}

}  // namespace

void require_unused(const fs::path& folder) {
  std::error_code error;
  if (!fs::exists(folder, error) && !error) return;
  if (!error && !fs::is_directory(folder, error) && !error)
    throw FileError(fmt::format("'{}' is a file; give a folder", folder.string()));
  fs::directory_iterator entries(folder, error);
  for (; !error && entries != fs::directory_iterator(); entries.increment(error)) {
    const std::string name = entries->path().filename().string();
    if (name.starts_with(kOurs) || is_left_over(name, {"training.safetensors"})) continue;
    throw FolderInUse(
        fmt::format("the folder '{}' is not empty (it holds '{}'), and what is there would be "
                    "written over; give a new folder",
                    folder.string(), name));
  }
  if (error) throw FileError(fmt::format("the folder '{}' cannot be read: {}", folder.string(), error.message()));
}

void require_inside(std::string_view name, std::string_view where) {
  const fs::path path(name);
  bool inside = path.is_relative();
  for (const fs::path& part : path) inside = inside && part != "..";
  if (!inside) {
    throw CheckpointError(fmt::format("{}: '{}' leads out of the run's folder; nothing is written there", where, name));
  }
}

RunFolder::RunFolder(const fs::path& folder, std::initializer_list<std::string_view> files) {
  std::error_code error;
  fs::create_directories(folder, error);
  if (error) throw SaveError(fmt::format("{}: it cannot be used: {}", folder.string(), error.message()));
  lock_ = ::open((folder / kLock).c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0666);
  if (lock_ < 0) throw SaveError(fmt::format("{}: it cannot be used: {}", folder.string(), reason(errno)));
  if (::flock(lock_, LOCK_EX | LOCK_NB) != 0) {
    const int why = errno;
    ::close(lock_);
    if (why == EWOULDBLOCK) {
      throw FileError(fmt::format(
          "another process is working in '{}'; wait for its end, or give another folder", folder.string()));
    }
    throw SaveError(fmt::format("{}: it cannot be locked: {}", folder.string(), reason(why)));
  }
  // In the folder itself: in one below it another process may be working.
  std::vector<fs::path> left;
  fs::directory_iterator entries(folder, error);
  for (; !error && entries != fs::directory_iterator(); entries.increment(error)) {
    if (is_left_over(entries->path().filename().string(), files)) left.push_back(entries->path());
  }
  for (const fs::path& file : left) fs::remove(file, error);
}

RunFolder::~RunFolder() { ::close(lock_); }

}  // namespace vitrine
