#include "autograd/plan_cache.h"

#include "autograd/optimise.h"

namespace vitrine {

Plan PlanCache::get(const Graph& graph, const Fetch& wanted) {
  const std::string key = wanted.key();
  {
    const std::lock_guard lock(mutex_);
    for (auto e = entries_.begin(); e != entries_.end(); ++e) {
      if (e->hash != graph.hash() || e->key != key || !same_program(e->graph, graph)) continue;
      entries_.splice(entries_.begin(), entries_, e);
      ++hits_;
      return e->plan;
    }
  }
  Plan plan = compile(graph, wanted);  // outside the lock: others may go on
  const std::lock_guard lock(mutex_);
  entries_.push_front({graph.hash(), key, graph, plan});
  if (entries_.size() > capacity_) entries_.pop_back();
  return plan;
}

std::size_t PlanCache::size() const {
  const std::lock_guard lock(mutex_);
  return entries_.size();
}
std::int64_t PlanCache::hits() const {
  const std::lock_guard lock(mutex_);
  return hits_;
}

}  // namespace vitrine
