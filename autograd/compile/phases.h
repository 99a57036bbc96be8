// The phases of code generation: buffer assignment, in-place updates, liveness analysis. They run
// in this order; each returns the draft of the one before it with more of it decided:
//
//   lay_out            nodes become steps, values become layouts over storages
//   place_results      what is wanted gets storages of its own, outside the arena
//   place_updates      new values of leaves are written in place, or copied at the end
//   write_over_inputs  steps share the storage of an input that dies there
//   place_in_arena     liveness analysis: storages of the arena get their offsets
//
// A phase reads nothing but its arguments. Not installed.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "autograd/compile/optimise.h"
#include "autograd/compile/program.h"

namespace vitrine {

// ---- what names mean --------------------------------------------------------------------------
struct WantedNode {
  std::string name;
  NodeId node;
  Axes axes;  // empty where they are not known
};
struct LeafUpdate {
  NodeId leaf, value;
};

// The nodes of what is wanted. Throws SiteError for an unknown site, GraphError for an output or a
// gradient that the graph does not have.
std::vector<WantedNode> wanted_nodes(const Graph& graph, const Fetch& wanted);

// The nodes of updates, which have the same type. Throws GraphError for a leaf or an output that
// the graph does not have, for different types, and for a value that is another leaf.
std::vector<LeafUpdate> leaf_updates(const Graph& graph, const Updates& updates);

// ---- the phases -------------------------------------------------------------------------------
struct Draft {
  Program program;
  std::vector<Operand> values;  // by node id; storage -1 for nodes that are not computed
  Plan::Stats stats;
};

// Layout. One step for each node of `pruned` that computes, in the order of the graph; a node that
// absorbs its producer (see fusions) is one step with it. Leaves and constants get storages outside
// the arena. A node that can be a view of its input shares the input's storage; every other step
// writes a storage of its own, contiguous, of exactly its bytes. Ids that `pruned` merged have the
// same operand. `wanted` are the ids that must have a value; steps point into `graph`, which must
// outlive what is returned.
Draft lay_out(const Graph& graph, const Pruned& pruned, std::span<const NodeId> wanted);

// Results. Each storage of the arena that a wanted value looks into becomes a buffer of its own,
// which a run owns and gives away. Results that lie in leaves or constants stay there and are
// copied at the end of a run.
Draft place_results(Draft draft, std::span<const WantedNode> wanted);

// Updates (buffer donation). Every update is of the values before the run. What looks into a leaf
// that is updated too is kept aside before the first step. The step that makes a new value writes
// it into the leaf itself where its op can and neither a result nor a later step reads the old one;
// where not, the value is copied at the end. Afterwards `updated`, `last_read` and `first_write` of
// the leaves hold, see require_unshared.
Draft place_updates(Draft draft, std::span<const LeafUpdate> updates);

// Lets a step write its output over an input of the arena that nothing reads later, when the op
// allows it (OpDef::in_place) and both are the same bytes, element by element.
Draft write_over_inputs(Draft draft);

// Liveness. A storage of the arena is taken at the step that first writes it and free again after
// the last that reads it; scratch lives for one step; what is kept aside lives throughout. No two
// that are alive at one step overlap. Sets their offsets and `arena_bytes`.
Draft place_in_arena(Draft draft);

}  // namespace vitrine
