// Any bytes as config.json: a configuration or an Error, never a crash.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "nn/families/config.h"
#include "tensor/error.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  try {
    const auto c =
        vitrine::nn::parse_config({reinterpret_cast<const char*>(data), size}, "config.json");
    if (c.d_model % c.heads != 0 || c.context < 1 || c.layers < 1)
      __builtin_trap();  // what the parser promises
  } catch (const vitrine::Error&) {
  }
  return 0;
}
