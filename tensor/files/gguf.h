// GGUF files, as llama.cpp reads them (versions 2 and 3): metadata, a list of tensors, the data.
// Reading maps the file.
#pragma once

#include <cstddef>
#include <filesystem>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "tensor/files/gguf_metadata.h"
#include "tensor/tensor.h"

namespace vitrine {

// Whether a path names a GGUF file, by its ending.
bool is_gguf(const std::filesystem::path& path);

class Gguf {
 public:
  // Maps the file and checks everything but the numbers in the tensors. Throws FileError naming the
  // file and the key or the tensor when the file is missing, truncated or larger than its tensors,
  // big-endian or of another version, or when a key or a tensor is there twice, a tensor overlaps
  // another, is not aligned, or has rows that are no whole blocks.
  static Gguf open(const std::filesystem::path& file);
  // The same checks over bytes in memory; `name` stands for the file in messages. The bytes are not
  // copied.
  static Gguf parse(std::shared_ptr<const void> owner, std::span<const std::byte> bytes,
                    std::string name);

  const std::vector<std::string>& names() const { return names_; }  // in the order of the file
  bool contains(std::string_view name) const;
  // The tensor over the mapped bytes, no copy, read-only, with the file's sizes reversed: rows
  // first, [.., out, in]. F32, F16, BF16, F64, I32, I64 and Q8_0, Q4_0, Q4_1, Q5_0, Q5_1, Q2_K to
  // Q6_K are given as they are; I8 and I16 come back widened. Throws FileError for an unknown name,
  // with near ones, and for a tensor of another type (IQ4_XS, MXFP4, ...), naming both.
  Tensor at(std::string_view name) const;
  // What at() would give, or refuse: "Q4_K", and [.., out, in].
  std::string type(std::string_view name) const;
  const Shape& shape(std::string_view name) const;
  const GgufMetadata& metadata() const { return metadata_; }
  const std::string& file() const { return file_; }

 private:
  struct Entry {
    std::uint32_t type;  // the format's number
    Shape shape;         // rows first
    std::uint64_t offset, bytes;
  };
  const Entry& find(std::string_view name) const;
  void read_entries(ByteReader& in, std::uint64_t count);
  void check_places(const ByteReader& in, std::uint64_t alignment);

  std::string file_;
  std::shared_ptr<const void> owner_;
  std::span<const std::byte> data_;
  GgufMetadata metadata_;
  std::vector<std::string> names_;
  std::map<std::string, Entry, std::less<>> entries_;
};

}  // namespace vitrine
