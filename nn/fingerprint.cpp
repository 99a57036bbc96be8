#include "nn/fingerprint.h"

#include <fmt/format.h>

#include <cstring>

namespace vitrine::nn {

void Hash::add(std::span<const std::byte> bytes) {
  std::size_t i = 0;
  for (std::uint64_t word = 0; i + 8 <= bytes.size(); i += 8) {
    std::memcpy(&word, bytes.data() + i, 8);
    add(word);
  }
  std::uint64_t rest = 0;
  if (i < bytes.size()) std::memcpy(&rest, bytes.data() + i, bytes.size() - i);
  add(rest);
  add(bytes.size());
}

std::string Hash::text() const { return fmt::format("{:016x}", state_); }

std::string fingerprint(const Model& model) {
  Hash hash;
  hash.add(config_json(model.config()));
  hash.add(name_of(model.gauge()));
  for (const auto& [name, tensor] : model.parameters()) {
    hash.add(name);
    const Tensor t = tensor.contiguous();
    hash.add(std::span<const std::byte>(t.view().data, static_cast<std::size_t>(t.bytes())));
  }
  if (model.has_tokenizer()) {
    for (const auto& token : model.tokenizer().tokens()) hash.add(token.value_or(""));
  }
  return hash.text();
}

}  // namespace vitrine::nn
