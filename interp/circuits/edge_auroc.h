// How well scores find the edges of a circuit that is known.
//
//   EdgeScores s = edge_scores(m, pair);
//   EdgeMask known(s.grid);
//   known.set(s.grid.sender("a0.h7"), s.grid.receiver("m0"));
//   EdgeAuroc a = edge_auroc(s.grid, s.scores, known);
//   a.auroc;                                        // 1: every edge of it before every other
#pragma once

#include "interp/circuits/edge_mask.h"

namespace vitrine::interp {

// How well a score finds the edges of a known circuit: the area under the ROC curve.
struct EdgeAuroc {
  // The share of pairs (an edge of the circuit, another edge) in which the first has the larger
  // |score|; ties count one half. 0.5 is chance.
  double auroc = 0;
  double low = 0, high = 0;           // 95% interval
  std::size_t edges = 0, others = 0;  // of the circuit, and the rest
};

// Ranks all valid edges by |score|, f64 [senders, receivers]. Scores of at most `floor` times the
// largest one count as zero: what rounding leaves of a gradient that is none has an order, too.
//
// The interval is the score interval over edges of Newcombe (2006, method 5): all theta with
// |auroc - theta| <= 1.96 sqrt(V(theta)), where
//
//   V = theta (1 - theta) (2 N - 1 - (3 N - 3) / ((2 - theta) (1 + theta))) / (edges * others)
//   N = (edges + others) / 2
//
// Unlike those of DeLong and of the bootstrap it keeps its width at an AUROC of 0 or 1.
//
// Throws Error (usage) where the circuit has no edge, or every one; ShapeError for other scores.
EdgeAuroc edge_auroc(const EdgeGrid& grid, const Tensor& scores, const EdgeMask& circuit,
                     double floor = 1e-6);

}  // namespace vitrine::interp
