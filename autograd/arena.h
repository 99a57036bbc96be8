// One block of memory for all intermediates of a run, its parts reused as values die.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <vector>

#include "tensor/memory.h"

namespace vitrine {

// Decides offsets at compile time: best fit among the free gaps, 64-byte aligned.
class ArenaPlanner {
 public:
  std::int64_t take(std::int64_t bytes);
  void give_back(std::int64_t offset, std::int64_t bytes);
  std::int64_t peak() const { return end_; }

 private:
  std::map<std::int64_t, std::int64_t> gaps_;  // offset -> size, never adjacent
  std::int64_t end_ = 0;
};

// Hands out blocks at run time and keeps them for the next run. Safe from many threads.
class ArenaPool {
 public:
  class Lease {
   public:
    Lease(ArenaPool& pool, Memory block) : pool_(pool), block_(std::move(block)) {}
    ~Lease();
    Lease(const Lease&) = delete;
    Lease& operator=(const Lease&) = delete;
    std::byte* data() const { return block_.get(); }

   private:
    ArenaPool& pool_;
    Memory block_;
  };
  Lease lease(std::int64_t bytes) const;  // all leases of one pool have the same size

 private:
  mutable std::mutex mutex_;
  mutable std::vector<Memory> idle_;
};

// Memory for the results of a plan. A result that is no longer held by anybody goes back to its
// plan, if that still exists, for the next run: fresh memory costs the system as much time as
// computing what fills it. At most one block is kept for each result. Safe from many threads.
class ResultPool : public std::enable_shared_from_this<ResultPool> {
 public:
  std::shared_ptr<std::byte> take(std::size_t result, std::int64_t bytes);  // always as many bytes

 private:
  std::mutex mutex_;
  std::vector<Memory> idle_;  // by result
};

}  // namespace vitrine
