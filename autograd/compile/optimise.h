// Optimisation passes: dead code elimination, common subexpression elimination, kernel fusion, and
// projection pushdown.
#pragma once

#include <optional>
#include <span>
#include <vector>

#include "autograd/graph/graph.h"

namespace vitrine {

struct Pruned {
  std::vector<const Node*> nodes;  // what is left, in order; pointers into the graph
  std::vector<NodeId> canonical;   // by id: the node whose value this one has, kNoNode when dead
  int dead = 0;                    // nothing wanted reads them
  int identities = 0;              // sites, detach: read through
  int duplicates = 0;              // same op, attributes and inputs as an earlier node
};

// Removes dead code, reads through identities, and merges common subexpressions.
Pruned prune(const Graph& graph, std::span<const NodeId> wanted);

// Kernel fusion: for each node that is computed in one pass with the producer of its only input,
// which nothing else reads, that producer. By id; null for all others. `wanted` are read too.
std::vector<const Node*> fusions(const Graph& graph, const Pruned& pruned,
                                 std::span<const NodeId> wanted);

// A value seen through views and the cast to f32 as the elements of a stored leaf.
struct StoredRead {
  NodeId leaf;
  Layout layout;  // in elements, over the leaf
};
// Kernel fusion of widening (compile/stored.cpp). Both by id of the pruned nodes.
struct StoredReads {
  std::vector<std::optional<StoredRead>>
      views;                  // of stored leaves, and of what they are widened to
  std::vector<bool> in_full;  // something needs the value itself
};
StoredReads stored_reads(const Graph& graph, const Pruned& pruned, std::span<const NodeId> wanted);
// Whether the kernel of `op` takes this for its input.
bool reads_as_stored(const Graph& graph, const OpDef& op, std::size_t input,
                     const StoredRead& read);

// Projection pushdown: moves selections of rows (gather_rows) up, past the ops whose other rows
// nobody reads; ids, sites and outputs stay. Nothing when there is nothing to move.
struct Narrowed {
  Graph graph;
  int nodes;  // that are computed in part
};
std::optional<Narrowed> narrow_rows(const Graph& graph, std::span<const NodeId> wanted);

// The same for columns: matrix products of which only some columns are read (slice along the last
// axis, pick) compute those alone; ids, sites and outputs stay. Nothing when there is none.
std::optional<Narrowed> narrow_columns(const Graph& graph, std::span<const NodeId> wanted);

// Sparsity propagation: products of a matrix whose columns are zero but for a few (unslice along
// the last axis, unpick, sums of these) are computed from those alone. Nothing when there is none.
std::optional<Narrowed> narrow_sparse_products(const Graph& graph, std::span<const NodeId> wanted);

// Algebraic simplification: sums over the rows of matrix products, of which nothing else is read,
// are computed from sums of the rows of the left factor. Nothing when there is none.
std::optional<Narrowed> sum_before_products(const Graph& graph, std::span<const NodeId> wanted);

// The cost of a pick or unpick to the passes over columns, in columns of a product: it fetches
// another column of the weight for each row, where a product reads one for many rows.
inline constexpr std::int64_t kPickCost = 16;

// Same ops, attributes, types, edges, sites and outputs; ids and lines may differ.
bool same_program(const Graph& a, const Graph& b);

}  // namespace vitrine
