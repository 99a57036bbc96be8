#include "autograd/compile/arena.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>

#include "tensor/error.h"

namespace vitrine {
namespace {

std::int64_t aligned(std::int64_t bytes) {
  return std::max(kAlignment, (bytes + kAlignment - 1) / kAlignment * kAlignment);
}

}  // namespace

std::int64_t ArenaPlanner::take(std::int64_t bytes) {
  const std::int64_t need = aligned(bytes);
  auto best = gaps_.end();
  for (auto g = gaps_.begin(); g != gaps_.end(); ++g) {
    if (g->second >= need && (best == gaps_.end() || g->second < best->second)) best = g;
  }
  if (best != gaps_.end()) {
    const auto [offset, size] = *best;
    gaps_.erase(best);
    if (size > need) gaps_[offset + need] = size - need;
    return offset;
  }
  // No gap is large enough: grow the end, taking a gap that touches it along.
  std::int64_t offset = end_;
  if (!gaps_.empty() && std::prev(gaps_.end())->first + std::prev(gaps_.end())->second == end_) {
    offset = std::prev(gaps_.end())->first;
    gaps_.erase(std::prev(gaps_.end()));
  }
  end_ = offset + need;
  return offset;
}

void ArenaPlanner::give_back(std::int64_t offset, std::int64_t bytes) {
  auto gap = gaps_.emplace(offset, aligned(bytes)).first;
  if (const auto next = std::next(gap);
      next != gaps_.end() && gap->first + gap->second == next->first) {
    gap->second += next->second;
    gaps_.erase(next);
  }
  if (gap != gaps_.begin()) {
    const auto before = std::prev(gap);
    if (before->first + before->second == gap->first) {
      before->second += gap->second;
      gaps_.erase(gap);
    }
  }
}

namespace {

// Sizes in steps of an eighth, so that blocks of almost one size serve each other. What a run does
// not touch costs no memory.
std::int64_t size_class(std::int64_t bytes) {
  const auto need = static_cast<std::uint64_t>(aligned(bytes));
  const std::uint64_t step = std::max<std::uint64_t>(kAlignment, std::bit_floor(need) / 8);
  return static_cast<std::int64_t>((need + step - 1) / step * step);
}

}  // namespace

std::pair<Memory, std::int64_t> MemoryPool::block_for(std::int64_t bytes, std::int64_t most) {
  {
    const std::lock_guard lock(mutex_);
    if (const auto it = idle_.lower_bound(bytes); it != idle_.end() && it->first <= most) {
      std::pair<Memory, std::int64_t> found(std::move(it->second.block), it->first);
      idle_bytes_ -= it->first;
      idle_.erase(it);
      return found;
    }
  }
  Memory memory = allocate_memory(bytes);
  if (memory == nullptr) {
    throw Error(
        ErrorKind::runtime,
        fmt::format("out of memory: a run needs {} bytes for what it computes or gives back; "
                    "shorter prompts, fewer at a time or fewer sites need less",
                    bytes));
  }
  return {std::move(memory), bytes};
}

MemoryPool::Lease MemoryPool::lease(std::int64_t bytes) {
  bool much = false;
  {
    const std::lock_guard lock(mutex_);
    ++runs_;
    trim_old();
    much = much_was_freed();
  }
  // Freed blocks of many sizes leave gaps between what lives on; the allocator would keep them.
  if (much) return_free_pages();
  // An arena is back at the end of the run, so that a larger one than is needed does no harm.
  const std::int64_t size = size_class(bytes);
  auto [memory, got] = block_for(size, 4 * size);
  return {*this, std::move(memory), got};
}

std::shared_ptr<std::byte> MemoryPool::take(std::int64_t bytes) {
  const std::int64_t size = size_class(bytes);
  auto [memory, got] = block_for(size, size + size / 4);
  const auto back = [pool = weak_from_this(), size = got](std::byte* p) {
    Memory block(p);
    if (const std::shared_ptr<MemoryPool> home = pool.lock())
      home->give_back(std::move(block), size);
  };
  return {memory.release(), back};
}

void MemoryPool::give_back(Memory block, std::int64_t bytes) {
  const std::lock_guard lock(mutex_);
  if (bytes > limit_) {
    freed_bytes_ += bytes;
    return;
  }
  idle_.emplace(bytes, Idle{std::move(block), runs_, returned_++});
  idle_bytes_ += bytes;
  trim();
}

void MemoryPool::trim_old() {
  for (auto it = idle_.begin(); it != idle_.end();) {
    if (it->second.run + kRuns >= runs_) {
      ++it;
      continue;
    }
    idle_bytes_ -= it->first;
    freed_bytes_ += it->first;
    it = idle_.erase(it);
  }
}

bool MemoryPool::much_was_freed() {
  constexpr std::int64_t kMuch = 32 << 20;
  if (freed_bytes_ < kMuch) return false;
  freed_bytes_ = 0;
  return true;
}

void MemoryPool::trim() {
  while (idle_bytes_ > limit_) {
    const auto oldest = std::min_element(
        idle_.begin(), idle_.end(),
        [](const auto& a, const auto& b) { return a.second.number < b.second.number; });
    idle_bytes_ -= oldest->first;
    freed_bytes_ += oldest->first;
    idle_.erase(oldest);
  }
}

void MemoryPool::set_limit(std::int64_t bytes) {
  const std::lock_guard lock(mutex_);
  limit_ = bytes;
  trim();
}

std::int64_t MemoryPool::idle_bytes() const {
  const std::lock_guard lock(mutex_);
  return idle_bytes_;
}

}  // namespace vitrine
