// The JSON header of a safetensors file, read strictly: its grammar and types, not yet its
// arithmetic.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace vitrine::safetensors {

// One `"name": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}`.
struct HeaderEntry {
  std::string name;
  std::string dtype;
  std::vector<std::uint64_t> shape;  // at most kMaxRank
  std::uint64_t begin = 0, end = 0;  // bytes, counted from the end of the header
};

struct Header {
  std::vector<HeaderEntry> entries;  // in the order of the header
  std::map<std::string, std::string> metadata;
};

// Throws FileError, naming `file` and the entry, on anything but one JSON object of such entries
// (and __metadata__, an object of strings): syntax errors, wrong types, negative or fractional
// numbers, missing, unknown and repeated keys. Any depth of nesting is safe.
Header parse_header(std::string_view json, const std::string& file);

}  // namespace vitrine::safetensors
