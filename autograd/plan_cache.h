// Plans by structure, shapes and wanted values, the least recently used dropped first.
#pragma once

#include <list>
#include <mutex>
#include <string>

#include "autograd/plan.h"

namespace vitrine {

class PlanCache {
 public:
  explicit PlanCache(std::size_t capacity = 64) : capacity_(capacity) {}

  // The plan for this graph and fetch: a cached one when an equal program was compiled before. Safe
  // from many threads.
  Plan get(const Graph& graph, const Fetch& wanted);

  std::size_t size() const;
  std::int64_t hits() const;

 private:
  struct Entry {
    std::size_t hash;
    std::string key;
    Graph graph;
    Plan plan;
  };
  const std::size_t capacity_;
  mutable std::mutex mutex_;
  std::list<Entry> entries_;  // most recently used first
  std::int64_t hits_ = 0;
};

}  // namespace vitrine
