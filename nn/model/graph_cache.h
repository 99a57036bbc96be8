// An LRU cache of graphs, by what they were made from.
#pragma once

#include <cstddef>
#include <list>
#include <memory>
#include <utility>

#include "autograd/graph/graph.h"

namespace vitrine::nn {

// The least recently used graph goes when there is no room. Not safe from many threads.
template <class Key>
class GraphCache {
 public:
  explicit GraphCache(std::size_t capacity) : capacity_(capacity) {}

  std::shared_ptr<const Graph> find(const Key& key) {  // null when it is not there
    for (auto e = entries_.begin(); e != entries_.end(); ++e) {
      if (!(e->first == key)) continue;
      entries_.splice(entries_.begin(), entries_, e);
      return e->second;
    }
    return nullptr;
  }

  // The graph under this key: another thread may have put one there in the meantime.
  std::shared_ptr<const Graph> put(const Key& key, std::shared_ptr<const Graph> graph) {
    if (std::shared_ptr<const Graph> there = find(key)) return there;
    entries_.emplace_front(key, std::move(graph));
    if (entries_.size() > capacity_) entries_.pop_back();
    return entries_.front().second;
  }

 private:
  const std::size_t capacity_;
  std::list<std::pair<Key, std::shared_ptr<const Graph>>> entries_;  // most recently used first
};

}  // namespace vitrine::nn
