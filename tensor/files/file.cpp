#include "tensor/files/file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <random>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "tensor/error.h"
#include "tensor/nearest.h"

namespace vitrine {

std::string error_text(int number) { return std::generic_category().message(number); }
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kPiece = std::size_t{1} << 20;  // read and written at once

// An open file descriptor that closes itself.
class Descriptor {
 public:
  explicit Descriptor(int fd) : fd_(fd) {}
  ~Descriptor() {
    if (fd_ >= 0) ::close(fd_);
  }
  Descriptor(Descriptor&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Descriptor& operator=(Descriptor&&) = delete;
  int get() const { return fd_; }
  int release() { return std::exchange(fd_, -1); }

 private:
  int fd_;
};

int open_retrying(const fs::path& file, int flags, mode_t mode = 0) {
  int fd;
  do {
    fd = ::open(file.c_str(), flags | O_CLOEXEC, mode);
  } while (fd < 0 && errno == EINTR);
  return fd;
}

fs::path folder_of(const fs::path& file) {
  return file.has_parent_path() ? file.parent_path() : fs::path(".");
}

// What stands where the file was expected: the part of the message that tells the reader where to
// look.
std::string describe_absence(const fs::path& file) {
  const fs::path folder = folder_of(file);
  std::error_code ignored;
  if (!fs::exists(folder, ignored))
    return fmt::format("the folder '{}' does not exist", folder.string());
  if (!fs::is_directory(folder, ignored))
    return fmt::format("'{}' is not a folder", folder.string());
  std::vector<std::string> names;
  for (fs::directory_iterator it(folder, ignored), end; !ignored && it != end;
       it.increment(ignored)) {
    names.push_back(it->path().filename().string());
  }
  if (ignored)
    return fmt::format("the folder '{}' cannot be listed: {}", folder.string(), ignored.message());
  if (names.empty()) return fmt::format("the folder '{}' is empty", folder.string());
  std::sort(names.begin(), names.end());
  constexpr std::size_t kShown = 5;
  std::vector<std::string> shown = nearest(file.filename().string(), names, kShown);
  for (const std::string& name : names) {
    if (shown.size() >= kShown) break;
    if (std::find(shown.begin(), shown.end(), name) == shown.end()) shown.push_back(name);
  }
  return fmt::format(
      "the folder '{}' has no such file; it holds {}{}", folder.string(), fmt::join(shown, ", "),
      names.size() > shown.size() ? fmt::format(" and {} more", names.size() - shown.size()) : "");
}

[[noreturn]] void throw_unreadable(const fs::path& file, int error) {
  if (error == ENOENT || error == ENOTDIR) {
    throw FileError(fmt::format("cannot open '{}': {}", file.string(), describe_absence(file)));
  }
  if (error == EISDIR) {
    throw FileError(
        fmt::format("cannot read '{}': it is a folder; name a file inside it", file.string()));
  }
  throw FileError(fmt::format("cannot read '{}': {}", file.string(), error_text(error)));
}

Descriptor open_for_reading(const fs::path& file, struct stat& status) {
  Descriptor fd(open_retrying(file, O_RDONLY));
  if (fd.get() < 0) throw_unreadable(file, errno);
  if (::fstat(fd.get(), &status) != 0) throw_unreadable(file, errno);
  if (S_ISDIR(status.st_mode)) throw_unreadable(file, EISDIR);
  return fd;
}

std::string read_to_end(const Descriptor& fd, const fs::path& file, std::size_t expected) {
  std::string text;
  std::size_t have = 0;
  for (;;) {
    if (have == text.size())
      text.resize(std::max(text.size() + kPiece, expected + 1));  // + 1 to meet the end at once
    const ssize_t got = ::read(fd.get(), text.data() + have, text.size() - have);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) throw_unreadable(file, errno);
    if (got == 0) break;
    have += static_cast<std::size_t>(got);
  }
  text.resize(have);
  return text;
}

[[noreturn]] void throw_unsaved(const fs::path& file, std::string_view why, bool existed) {
  throw SaveError(
      fmt::format("cannot write '{}': {}; {}", file.string(), why,
                  existed ? "the file that was there is untouched" : "no file was made"));
}

void write_or_throw(int fd, std::span<const std::byte> bytes, const fs::path& file, bool existed) {
  if (const int error = write_fully(fd, bytes); error != 0)
    throw_unsaved(file, error_text(error), existed);
}

// Follows symbolic links to the place that a rename has to replace, which need not exist yet.
fs::path follow_links(const fs::path& file) {
  fs::path target = file;
  std::error_code error;
  constexpr int kMostLinks = 40;  // as the kernel
  for (int i = 0; fs::is_symlink(fs::symlink_status(target, error)); ++i) {
    if (i == kMostLinks) throw_unsaved(file, error_text(ELOOP), false);
    const fs::path next = fs::read_symlink(target, error);
    if (error) throw_unsaved(file, error.message(), false);
    target = next.is_absolute() ? next : folder_of(target) / next;
  }
  return target;
}

// A file beside `target` that is removed unless it takes the target's place.
class Temporary {
 public:
  Temporary(const fs::path& target, const fs::path& asked, mode_t mode, bool existed)
      : target_(target), asked_(asked), existed_(existed) {
    std::random_device random;
    int fd = -1;
    do {
      // The folder may limit names to 255 bytes.
      path_ = folder_of(target) / fmt::format("{}.tmp.{}-{:08x}",
                                              target.filename().string().substr(0, 200), ::getpid(),
                                              random());
      fd = open_retrying(path_, O_WRONLY | O_CREAT | O_EXCL, mode);
    } while (fd < 0 && errno == EEXIST);
    if (fd < 0) {
      const int error = errno;
      throw_unsaved(
          asked, error == ENOENT || error == ENOTDIR ? describe_absence(target) : error_text(error),
          existed);
    }
    fd_ = fd;
  }
  ~Temporary() {
    if (fd_ >= 0) ::close(fd_);
    if (!path_.empty()) ::unlink(path_.c_str());
  }
  Temporary(const Temporary&) = delete;
  Temporary& operator=(const Temporary&) = delete;

  int descriptor() const { return fd_; }

  void replace_target() {
    if (::fsync(fd_) != 0) throw_unsaved(asked_, error_text(errno), existed_);
    if (::close(std::exchange(fd_, -1)) != 0) throw_unsaved(asked_, error_text(errno), existed_);
    if (::rename(path_.c_str(), target_.c_str()) != 0)
      throw_unsaved(asked_, error_text(errno), existed_);
    path_.clear();
  }

 private:
  fs::path target_, asked_, path_;
  bool existed_;
  int fd_ = -1;
};

// Makes the rename itself survive a power failure. Some file systems cannot sync folders; that is
// not an error.
void sync_folder(const fs::path& target) {
  const Descriptor folder(open_retrying(folder_of(target), O_RDONLY | O_DIRECTORY));
  if (folder.get() < 0 || ::fsync(folder.get()) == 0 || errno != EIO) return;
  throw SaveError(fmt::format(
      "'{}' was replaced, but its folder could not be synced to the disk: {}; write it again",
      target.string(), error_text(EIO)));
}

}  // namespace

MappedFile map_file(const fs::path& file) {
  struct stat status {};
  const Descriptor fd = open_for_reading(file, status);
  if (!S_ISREG(status.st_mode)) {  // pipes and devices cannot be mapped
    auto text = std::make_shared<const std::string>(read_to_end(fd, file, 0));
    const auto bytes = std::as_bytes(std::span(text->data(), text->size()));
    return {std::move(text), bytes};
  }
  const auto size = static_cast<std::size_t>(status.st_size);
  if (size == 0) return {};
  void* address = ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, fd.get(), 0);
  if (address == MAP_FAILED) throw_unreadable(file, errno);
  std::shared_ptr<const void> owner(
      address, [size](const void* p) { ::munmap(const_cast<void*>(p), size); });
  return {std::move(owner), {static_cast<const std::byte*>(address), size}};
}

std::string read_text(const fs::path& file) {
  struct stat status {};
  const Descriptor fd = open_for_reading(file, status);
  return read_to_end(fd, file,
                     S_ISREG(status.st_mode) ? static_cast<std::size_t>(status.st_size) : 0);
}

void write_atomically(const fs::path& file, const std::function<void(const Sink&)>& write) {
  struct stat status {};
  const bool existed = ::stat(file.c_str(), &status) == 0;
  if (existed && S_ISDIR(status.st_mode)) {
    throw SaveError(
        fmt::format("cannot write '{}': it is a folder; name a file inside it", file.string()));
  }
  if (existed &&
      !S_ISREG(
          status.st_mode)) {  // a pipe or a device takes bytes as they come: nothing to replace
    Descriptor fd(open_retrying(file, O_WRONLY));
    if (fd.get() < 0) throw_unsaved(file, error_text(errno), true);
    write([&](std::span<const std::byte> bytes) { write_or_throw(fd.get(), bytes, file, true); });
    if (::close(fd.release()) != 0) throw_unsaved(file, error_text(errno), true);
    return;
  }
  // A rename would also replace a file that was protected against writing.
  if (existed && ::faccessat(AT_FDCWD, file.c_str(), W_OK, AT_EACCESS) != 0)
    throw_unsaved(file, error_text(errno), true);
  const fs::path target = follow_links(file);
  if (target.filename().empty())
    throw_unsaved(file, "the path names a folder; name a file inside it", false);
  Temporary temporary(target, file, 0666, existed);
  if (existed) {  // the new file may be read by whoever could read the old one
    if (::fchmod(temporary.descriptor(), status.st_mode & 07777) != 0)
      throw_unsaved(file, error_text(errno), true);
  }
  write([&](std::span<const std::byte> bytes) {
    write_or_throw(temporary.descriptor(), bytes, file, existed);
  });
  temporary.replace_target();
  sync_folder(target);
}

void write_text(const fs::path& file, std::string_view text) {
  write_atomically(
      file, [&](const Sink& sink) { sink(std::as_bytes(std::span(text.data(), text.size()))); });
}

int write_fully(int descriptor, std::span<const std::byte> bytes) noexcept {
  while (!bytes.empty()) {
    const ssize_t written = ::write(descriptor, bytes.data(), std::min(bytes.size(), kPiece));
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return errno;
    bytes = bytes.subspan(static_cast<std::size_t>(written));
  }
  return 0;
}

}  // namespace vitrine
