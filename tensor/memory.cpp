#include "tensor/memory.h"

#include <cstdlib>

#if defined(__linux__)
#include <sys/mman.h>
#endif
#if defined(__GLIBC__)
#include <malloc.h>
#endif

namespace vitrine {
namespace {

constexpr std::size_t kHugePage = 2 << 20;

std::size_t rounded(std::size_t bytes, std::size_t step) { return bytes / step * step + step; }

}  // namespace

void FreeMemory::operator()(std::byte* p) const { std::free(p); }

Memory allocate_memory(std::int64_t bytes) noexcept {
  const auto size = static_cast<std::size_t>(bytes);
  // Below 2 huge pages, rounding up to them would waste too much.
  const std::size_t alignment = size < 2 * kHugePage ? kAlignment : kHugePage;
  void* p = std::aligned_alloc(alignment, rounded(size, alignment));
#if defined(MADV_HUGEPAGE)
  // Advice: where the system does not follow it, nothing changes.
  if (p != nullptr && alignment == kHugePage) ::madvise(p, rounded(size, kHugePage), MADV_HUGEPAGE);
#endif
  return Memory(static_cast<std::byte*>(p));
}

void return_free_pages() noexcept {
#if defined(__GLIBC__)
  ::malloc_trim(0);
#endif
}

}  // namespace vitrine
