// Edges and circuits of a graph of one's own: what edge_scores and CircuitRuns are to nn::Model.
//
//   const Tensor table = Tensor::of({4, 2}, {1.f, 0.f, 0.f, 1.f, 1.f, 1.f, 0.f, 2.f});
//   Builder b;                                       // one sequence of two tokens
//   const Value row = b.input("sequence", {DType::i32, {2}}), pos = b.input("position", row.type());
//   b.rows(row, pos, b.input("keys", {DType::i32, {1, 2}}));
//   const Value embed = b.site("embed", gather_rows(b.constant(table), b.input("tokens", row.type())),
//                              {Axis::row, Axis::feature});
//   const Value read = b.site("mlp_in", embed, {Axis::row, Axis::feature});
//   const Value wrote = b.site("mlp_out", relu(read - 0.5), {Axis::row, Axis::feature});
//   const Value end = b.site("end", embed + wrote, {Axis::row, Axis::feature});
//   b.output("score", sum(end * end));
//   EdgeSet edges;
//   edges.senders = {{{"input"}, [](Builder& g) { return g.at(Site{"embed"}); }},
//                    {{"mlp"}, [](Builder& g) { return g.at(Site{"mlp_out"}); }}};
//   edges.receivers = {{{"mlp"}, Site{"mlp_in"}, 1, {{1}}}, {{"end"}, Site{"end"}, 2, {{}}}};
//   Feeds feeds = {{"sequence", Tensor::of<std::int32_t>({2}, {0, 0})},
//                  {"position", Tensor::of<std::int32_t>({2}, {0, 1})},
//                  {"keys", Tensor::of<std::int32_t>({1, 2}, {0, 1})},
//                  {"tokens", Tensor::of<std::int32_t>({2}, {0, 1})}};
//   Feeds other_feeds = feeds;
//   other_feeds["tokens"] = Tensor::of<std::int32_t>({2}, {2, 3});
//   GraphEdges runs(std::move(b).finish(), edges, {}, feeds, "score");
//   const Tensor other = runs.senders(other_feeds);  // or mean_senders(), zero_senders()
//   const Tensor scores = runs.exact(other).mean();  // each edge cut by itself
//   const EdgeMask circuit = strongest_edges(runs.grid(), scores, 2);
//   runs.judge(circuit, other).faithfulness;
//
// The graph needs a row table ("Rows" in autograd/README.md), and its output is what is explained:
// a scalar, or one number for each sequence; exact runs take an output of any shape. An edge is cut
// in the run of the base feeds and then carries `other` [rows, senders, d]: what its sender gave in
// another run (resampling), its mean over the sequences (mean ablation), or zeros. An edge that
// carries the same in every sequence has no effect under the first two, whatever it is for.
#pragma once

#include <atomic>
#include <string>
#include <string_view>

#include "autograd/compile/plan_cache.h"
#include "interp/circuits/circuit_runs.h"
#include "interp/circuits/edge_attribution.h"
#include "interp/circuits/edge_mask.h"

namespace vitrine::interp {

// How much each edge by itself changes an output of the graph.
struct EdgeEffects {
  // f64 [values, senders, receivers]: for each element of the output in row-major order, a sequence
  // as a rule, its change; 0 where there is no edge.
  Tensor each;

  // Over the values, f64 [senders, receivers].
  Tensor mean() const;
  Tensor mean_absolute() const;  // changes of both signs do not cancel
  Tensor largest() const;        // |change|
};

// With what, and in how much memory, the graph is run.
struct GraphEdgeOptions {
  ThreadPool* pool = nullptr;                   // null: on this thread alone
  std::int64_t memory = std::int64_t{1} << 30;  // bytes of intermediate values of exact() at a time
  const std::atomic<bool>* cancel = nullptr;    // InterruptedError when set
};

// A graph of one's own with a base run, whose edges carry another run, means or zeros.
class GraphEdges {
 public:
  // Runs the base feeds. Throws what split_edges and a plan's run throw.
  GraphEdges(Graph graph, EdgeSet edges, Parameters parameters, Feeds feeds, std::string output,
             const GraphEdgeOptions& options = {});

  const EdgeGrid& grid() const { return grid_; }
  const Tensor& output() const { return output_; }  // of the base run

  // ---- what edges carry ---------------------------------------------------------------------------
  const Tensor& senders() const { return senders_; }  // in the base run: [rows, senders, d]
  Tensor senders(const Feeds& feeds) const;           // in another run
  Tensor mean_senders() const;                        // at each position the mean of the base run
  Tensor zero_senders() const;
  Tensor value(const Site& site, const Feeds& feeds) const;  // packed

  // ---- exactly ------------------------------------------------------------------------------------
  // The output of the base run with these edges cut, and with all cut but these.
  Tensor cut(const EdgeMask& edges, const Tensor& other) const;
  Tensor kept(const EdgeMask& circuit, const Tensor& other) const;
  // The change when one edge is cut, for each: one sweep of all of them.
  EdgeEffects exact(const Tensor& other) const;
  // clean: the base run; corrupt: the run with every edge cut. Means over the output's elements.
  Faithfulness judge(const EdgeMask& circuit, const Tensor& other) const;

  // ---- estimated ----------------------------------------------------------------------------------
  // As edge_attribution.h defines them, with the gradient of the output's sum. Throw GraphError
  // unless the output is a scalar or [sequences].
  EdgeEffects eap(const Tensor& other) const;
  // The gradient is that of the base run and of the run with `other_feeds`, half and half.
  EdgeEffects clean_corrupted(const Tensor& other, const Feeds& other_feeds) const;
  // The gradient is the mean over runs of the base feeds in which `site` is on the way from `start`,
  // its packed value in the other run, to what it is in the base run.
  EdgeEffects eap_ig(const Tensor& other, const Site& site, const Tensor& start,
                     PathRule rule = PathRule::midpoint, int steps = 5) const;

 private:
  Results run(const Graph& graph, const Fetch& wanted, const Feeds& feeds) const;
  Tensor change(const Tensor& other) const;
  Graph with_scores(const Graph& graph) const;
  void add_scores(const Graph& graph, Feeds feeds, const Tensor& change, double share,
                  Tensor& to) const;
  Tensor no_effects() const;

  Graph graph_, split_;
  EdgeSet edges_;
  EdgeGrid grid_;
  Parameters parameters_;
  Feeds feeds_;
  std::string name_;
  GraphEdgeOptions options_;
  Tensor output_, senders_;
  std::vector<std::int64_t> sequence_, position_;  // of each row
  std::int64_t sequences_ = 0;
  mutable PlanCache plans_;
};

}  // namespace vitrine::interp
