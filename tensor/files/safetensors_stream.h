// Streaming safetensors writer: tensors are made while they are written and need never be in
// memory.
#pragma once

#include <filesystem>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "tensor/dtype.h"
#include "tensor/files/file.h"
#include "tensor/layout.h"

namespace vitrine {

struct StreamedTensor {
  std::string name;
  DType dtype;
  Shape shape;
  // Gives all bytes of the tensor to the sink, in order, in as many pieces as it likes.
  std::function<void(const Sink&)> write;
};

// Like save_safetensors (files/safetensors.h), with the same promises. Tensors with larger elements
// come first, otherwise they are written in the order given, one after the other. What a writer
// throws passes through, and the file that was there stays. Throws SaveError for a tensor that
// gives more or fewer bytes than its shape has.
void stream_safetensors(const std::filesystem::path& file,
                        const std::vector<StreamedTensor>& tensors,
                        const std::map<std::string, std::string>& metadata = {});

}  // namespace vitrine
