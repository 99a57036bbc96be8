// Numbers and runs of bytes, read one after the other out of a file in memory and never beyond it.
#pragma once

#include <fmt/format.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>

#include "tensor/error.h"

namespace vitrine {

class ByteReader {
 public:
  // `file` and `format` ("GGUF file") are for messages; both outlive the reader.
  ByteReader(std::span<const std::byte> bytes, std::string_view file, std::string_view format)
      : bytes_(bytes), file_(file), format_(format) {}

  std::size_t at() const { return at_; }
  std::size_t left() const { return bytes_.size() - at_; }

  // The next `n` bytes. Throws FileError where fewer follow; `what` says what they would be.
  std::span<const std::byte> take(std::uint64_t n, std::string_view what) {
    if (n > left()) {
      fail(
          fmt::format("{} at byte {} would take {} bytes, but only {} follow; it may be truncated: "
                      "fetch it again",
                      what, at_, n, left()));
    }
    const auto out = bytes_.subspan(at_, static_cast<std::size_t>(n));
    at_ += static_cast<std::size_t>(n);
    return out;
  }
  std::string_view text(std::uint64_t n, std::string_view what) {
    const auto bytes = take(n, what);
    return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
  }
  // A little-endian number.
  template <class T>
  T number(std::string_view what) {
    T out;
    std::memcpy(&out, take(sizeof(T), what).data(), sizeof(T));
    return out;
  }

  [[noreturn]] void fail(const std::string& what) const {
    throw FileError(fmt::format("'{}' is not a valid {}: {}", file_, format_, what));
  }

 private:
  std::span<const std::byte> bytes_;
  std::string_view file_, format_;
  std::size_t at_ = 0;
};

}  // namespace vitrine
