// A folder in which one process works for a long time: nobody else's files are touched, and nobody else works in it.
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
// beginning of a run leaves: names that begin with "vitrine-". What people have put there is
// theirs. FileError for a file, and for what cannot be read.
void require_unused(const std::filesystem::path& folder);

// Throws CheckpointError unless `name` stays inside a folder that it is appended to: names stand in files that may
// come from anybody.
void require_inside(std::string_view name, std::string_view where);

// Makes the folder where it is missing, and keeps other processes out of it for as long as this lives (the system lets
// go when the process ends, however it ends). What a process that was killed while it wrote has left is removed:
// "NAME.tmp.PID-XXXXXXXX" beside a NAME of `files`. Throws FileError when another process has the folder, SaveError
// when it cannot be used.
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
