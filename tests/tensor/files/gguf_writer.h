// Writes small GGUF files for tests, good ones and bad ones: nothing is checked.
#pragma once

#include <cstdint>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "tensor/files/gguf_metadata.h"

namespace vitrine::test {

template <class T>
std::string raw(T value) {
  std::string out(sizeof(T), '\0');
  std::memcpy(out.data(), &value, sizeof(T));
  return out;
}
inline std::string gguf_text(const std::string& text) {
  return raw<std::uint64_t>(text.size()) + text;
}

struct GgufWriter {
  std::uint32_t version = 3;
  std::uint64_t alignment = 32;
  std::string keys, tensors, data;
  std::uint64_t key_count = 0, tensor_count = 0;

  // `value` as the file has it, behind its type.
  GgufWriter& key(const std::string& name, GgufType type, const std::string& value) {
    keys += gguf_text(name) + raw(static_cast<std::uint32_t>(type)) + value;
    ++key_count;
    return *this;
  }
  GgufWriter& text(const std::string& name, const std::string& value) {
    return key(name, GgufType::string, gguf_text(value));
  }
  GgufWriter& integer(const std::string& name, std::uint32_t value) {
    return key(name, GgufType::uint32, raw(value));
  }
  GgufWriter& real(const std::string& name, float value) {
    return key(name, GgufType::float32, raw(value));
  }
  GgufWriter& list(const std::string& name, GgufType type, std::uint64_t count,
                   const std::string& values) {
    return key(name, GgufType::array, raw(static_cast<std::uint32_t>(type)) + raw(count) + values);
  }
  GgufWriter& texts(const std::string& name, const std::vector<std::string>& values) {
    std::string all;
    for (const std::string& v : values) all += gguf_text(v);
    return list(name, GgufType::string, values.size(), all);
  }
  // `sizes` as GGUF has them, the fastest first; `type` is the format's number.
  GgufWriter& tensor_at(const std::string& name, const std::vector<std::uint64_t>& sizes,
                        std::uint32_t type, std::uint64_t offset) {
    tensors += gguf_text(name) + raw(static_cast<std::uint32_t>(sizes.size()));
    for (const std::uint64_t size : sizes) tensors += raw(size);
    tensors += raw(type) + raw(offset);
    ++tensor_count;
    return *this;
  }
  GgufWriter& tensor(const std::string& name, const std::vector<std::uint64_t>& sizes,
                     std::uint32_t type, const std::string& bytes) {
    tensor_at(name, sizes, type, data.size());
    data += bytes;
    data.resize((data.size() + alignment - 1) / alignment * alignment);
    return *this;
  }
  std::string header() const {
    std::string out = "GGUF" + raw(version) + raw(tensor_count) + raw(key_count) + keys + tensors;
    if (tensor_count > 0) out.resize((out.size() + alignment - 1) / alignment * alignment);
    return out;
  }
  std::string bytes() const { return header() + data; }
};

}  // namespace vitrine::test
