// Aligned allocation: memory on cache lines and, for large blocks, on huge pages. With
// pages of 4 kB the weights of a small model need a hundred thousand of them, and a matrix product
// waits for the translation of addresses as much as for the numbers.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

namespace vitrine {

inline constexpr std::int64_t kAlignment = 64;  // a cache line, and the widest vector register

struct FreeMemory {
  void operator()(std::byte* p) const;
};
using Memory = std::unique_ptr<std::byte, FreeMemory>;

// At least `bytes` and at least one line, so that the pointer is valid; not initialised. Null when
// there is no memory left.
Memory allocate_memory(std::int64_t bytes) noexcept;

// Gives pages that are free, but that the allocator has kept, back to the system, where it can.
// Takes time in proportion to them: for after much was freed.
void return_free_pages() noexcept;

}  // namespace vitrine
