// File access: memory-mapped reading, atomic writing.
#pragma once

#include <cstddef>
#include <filesystem>
#include <functional>
#include <memory>
#include <span>
#include <string>

namespace vitrine {

// What the system says of an error number (errno).
std::string error_text(int number);

struct MappedFile {
  std::shared_ptr<const void> owner;  // unmaps when the last copy goes
  std::span<const std::byte> bytes;
};

// Throws FileError when the file is missing, is a folder or cannot be read. An empty file gives an
// empty span.
MappedFile map_file(const std::filesystem::path& file);

// The whole file as text. Throws FileError like map_file.
std::string read_text(const std::filesystem::path& file);

// Gives `write` a sink, then syncs and renames over `file`. On any failure the temporary file is
// removed, an existing file stays as it was, and SaveError says why (no space, no permission, no
// such folder).
using Sink = std::function<void(std::span<const std::byte>)>;
void write_atomically(const std::filesystem::path& file,
                      const std::function<void(const Sink&)>& write);
void write_text(const std::filesystem::path& file, std::string_view text);

// All of the bytes to an open file, in as many writes as that takes: 0, or the system's error.
int write_fully(int descriptor, std::span<const std::byte> bytes) noexcept;

}  // namespace vitrine
