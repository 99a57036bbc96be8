// Runs in which edges of the residual stream are cut, and what circuits do by themselves.
//
//   CircuitRuns runs(m, pairs);               // all edges of these pairs' prompts
//   const EdgeMask circuits[] = {circuit, other};
//   runs.mean_kept(circuits);                 // the metric with only these edges intact
//   Faithfulness f = runs.judge(circuit);
//
// A *circuit* is a set of edges. It is run in the clean prompt: every edge outside it carries what
// its sender gives after the corrupt prompt, and everything recomputes, norms included
// (autograd/edges/split_edges.h). With m for the metric, over many pairs its mean:
//
//   faithfulness  (m(circuit) - m(corrupt)) / (m(clean) - m(corrupt)): 1 where the circuit alone
//                 does what the model does, 0 where it does no more than the corrupt run
//   completeness  the same ratio of the run in which the circuit's edges are cut and all others
//                 are intact: 0 where nothing outside of it does its work too
//
// Both may lie outside [0, 1], and are not held to it. (Wang et al. 2022; Hanna et al. 2024.)
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "interp/circuits/edge_mask.h"
#include "interp/circuits/pair_runs.h"
#include "interp/patching.h"

namespace vitrine::interp {

// What circuits are judged by, and in which run edges are cut.
struct CircuitSpec {
  MetricSpec metric = parse_metric("logit_diff");
  // The run that is cut in, and the one whose values cut edges carry. noise: the clean run is cut
  // in, which is how circuits are judged.
  Direction direction = Direction::noise;
  std::shared_ptr<const EdgeSet> edges{};  // as of EdgeSpec
  bool norms_held = false;  // the scales of all norms stay those of the run that is cut in
  std::int64_t memory = std::int64_t{1} << 28;  // bytes of what senders give, at a time
  const std::atomic<bool>* cancel = nullptr;    // InterruptedError when set
};

// How a circuit does its work: means over the pairs, metrics in their own units, shares as above.
struct Faithfulness {
  double metric = 0, complement = 0;  // of the circuit alone, and of all but the circuit
  double faithfulness = 0, completeness = 0;
  std::vector<double> each, each_complement;  // metrics, by pair
};

// (metric - corrupt) / (clean - corrupt). Throws NumericError where clean and corrupt metric are so
// near that no ratio is to be had.
double faithfulness_of(double metric, double clean, double corrupt);

// The two runs of each pair, kept, so that any number of circuits can be judged on them.
class CircuitRuns {
 public:
  // Runs both prompts of each pair. Throws what check_pairs throws.
  CircuitRuns(const nn::Model& model, std::span<const Pair> pairs, const CircuitSpec& spec = {});
  ~CircuitRuns();
  CircuitRuns(const CircuitRuns&) = delete;
  CircuitRuns& operator=(const CircuitRuns&) = delete;

  const EdgeGrid& grid() const { return grid_; }
  std::size_t pairs() const { return pairs_.size(); }
  double clean() const;  // mean metric of the unedited runs
  double corrupt() const;
  const std::vector<double>& each_clean() const;
  const std::vector<double>& each_corrupt() const;

  // For each set of edges the metric of each pair's run with these edges cut: [sets][pairs]. Many
  // sets lie in one batch.
  std::vector<std::vector<double>> cut(std::span<const EdgeMask> cuts) const;
  std::vector<double> mean_cut(std::span<const EdgeMask> cuts) const;  // over the pairs
  // The same with all edges cut but these.
  std::vector<double> mean_kept(std::span<const EdgeMask> circuits) const;
  // One set for each position of one pair, cut there. Throws Error (usage) where there are several.
  double cut_at(std::span<const EdgeMask> by_position) const;

  double ratio(double metric) const;  // faithfulness_of
  Faithfulness judge(const EdgeMask& circuit) const;
  std::vector<Faithfulness> judge(std::span<const EdgeMask> circuits) const;

  // How much each edge of the circuit is worth in it: the metric of the circuit less that of the
  // circuit without the edge, by circuit.edges() (minimality).
  std::vector<double> worth(const EdgeMask& circuit) const;

 private:
  struct OfPair;
  // Of each set; by position the sets are those of the positions of one run.
  std::vector<double> run_pair(const OfPair& pair, std::span<const EdgeMask> cuts,
                               bool by_position) const;

  const nn::Model& model_;
  CircuitSpec spec_;
  EdgeSet edges_;
  EdgeGrid grid_;
  std::vector<std::unique_ptr<OfPair>> pairs_;
  std::vector<double> clean_, corrupt_;
};

// ---- curves over sizes ----------------------------------------------------------------------------
// The faithfulness of the strongest edges, more and more of them, each set pruned of what leads
// nowhere; and the two numbers that the Mechanistic Interpretability Benchmark makes of it.
struct CircuitCurve {
  EdgeRank rank = EdgeRank::absolute;
  std::vector<double> fractions;   // of the valid edges: .001 ... 1
  std::vector<std::size_t> asked;  // edges taken: floor(fraction * valid edges)
  std::vector<std::size_t> edges;  // left after pruning
  std::vector<double> faithfulness;
  double cpr = 0;  // area under the curve: the circuit performance ratio
  double cmd = 0;  // area between the curve and 1: the circuit-model distance
};
// scores: f64 [senders, receivers]. `raising`: rank by how much an edge raises the metric, that is
// by -score in noise and +score in denoise, of which `direction` is the one of the scores.
CircuitCurve circuit_curve(const CircuitRuns& runs, const Tensor& scores, Direction direction,
                           EdgeRank rank);

// ---- pruning by runs -------------------------------------------------------------------------------
// What a pruning method decided about one edge.
struct EdgeDecision {
  StreamEdge edge;
  double change;  // of the metric, when it was cut in the circuit of that moment
  bool kept;
};
// What a pruning method left, and how it came to it.
struct PrunedByRuns {
  EdgeMask circuit;                     // as the method left it: prune it of loose ends by pruned()
  std::vector<EdgeDecision> decisions;  // in order; only edges that could change anything
  int runs = 0;
};

// ACDC (Conmy et al. 2023): from the last receiver to the first, from the last sender to the first,
// an edge is cut and stays cut if the metric moves by less than `threshold`, against the circuit of
// that moment. Over several pairs the mean metric counts. Edges into what nothing reads any more
// change nothing, and go without a run.
PrunedByRuns acdc(const CircuitRuns& runs, double threshold,
                  const std::function<void(int done, int total)>& progress = {});
// The same over anything that gives the metric of circuits, a graph of one's own for example.
using CircuitMetric = std::function<std::vector<double>(std::span<const EdgeMask> circuits)>;
struct AcdcOptions {
  // Circuits are asked for up to so many at once, as if every edge went: good where they run
  // together, wasted where they run one by one.
  std::size_t ahead = 64;
  std::function<void(int done, int total)> progress;
};
PrunedByRuns acdc(const EdgeGrid& grid, const CircuitMetric& metric, double threshold,
                  const AcdcOptions& options = {});

// Exact greedy pruning: in rounds, every edge that is left is cut by itself in the circuit that is
// left, and the `share` of them that move the metric least go, until `edges` are left.
PrunedByRuns prune_greedily(const CircuitRuns& runs, const EdgeMask& from, std::size_t edges,
                            double share = 0.1,
                            const std::function<void(int done, int total)>& progress = {});

// ---- path patching ---------------------------------------------------------------------------------
// What a receiver behind another receiver reads.
enum class PathForm {
  edges,     // receivers that lie behind each other see each other's changes
  overwrite  // every receiver reads its base value and the change: what another receiver changed
             // before does not reach it (Wang et al. 2022, with MLPs held)
};
// The metric when the other run's output of a sender reaches these receivers alone, and their
// successors recompute (Goldowsky-Dill et al. 2023). Senders and receivers are counted as in the
// EdgeGrid of `spec.edges`. Throws Error (usage) for a receiver that the sender does not come
// before, and what CircuitRuns throws.
double path_patch(const nn::Model& model, const Pair& pair, std::size_t sender,
                  std::span<const std::size_t> receivers, PathForm form,
                  const CircuitSpec& spec = {});

}  // namespace vitrine::interp
