// An LRU cache of compiled plans, by structure, shapes and wanted values. The plans share one pool
// of memory, so that it does not grow with their number.
#pragma once

#include <list>
#include <memory>
#include <mutex>
#include <string>

#include "autograd/compile/plan.h"

namespace vitrine {

class MemoryPool;

class PlanCache {
 public:
  // `memory`: bytes that plans, idle arenas and idle results may take together; 0: a quarter of the
  // machine's memory. Plans take at most half of it, but the last one used is always kept.
  explicit PlanCache(std::size_t capacity = 48, std::int64_t memory = 0);

  // The plan for this graph and fetch: a cached one when an equal program was compiled before. Safe
  // from many threads.
  Plan get(const Graph& graph, const Fetch& wanted);

  std::size_t size() const;
  std::int64_t hits() const;
  std::int64_t bytes() const;  // of plans, idle arenas and idle results

 private:
  struct Entry {
    std::size_t hash;
    std::string key;
    Graph graph;
    Plan plan;
    std::int64_t bytes;
  };
  const std::size_t capacity_;
  const std::int64_t budget_;
  const std::shared_ptr<MemoryPool> memory_;
  mutable std::mutex mutex_;
  std::list<Entry> entries_;  // most recently used first
  std::int64_t hits_ = 0, plan_bytes_ = 0;
};

}  // namespace vitrine
