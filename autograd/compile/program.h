// What compile makes and run executes. Not installed: a Plan is all that users see.
#pragma once

#include <atomic>
#include <cstdint>
#include <deque>
#include <limits>
#include <memory>
#include <string>
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
  // Steps, in the order of the program: -1 is before the first, the number of steps after the last.
  int last_read = -1;
  int first_write = std::numeric_limits<int>::max();  // of a leaf that the plan updates
};
struct NamedResult {
  std::string name;
  Operand operand;
  Axes axes;
};

// Where the time of finished runs went. Runs may overlap, so the sums are atomic.
struct Timing {
  std::atomic<std::int64_t> runs{0}, nanoseconds{0};
  std::vector<std::atomic<std::int64_t>> steps;     // of each step, nanoseconds
  std::vector<std::atomic<std::int64_t>> products;  // of that, in matrix products
};

struct Plan::Program {
  Graph graph;
  std::vector<Storage> storage;
  std::deque<Node> fused;  // nodes that stand for two of the graph
  std::vector<Step> steps;
  std::vector<Copy> kept_aside;  // before the first step: what updates would overwrite
  std::vector<Copy> copies;      // updates that could not be made in place
  std::vector<bool> feed_written, parameter_written;  // leaves that a run writes
  std::vector<NamedLeaf> feeds, parameters;
  std::vector<std::string>
      inputs;  // of the graph as it was given, sorted, those that no step reads too
  std::vector<Tensor> constants;
  std::vector<Type> result_buffers;  // one owned tensor each, flat
  std::vector<NamedResult> results;
  Stats stats;
  std::shared_ptr<MemoryPool> memory;  // of a plan that is in no cache
  mutable Timing timing;

  void note_uses_of_leaves();  // compile's last step: fills last_read and first_write
  void check_shared_memory(const std::vector<Tensor>& fed,
                           const std::vector<Tensor>& weights) const;
};

}  // namespace vitrine
