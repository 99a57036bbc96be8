// Any bytes are either refused with a FileError or give tensors whose every element can be read and
// written again.
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <vector>

#include "tensor/error.h"
#include "tensor/files/safetensors.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace vitrine;
  // A copy of its own, so that AddressSanitizer sees reads beyond the end.
  auto owner = std::make_shared<const std::vector<std::uint8_t>>(data, data + size);
  const auto bytes = std::as_bytes(std::span(*owner));
  try {
    const SafeTensors file = SafeTensors::parse(std::move(owner), bytes, "fuzz");
    for (const std::string& name : file.names()) {
      if (!file.contains(name)) std::abort();
      try {
        const Tensor tensor = file.at(name);
        if (tensor.numel() != static_cast<std::int64_t>(tensor.to_vector<double>().size()))
          std::abort();
        if (tensor.to_string().empty()) std::abort();
      } catch (const FileError&) {  // a BOOL that is neither 0 nor 1
      }
    }
    try {
      static_cast<void>(file.at("no such tensor"));
    } catch (const FileError&) {
    }
  } catch (const FileError&) {
  }
  return 0;
}
