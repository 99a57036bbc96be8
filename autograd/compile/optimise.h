// What does not have to be computed: nodes that nothing wanted reads, identities, and values
// computed twice.
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

Pruned prune(const Graph& graph, std::span<const NodeId> wanted);

// For nodes that are computed in one pass with the node that makes their only input, which nothing
// else reads: that node. By id; null for all others. `wanted` are read too.
std::vector<const Node*> fusions(const Graph& graph, const Pruned& pruned,
                                 std::span<const NodeId> wanted);

// The graph with selections of rows (gather_rows) moved up, past the ops whose other rows nobody
// reads; ids, sites and outputs stay. Nothing when there is nothing to move.
struct Narrowed {
  Graph graph;
  int nodes;  // that are computed in part
};
std::optional<Narrowed> narrow_rows(const Graph& graph, std::span<const NodeId> wanted);

// The graph with matrix products of which only some columns are read (slice along the last axis,
// pick) computed for those columns alone; ids, sites and outputs stay. Nothing when there is none.
std::optional<Narrowed> narrow_columns(const Graph& graph, std::span<const NodeId> wanted);

// The graph with matrix products of a matrix whose columns are zero but for a few (unslice along
// the last axis, unpick, sums of these) computed from those alone. Nothing when there is none.
std::optional<Narrowed> narrow_sparse_products(const Graph& graph, std::span<const NodeId> wanted);

// The graph with sums over the rows of matrix products, of which nothing else is read, computed from
// sums of the rows of the left factor. Nothing when there is none.
std::optional<Narrowed> sum_before_products(const Graph& graph, std::span<const NodeId> wanted);

// What a pick or unpick costs these two, in columns of a product: it fetches another column of the
// weight for each row, where a product reads one for many rows.
inline constexpr std::int64_t kPickCost = 16;

// Same ops, attributes, types, edges, sites and outputs; ids and lines may differ.
bool same_program(const Graph& a, const Graph& b);

}  // namespace vitrine
