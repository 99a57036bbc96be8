// safetensors files: an 8-byte little-endian header length, a JSON header {name: {dtype, shape,
// data_offsets}}, the data. Reading maps the file; writing is atomic (temporary file, fsync,
// rename).
#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "tensor/tensor.h"

namespace vitrine {

class SafeTensors {
 public:
  // Maps the file and checks the whole header. Throws FileError naming the file and the entry when
  // the file is missing, truncated or larger than its tensors, or an entry is duplicated,
  // overlapping, out of range, of an unknown dtype, or of a size that is not its shape's.
  static SafeTensors open(const std::filesystem::path& file);
  // The same checks over bytes in memory; `name` stands for the file in messages. The bytes are not
  // copied.
  static SafeTensors parse(std::shared_ptr<const void> owner, std::span<const std::byte> bytes,
                           std::string name);

  const std::vector<std::string>& names() const { return names_; }  // in the order of their data
  bool contains(std::string_view name) const;
  // The tensor over the mapped bytes, no copy, in its stored dtype. Throws FileError for an unknown
  // name, with near ones. f64, f32, f16, bf16, i64, i32 and bool are given as they are; u8, i8,
  // u16, i16, u32 come back widened (i32, u32 as i64).
  Tensor at(std::string_view name) const;
  const std::map<std::string, std::string>& metadata() const { return metadata_; }
  const std::string& file() const { return file_; }

 private:
  struct Entry;
  std::string file_;
  std::vector<std::string> names_;
  std::map<std::string, std::shared_ptr<const Entry>, std::less<>> entries_;
  std::map<std::string, std::string> metadata_;
};

using NamedTensors = std::vector<std::pair<std::string, Tensor>>;

// Writes atomically: on any failure (disk full, no permission) throws SaveError and leaves an
// existing file as it was.
void save_safetensors(const std::filesystem::path& file, const NamedTensors& tensors,
                      const std::map<std::string, std::string>& metadata = {});

}  // namespace vitrine
