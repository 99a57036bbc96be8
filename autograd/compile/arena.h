// Arena allocation: one block of memory holds all intermediates of a run and is reused as they die.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <utility>

#include "tensor/memory.h"

namespace vitrine {

// Assigns offsets at compile time: best fit among the free gaps, 64-byte aligned.
class ArenaPlanner {
 public:
  std::int64_t take(std::int64_t bytes);
  void give_back(std::int64_t offset, std::int64_t bytes);
  std::int64_t peak() const { return end_; }

 private:
  std::map<std::int64_t, std::int64_t> gaps_;  // offset -> size, never adjacent
  std::int64_t end_ = 0;
};

// Hands out blocks at run time, and keeps those that come back for the runs that follow: fresh
// memory costs the system as much time as computing what fills it. All plans of a cache share one
// pool. A block that the last kRuns runs had no use for is freed, and so are those that have been
// idle longest while all idle ones together exceed the limit: a process that sees a thousand shapes
// stays as large as its largest few need. Safe from many threads.
class MemoryPool : public std::enable_shared_from_this<MemoryPool> {
 public:
  explicit MemoryPool(std::int64_t limit) : limit_(limit) {}

  // The arena of one run. The pool must outlive it.
  class Lease {
   public:
    Lease(MemoryPool& pool, Memory block, std::int64_t bytes)
        : pool_(pool), block_(std::move(block)), bytes_(bytes) {}
    ~Lease() { pool_.give_back(std::move(block_), bytes_); }
    Lease(const Lease&) = delete;
    Lease& operator=(const Lease&) = delete;
    std::byte* data() const { return block_.get(); }

   private:
    MemoryPool& pool_;
    Memory block_;
    std::int64_t bytes_;
  };
  Lease lease(std::int64_t bytes);

  // Memory of a result: it comes back when nobody holds it any longer, if the pool still exists.
  std::shared_ptr<std::byte> take(std::int64_t bytes);

  void set_limit(std::int64_t bytes);  // of the idle blocks
  std::int64_t idle_bytes() const;

 private:
  static constexpr std::int64_t kRuns = 8;
  struct Idle {
    Memory block;
    std::int64_t run;     // the last that used it
    std::int64_t number;  // by when it came back
  };
  // An idle block of at least `bytes`, and at most `most` of them, or a fresh one; its size.
  std::pair<Memory, std::int64_t> block_for(std::int64_t bytes, std::int64_t most);
  void give_back(Memory block, std::int64_t bytes);
  // Under the lock.
  void trim_old();        // frees what was not used lately
  void trim();            // frees what exceeds the limit
  bool much_was_freed();  // since it last said so

  mutable std::mutex mutex_;
  std::int64_t limit_, idle_bytes_ = 0, runs_ = 0, returned_ = 0, freed_bytes_ = 0;
  std::multimap<std::int64_t, Idle> idle_;  // by size
};

}  // namespace vitrine
