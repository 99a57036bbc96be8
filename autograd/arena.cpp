#include "autograd/arena.h"

#include <algorithm>
#include <new>

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

ArenaPool::Lease ArenaPool::lease(std::int64_t bytes) const {
  auto& self = const_cast<ArenaPool&>(*this);
  {
    const std::lock_guard lock(mutex_);
    if (!idle_.empty()) {
      Memory block = std::move(idle_.back());
      idle_.pop_back();
      return {self, std::move(block)};
    }
  }
  Memory memory = allocate_memory(bytes);
  if (memory == nullptr) throw std::bad_alloc();
  return {self, std::move(memory)};
}

ArenaPool::Lease::~Lease() {
  const std::lock_guard lock(pool_.mutex_);
  pool_.idle_.push_back(std::move(block_));
}

std::shared_ptr<std::byte> ResultPool::take(std::size_t result, std::int64_t bytes) {
  Memory memory;
  {
    const std::lock_guard lock(mutex_);
    if (idle_.size() <= result) idle_.resize(result + 1);
    memory = std::move(idle_[result]);
  }
  if (memory == nullptr) memory = allocate_memory(bytes);
  if (memory == nullptr) throw std::bad_alloc();
  const auto give_back = [pool = weak_from_this(), result](std::byte* p) {
    Memory back(p);
    const std::shared_ptr<ResultPool> home = pool.lock();
    if (home == nullptr) return;
    const std::lock_guard lock(home->mutex_);
    if (home->idle_[result] == nullptr) home->idle_[result] = std::move(back);
  };
  return {memory.release(), give_back};
}

}  // namespace vitrine
