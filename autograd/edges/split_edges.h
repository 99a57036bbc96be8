// Makes every edge of the residual stream one that can be cut: path patching, edge patching.
//
// An *edge-cut run* R(C) is the run in which every edge u -> v of a set C carries what u gave in
// another run:
//
//   in_v = stream + sum over u with (u, v) in C of (out_u(other) - out_u)
//
// Everything recomputes, norms included: out_u is what u gives in this very run, so that cuts
// before u are felt. With nothing cut it is the run itself, with everything cut the other run. A
// run with a single cut is exact edge patching; one in which all but a circuit's edges are cut
// measures the circuit (Goldowsky-Dill et al. 2023; Conmy et al. 2023).
//
// Inputs that it adds, for S senders and R receivers in the order of the EdgeSet:
// - edges.cut [sequences, R, S], or [rows, R, S] to cut at some positions only: 1 where the edge is
//   cut, 0 where it is not; numbers between move the value part of the way.
// - edges.other [other rows, S, d]: what the senders gave in the other run (with_senders).
// - edges.row i32 [rows]: the row of edges.other that stands opposite each row; many runs of one
//   prompt so share one table.
//
// With norms held (linearise before split_edges) the run is linear in each cut where nothing else
// is nonlinear: path patching with frozen LayerNorm.
#pragma once

#include "autograd/edges/edge_set.h"

namespace vitrine {

struct SplitOptions {
  bool by_position = false;     // edges.cut is [rows, R, S]
  std::int64_t other_rows = 0;  // rows of edges.other; 0: as many as the graph has
};

// Throws what check_edges throws, and GraphError for a graph without row tables, or whose edges are
// split already.
Graph split_edges(const Graph& graph, const EdgeSet& edges, const SplitOptions& options = {});

}  // namespace vitrine
