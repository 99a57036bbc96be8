// Fingerprints (hashes) of models and texts: they tell which ones a checkpoint belongs to.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>

#include "nn/model/model.h"

namespace vitrine::nn {

// Not made to withstand forgery. Eight bytes at a time: xor, multiplication by an odd constant (the
// golden ratio's bits), and the upper half folded down.
class Hash {
 public:
  void add(std::uint64_t word) {
    state_ = (state_ ^ word) * 0x9E3779B97F4A7C15U;
    state_ ^= state_ >> 32U;
  }
  void add(std::span<const std::byte> bytes) { add(bytes, nullptr); }
  // `tick` is called now and then with how many more bytes have been read; what it throws ends
  // this.
  using Tick = std::function<void(std::int64_t bytes)>;
  void add(std::span<const std::byte> bytes, const Tick& tick);
  void add(std::string_view text) { add(std::as_bytes(std::span(text))); }
  std::string text() const;  // 16 hexadecimal digits

 private:
  std::uint64_t state_ = 0;
};

// Of a model's configuration, weights, gauge and vocabulary.
std::string fingerprint(const Model& model);

}  // namespace vitrine::nn
