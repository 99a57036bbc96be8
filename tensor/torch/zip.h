// Zip archives whose entries are stored as they are, which is how PyTorch keeps its checkpoints.
#pragma once

#include <cstddef>
#include <functional>
#include <map>
#include <span>
#include <string>
#include <string_view>

namespace vitrine::torch {

using ZipEntries = std::map<std::string, std::span<const std::byte>, std::less<>>;

// The bytes of every entry by its name, zip64 too. Throws FileError naming `file` for what is
// truncated, compressed, encrypted, spread over several archives, overlapping or there twice.
ZipEntries read_zip(std::span<const std::byte> bytes, std::string_view file);

}  // namespace vitrine::torch
