// Checks a reach rule against what an op does: perturbs every element of every input and looks at
// what moves.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "autograd/compile/plan.h"
#include "tests/autograd/ops/samples.h"

namespace vitrine::test {

// What the packed rows of an operand are: a query row's place is in the tables `sequence` and
// `position`, a key row's is every (s, c) with keys[s, c] == row.
enum class RowKind { none, query, key };

// One op on given inputs, outside any graph. The op need not be in the table.
struct OpCall {
  const OpDef* op;
  Attributes attributes;
  std::vector<Tensor> in;
  Type out;
  std::vector<Fact> facts;     // of the inputs
  std::vector<NodeId> inputs;  // their nodes

  std::vector<Type> types() const;
  Reach reach() const;
  Tensor run() const;  // through `eval`, or as a view when there is none
};

// What a call's rule says about single elements. A packed row's coordinates are looked up in the
// call's own tables.
class ReachRule {
 public:
  explicit ReachRule(const OpCall& call);
  bool allows(std::size_t input, std::int64_t in_element, std::int64_t out_element) const;
  const Reach& reach() const { return reach_; }

 private:
  struct Place {  // of a packed row
    std::int64_t sequence = 0, position = 0;
  };
  std::vector<Place> places(RowKind kind, std::int64_t row) const;

  Reach reach_;
  std::string op_;
  std::vector<Shape> in_;
  Shape out_;
  std::vector<std::int32_t> sequence_, position_, keys_;
  std::int64_t context_ = 0;
};

struct ReachReport {
  std::vector<std::string> violations;  // empty: the rule held
  std::vector<bool> moved;              // per input: whether any perturbation moved any output
};
ReachReport check_reach(const OpCall& call);

// A graph on given leaves, every value known: what its rules, one after the other, let an element
// of a leaf reach.
class GraphReach {
 public:
  GraphReach(const Graph& graph, const Feeds& feeds);
  // By element of node `to`, whether element `from_element` of node `from` may reach it.
  std::vector<bool> reached(NodeId from, std::int64_t from_element, NodeId to) const;
  const Graph& graph() const { return graph_; }
  const Tensor& value(NodeId id) const { return values_.at(id); }
  const Fact& fact(NodeId id) const { return facts_.at(id); }
  OpCall call(const Node& node) const;

 private:
  Graph graph_;
  std::map<NodeId, Tensor> values_;
  std::map<NodeId, Fact> facts_;
};

// The calls that a sample makes of its own op.
std::vector<OpCall> calls_of(const Sample& sample);

Dims index_of(std::int64_t element, const Shape& shape);  // row-major

}  // namespace vitrine::test
