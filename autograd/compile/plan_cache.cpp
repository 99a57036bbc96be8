#include "autograd/compile/plan_cache.h"

#include <unistd.h>

#include <algorithm>

#include "autograd/compile/optimise.h"

namespace vitrine {
namespace {

// About what a graph holds on to: its nodes, and the tensors of its constants.
std::int64_t bytes_of(const Graph& graph) {
  std::size_t bytes = 0;
  for (const Node& n : graph.nodes()) {
    bytes += sizeof(Node) + n.inputs.size() * sizeof(NodeId) + n.scope.size();
    if (const auto* constant = std::get_if<ConstantValue>(&n.attributes))
      bytes += static_cast<std::size_t>(constant->value.bytes());
  }
  return static_cast<std::int64_t>(bytes);
}

std::int64_t budget_of(std::int64_t memory) {
  if (memory > 0) return memory;
  const long pages = sysconf(_SC_PHYS_PAGES), page = sysconf(_SC_PAGE_SIZE);
  if (pages <= 0 || page <= 0) return std::int64_t{1} << 30;  // the system does not say
  return static_cast<std::int64_t>(pages) * page / 4;
}

}  // namespace

PlanCache::PlanCache(std::size_t capacity, std::int64_t memory)
    : capacity_(capacity),
      budget_(budget_of(memory)),
      memory_(std::make_shared<MemoryPool>(budget_)) {}

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
  plan.memory_ = memory_;
  const std::int64_t bytes = bytes_of(graph) + bytes_of(plan.graph());
  const std::lock_guard lock(mutex_);
  entries_.push_front({graph.hash(), key, graph, plan, bytes});
  plan_bytes_ += bytes;
  while (entries_.size() > capacity_ || (plan_bytes_ > budget_ / 2 && entries_.size() > 1)) {
    plan_bytes_ -= entries_.back().bytes;
    entries_.pop_back();
  }
  memory_->set_limit(std::max<std::int64_t>(0, budget_ - plan_bytes_));
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
std::int64_t PlanCache::bytes() const {
  const std::lock_guard lock(mutex_);
  return plan_bytes_ + memory_->idle_bytes();
}

}  // namespace vitrine
