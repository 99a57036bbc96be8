// Program: the compiled form of a graph, a list of kernel calls over storages. Not installed: users
// see a Plan.
#pragma once

#include <atomic>
#include <cstdint>
#include <limits>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "autograd/compile/arena.h"
#include "autograd/compile/plan.h"

namespace vitrine {

// Storage of a value: where its bytes live during a run.
struct Storage {
  enum class Where { arena, result, feed, parameter, constant } where;
  std::int64_t at = 0;  // arena: byte offset; else index into the run's tensors
  std::int64_t bytes = 0;
  DType dtype = DType::f32;
};
struct Operand {
  int storage = -1;
  Layout layout;
};
struct Step {
  const Node* node;
  std::vector<Operand> in;
  Operand out;
  std::int64_t flops = 0;
  int scratch = -1;  // storage that is only alive during this step
};
struct Copy {  // at the end of a run
  Operand from, to;
};
struct NamedLeaf {
  std::string name;
  Type type;
  bool updated = false;  // a run writes it
  // Moments of a run: the number of a step; steps.size() when results are taken; then one more for
  // each of `copies`. A leaf that no step reads counts as read before the first, and one that is
  // not updated is never written.
  int last_read = -1;
  int first_write = std::numeric_limits<int>::max();
};
struct NamedResult {
  std::string name;
  Operand operand;
  Axes axes;
};

// The steps of a run in their order, and the bytes they work on. It can be moved but not copied:
// steps point to nodes, of the graph that it was made from and of `fused`.
struct Program {
  std::vector<Storage> storage;
  std::vector<std::unique_ptr<const Node>> fused;  // nodes that stand for two of the graph
  std::vector<Step> steps;
  std::vector<Copy> kept_aside;  // before the first step: what updates would overwrite
  std::vector<Copy> copies;      // updates that could not be made in place
  std::vector<NamedLeaf> feeds, parameters;
  std::vector<Tensor> constants;
  std::vector<Type> result_buffers;  // one owned tensor each, flat
  std::vector<NamedResult> results;
  std::int64_t arena_bytes = 0;

  Storage& storage_of(const Operand& o) { return storage[static_cast<std::size_t>(o.storage)]; }
  const Storage& storage_of(const Operand& o) const {
    return storage[static_cast<std::size_t>(o.storage)];
  }
  bool covers_its_storage(const Operand& o) const;  // all bytes, in their order
  bool updates_leaves() const;                      // such a run cannot be repeated
};

// The stored parameters (f16, bf16, blocks) by how steps read them; the names are sorted, and one
// may be in both.
struct StoredWeights {
  std::set<std::string> as_stored;              // by products and gathers
  std::map<std::string, std::int64_t> in_full;  // widened in every run: bytes of f32
  std::set<std::string_view> dtypes;
};
StoredWeights stored_weights(const Program& program);

// The profile of finished runs. Runs may overlap, so the sums are atomic.
struct Timing {
  std::atomic<std::int64_t> runs{0}, nanoseconds{0};
  std::vector<std::atomic<std::int64_t>> steps;     // of each step, nanoseconds
  std::vector<std::atomic<std::int64_t>> products;  // of that, in matrix products

  explicit Timing(std::size_t n_steps) : steps(n_steps), products(n_steps) {}
};

struct Plan::Compiled {
  Graph graph;  // rewritten: what the steps point into
  std::vector<std::string>
      inputs;  // of the graph as it was given, sorted, those that no step reads too
  Program program;
  Stats stats;
  std::shared_ptr<MemoryPool> memory;  // of a plan that is in no cache
  std::unique_ptr<Timing> timing;      // of runs so far
};

}  // namespace vitrine
