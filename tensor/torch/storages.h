// PyTorch's element types, and the storages of a checkpoint: the bytes that its tensors are seen
// through.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "tensor/dtype.h"
#include "tensor/tensor.h"
#include "tensor/torch/pickle.h"

namespace vitrine::torch {

// An element type and what it becomes in memory.
struct ElementType {
  std::string_view dtype;    // "float32"
  std::string_view storage;  // "FloatStorage"; empty for newer types, which have none
  std::int64_t bytes;
  std::optional<DType> becomes;  // none: not read
  // For types that memory does not have: reads n elements one by one.
  void (*widen)(const std::byte* from, std::int64_t n, const Tensor& to);
};

// nullptr where it is none: of a global like "torch.FloatStorage", "torch.cuda.FloatStorage" ...
const ElementType* type_of_storage(std::string_view global);
// ... or like "torch.float32".
const ElementType* type_of_dtype(std::string_view global);
// The names that a checkpoint of tensors may hold.
std::span<const std::string_view> known_globals();
std::string readable_element_types();

struct Storage {
  const ElementType* type;  // nullptr: bytes, whose type the tensor states
  std::int64_t elements;
  std::string key;
};
// What a persistent value of a pickle says. Throws FileError by `in` when it says something else.
Storage storage_of(const Pickle& pickle, const PickleValue& persistent, const ByteReader& in);

// The bytes of each storage by its key.
using StorageBytes = std::map<std::string, std::span<const std::byte>, std::less<>>;

// What is behind the pickle of a file from before PyTorch 1.6: the keys, and for each its number of
// elements and its bytes.
StorageBytes read_legacy_storages(ByteReader& in, const Pickle& pickle);

}  // namespace vitrine::torch
