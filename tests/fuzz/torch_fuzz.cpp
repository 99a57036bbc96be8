// Any bytes are either refused with a FileError or give tensors whose every element can be read.
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <vector>

#include "tensor/error.h"
#include "tensor/torch/torch_file.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace vitrine;
  // A copy of its own, so that AddressSanitizer sees reads beyond the end.
  auto owner = std::make_shared<const std::vector<std::uint8_t>>(data, data + size);
  const auto bytes = std::as_bytes(std::span(*owner));
  try {
    const TorchFile file = TorchFile::parse(std::move(owner), bytes, "fuzz");
    for (const std::string& name : file.names()) {
      try {
        const Tensor tensor = file.at(name);
        if (tensor.numel() != static_cast<std::int64_t>(tensor.to_vector<double>().size()))
          std::abort();
      } catch (const FileError&) {  // a bool that is neither 0 nor 1, a type that is not read
      }
    }
  } catch (const FileError&) {
  }
  return 0;
}
