#include "nn/model/fingerprint.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "nn/tokenizer/tokenizer_parts.h"

namespace vitrine::nn {

void Hash::add(std::span<const std::byte> bytes, const Tick& tick) {
  constexpr std::size_t kPiece = std::size_t{1} << 24;  // a hundredth of a second
  std::size_t i = 0;
  while (i + 8 <= bytes.size()) {
    const std::size_t begin = i, end = std::min(bytes.size(), begin + kPiece);
    for (std::uint64_t word = 0; i + 8 <= end; i += 8) {
      std::memcpy(&word, bytes.data() + i, 8);
      add(word);
    }
    if (tick) tick(static_cast<std::int64_t>(i - begin));
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
    if (const TextSteps& steps = model.tokenizer().steps(); !steps.is_gpt2())
      hash.add(normalizer_json(steps).line() + pre_tokenizer_json(steps).line());
  }
  return hash.text();
}

}  // namespace vitrine::nn
