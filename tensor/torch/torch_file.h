// PyTorch's checkpoints (pytorch_model.bin, *.pt): their tensors alone. Nothing in the file is
// executed. Reading maps the file.
#pragma once

#include <cstddef>
#include <filesystem>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "tensor/tensor.h"

namespace vitrine {

class TorchFile {
 public:
  // Maps the file (a zip, or the run of pickles that PyTorch wrote before 1.6) and checks everything
  // but the numbers in the tensors. The tensors are those of the dict of names that was saved, or of
  // the one dict of tensors in it ("state_dict", "model"); what is no tensor is passed over. Throws
  // FileError naming the file when it is missing, truncated or malformed, names a Python object
  // other than those that tensors need, is big-endian, is a program (TorchScript) and no checkpoint,
  // holds no tensor, several dicts of them or a name twice, or when a tensor reaches beyond its
  // storage.
  static TorchFile open(const std::filesystem::path& file);
  // The same checks over bytes in memory; `name` stands for the file in messages. The bytes are not
  // copied.
  static TorchFile parse(std::shared_ptr<const void> owner, std::span<const std::byte> bytes,
                         std::string name);

  const std::vector<std::string>& names() const { return names_; }  // in the order of the file
  bool contains(std::string_view name) const;
  // The tensor with its strides over the mapped bytes, read-only, no copy unless they are not
  // aligned. f64, f32, f16, bf16, i64, i32 and bool are given as they are; u8, i8, i16, u16 and u32
  // come back widened (i32, u32 as i64). Throws FileError for an unknown name, with near ones, and
  // for a tensor of another type.
  Tensor at(std::string_view name) const;
  const std::string& file() const { return file_; }

 private:
  friend class TorchReader;
  struct Entry;
  std::string file_;
  std::shared_ptr<const void> owner_;
  std::vector<std::string> names_;
  std::map<std::string, std::shared_ptr<const Entry>, std::less<>> entries_;
};

}  // namespace vitrine
