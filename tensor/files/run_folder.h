// Run folders: locks a folder for one process that works in it for a long time, and touches nobody
// else's files.
#pragma once

#include <filesystem>
#include <initializer_list>
#include <string_view>

#include "tensor/error.h"

namespace vitrine {

// A folder that holds what a run would write over.
class FolderInUse : public FileError {
 public:
  using FileError::FileError;
};

// Throws FolderInUse unless `folder` is absent, empty, or holds nothing but what an unfinished
// beginning of a run leaves: names that begin with "vitrine-", and `files` where kBeginning says
// that they are its. What people have put there is theirs. FileError for a file, and for what
// cannot be read.
void require_unused(const std::filesystem::path& folder,
                    std::initializer_list<std::string_view> files = {});
// A file in the folder of a run that has written, but is not saved yet.
inline constexpr std::string_view kBeginning = "vitrine-beginning";

// Throws FileError when one of these files is in the folder: what is written there, over what was
// there, would be read with it.
void require_absent(const std::filesystem::path& folder,
                    std::initializer_list<std::string_view> names);

// Throws FileError when FOLDER/NAME, or a folder on the way from FOLDER to it, is a symbolic link:
// what is written through it would land elsewhere.
void require_no_link(const std::filesystem::path& folder, const std::filesystem::path& name);

// Whether `file` is "NAME.tmp.PID-XXXXXXXX" for one of `names`: what write_atomically leaves when
// it is killed.
bool is_left_over(std::string_view file, std::initializer_list<std::string_view> names);

// Removes what is_left_over of `files` in a folder below one that this process works in; not where
// another may be at work.
void remove_left_overs(const std::filesystem::path& folder,
                       std::initializer_list<std::string_view> files);

// Path traversal check: throws CheckpointError unless `name` stays inside a folder that it is
// appended to. Names come from files, which may come from anybody.
void require_inside(std::string_view name, std::string_view where);

// Makes the folder where it is missing, and keeps other processes out of it for as long as this
// lives (the system lets go when the process ends, however it ends). What a process that was killed
// while it wrote has left is removed: what is_left_over of `files`, and a buffer. Throws FileError
// when another process has the folder, or when one of `files` or a name that begins with "vitrine-"
// is a symbolic link or no ordinary file; SaveError when it cannot be used.
class RunFolder {
 public:
  RunFolder(const std::filesystem::path& folder, std::initializer_list<std::string_view> files);
  ~RunFolder();
  RunFolder(const RunFolder&) = delete;
  RunFolder& operator=(const RunFolder&) = delete;

 private:
  int lock_ = -1;
};

}  // namespace vitrine
