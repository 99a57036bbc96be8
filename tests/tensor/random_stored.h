// Stored tensors (f16, bf16, quantised blocks) of random content, for tests.
#pragma once

#include <cstdint>
#include <vector>

#include "tensor/dtype.h"
#include "tensor/tensor.h"

namespace vitrine::test {

inline constexpr DType kStored[] = {DType::f16,  DType::bf16, DType::q8_0, DType::q4_0,
                                    DType::q4_1, DType::q5_0, DType::q5_1, DType::q2_k,
                                    DType::q3_k, DType::q4_k, DType::q5_k, DType::q6_k};

// The last axis holds whole blocks. Random bytes, in which every odd one is the upper half of an
// ordinary f16 or bf16: wherever a type has its scales, they are between 2^-6 and 2 or so.
inline Tensor random_stored(const Shape& shape, DType dtype, std::uint32_t seed) {
  const Tensor out = Tensor::empty(shape, dtype);
  const std::int64_t block = is_blocked(dtype) ? block_of(dtype).bytes : 2;
  std::uint32_t state = seed;
  for (std::int64_t i = 0; i < out.bytes(); ++i) {
    state = state * 1664525u + 1013904223u;
    const std::uint32_t upper =
        dtype == DType::bf16 ? 0x3cu + (state >> 30) : 0x28u + (state >> 30) * 4;
    const std::uint32_t sign = (state >> 20) % 2 * 0x80u;
    out.view().data[i] = static_cast<std::byte>(i % block % 2 == 1 ? upper | sign : state >> 24);
  }
  return out;
}

}  // namespace vitrine::test
