#include "tensor/files/run_folder.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <string>
#include <system_error>
#include <vector>

#include "tensor/error.h"

namespace vitrine {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kOurs = "vitrine-", kLock = "vitrine-lock", kBuffer = "vitrine-buffer";

}  // namespace

bool is_left_over(std::string_view file, std::initializer_list<std::string_view> names) {
  for (const std::string_view name : names) {
    if (!file.starts_with(name) || !file.substr(name.size()).starts_with(".tmp.")) continue;
    const std::string_view rest = file.substr(name.size() + 5);
    const std::size_t dash = rest.find('-');
    const auto all_of = [](std::string_view text, std::string_view allowed) {
      return !text.empty() && text.find_first_not_of(allowed) == text.npos;
    };
    if (dash != rest.npos && all_of(rest.substr(0, dash), "0123456789") &&
        rest.size() == dash + 9 && all_of(rest.substr(dash + 1), "0123456789abcdef"))
      return true;
  }
  return false;
}

void require_unused(const fs::path& folder, std::initializer_list<std::string_view> files) {
  std::error_code error;
  if (!fs::exists(folder, error) && !error) return;
  if (!error && !fs::is_directory(folder, error) && !error)
    throw FileError(fmt::format("'{}' is a file; give a folder", folder.string()));
  const bool begun = fs::exists(folder / kBeginning, error);
  const auto ours = [&](const std::string& name) {
    return name.starts_with(kOurs) || is_left_over(name, {"training.safetensors"}) ||
           (begun && (std::find(files.begin(), files.end(), name) != files.end() ||
                      is_left_over(name, files)));
  };
  fs::directory_iterator entries(folder, error);
  for (; !error && entries != fs::directory_iterator(); entries.increment(error)) {
    const std::string name = entries->path().filename().string();
    if (ours(name)) continue;
    throw FolderInUse(
        fmt::format("the folder '{}' is not empty (it holds '{}'), and what is there would be "
                    "written over; give a new folder",
                    folder.string(), name));
  }
  if (error)
    throw FileError(
        fmt::format("the folder '{}' cannot be read: {}", folder.string(), error.message()));
}

void require_absent(const fs::path& folder, std::initializer_list<std::string_view> names) {
  std::error_code error;
  for (const std::string_view name : names) {
    if (!fs::exists(fs::symlink_status(folder / name, error))) continue;
    throw FileError(
        fmt::format("'{}' is of something else, and would change how the new files beside it are "
                    "read; move it elsewhere, or give another "
                    "folder",
                    (folder / name).string()));
  }
}

void require_inside(std::string_view name, std::string_view where) {
  const fs::path path(name);
  bool inside = path.is_relative();
  for (const fs::path& part : path) inside = inside && part != "..";
  if (!inside) {
    throw CheckpointError(fmt::format(
        "{}: '{}' leads out of the run's folder; nothing is written there", where, name));
  }
}

void require_no_link(const fs::path& folder, const fs::path& name) {
  fs::path at = folder;
  for (const fs::path& part : name) {
    at /= part;
    std::error_code error;
    if (!fs::is_symlink(fs::symlink_status(at, error))) continue;
    throw FileError(
        fmt::format("'{}' is a symbolic link, and a run writes in its own folder alone; remove the "
                    "link, or put what it leads to in its "
                    "place",
                    at.string()));
  }
}

namespace {

template <class F>
void remove_all_of(const fs::path& folder, const F& unwanted) {
  std::error_code error;
  std::vector<fs::path> files;
  fs::directory_iterator entries(folder, error);
  for (; !error && entries != fs::directory_iterator(); entries.increment(error)) {
    if (unwanted(*entries)) files.push_back(entries->path());
  }
  for (const fs::path& file : files) fs::remove(file, error);
}

// Nothing of a run's names may lead elsewhere: what is written would land there.
void require_own(const fs::path& folder, std::initializer_list<std::string_view> files) {
  std::error_code error;
  fs::directory_iterator entries(folder, error);
  for (; !error && entries != fs::directory_iterator(); entries.increment(error)) {
    const std::string name = entries->path().filename().string();
    if (!name.starts_with(kOurs) && std::find(files.begin(), files.end(), name) == files.end())
      continue;
    require_no_link(folder, name);
    const fs::file_status status = entries->symlink_status(error);
    if (!fs::is_regular_file(status) && !fs::is_directory(status)) {
      throw FileError(fmt::format(
          "'{}' is no ordinary file; move it elsewhere, or give another folder for the run",
          entries->path().string()));
    }
  }
}

}  // namespace

void remove_left_overs(const fs::path& folder, std::initializer_list<std::string_view> files) {
  std::error_code error;
  if (fs::exists(folder / kLock, error)) return;
  remove_all_of(folder, [&](const fs::directory_entry& entry) {
    return is_left_over(entry.path().filename().string(), files);
  });
}

RunFolder::RunFolder(const fs::path& folder, std::initializer_list<std::string_view> files) {
  std::error_code error;
  fs::create_directories(folder, error);
  if (error)
    throw SaveError(fmt::format("{}: it cannot be used: {}", folder.string(), error.message()));
  require_own(folder, files);
  lock_ = ::open((folder / kLock).c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0666);
  if (lock_ < 0)
    throw SaveError(fmt::format("{}: it cannot be used: {}", folder.string(), error_text(errno)));
  if (::flock(lock_, LOCK_EX | LOCK_NB) != 0) {
    const int why = errno;
    ::close(lock_);
    if (why == EWOULDBLOCK) {
      throw FileError(fmt::format(
          "another process is working in '{}'; wait for its end, or give another folder",
          folder.string()));
    }
    throw SaveError(fmt::format("{}: it cannot be locked: {}", folder.string(), error_text(why)));
  }
  // In the folder itself: in one below it another process may be working.
  remove_all_of(folder, [&](const fs::directory_entry& entry) {
    const std::string name = entry.path().filename().string();
    std::error_code ignored;
    return is_left_over(name, files) || (name == kBuffer && entry.is_regular_file(ignored));
  });
}

RunFolder::~RunFolder() { ::close(lock_); }

}  // namespace vitrine
