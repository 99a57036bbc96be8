// What compile makes and run executes. Not installed: a Plan is all that users see.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "autograd/arena.h"
#include "autograd/plan.h"

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
};
struct Copy {  // at the end of a run
  Operand from, to;
};
struct NamedLeaf {
  std::string name;
  Type type;
};
struct NamedResult {
  std::string name;
  Operand operand;
  Axes axes;
};

struct Plan::Program {
  Graph graph;
  std::vector<Storage> storage;
  std::vector<Step> steps;
  std::vector<Copy> copies;                           // updates that could not be made in place
  std::vector<bool> feed_written, parameter_written;  // leaves that a run writes
  std::vector<NamedLeaf> feeds, parameters;
  std::vector<Tensor> constants;
  std::vector<Type> result_buffers;  // one owned tensor each, flat
  std::vector<NamedResult> results;
  Stats stats;
  std::map<std::string_view, std::pair<int, std::int64_t>> work;  // per op: steps, FLOPs
  ArenaPool arenas;
};

}  // namespace vitrine
