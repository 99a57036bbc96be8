// Sweeps: batched activation patching. Hundreds of counterfactual runs, each of which differs from
// a base run by its edits, are compiled into one program.
//
//   std::vector<Interventions> worlds;                       // one edited run each
//   for (int p = 0; p < 15; ++p)
//     worlds.push_back({replace(site::resid_pre(2), x, {.pos = {p}}, "clean")});
//   Swept s = sweep(graph, feeds, parameters, worlds, {"logit_diff"}, {.pool = &pool});
//   s["logit_diff"];                                         // [15]
//   fmt::print("{}", s.explain());
//
// A world is one such run. It takes from the base run what its edits cannot reach, what they do not
// change and what the outputs do not read; the rest of all worlds is packed, row by row, into one
// matrix per node, so that LayerNorm, linear and GELU run once over them and weights are read once.
// Attention reads the keys of untouched positions in the base run's. See "Sweeps" in
// autograd/README.md.
#pragma once

#include <map>
#include <span>
#include <string>
#include <vector>

#include "autograd/compile/plan.h"
#include "autograd/compile/plan_cache.h"
#include "autograd/transform/intervention.h"

namespace vitrine {

struct SweepOptions {
  ThreadPool* pool = nullptr;  // null: on this thread alone
  // Keeps programs for the next sweep of this kind. null: they are compiled and forgotten, as are
  // those of a sweep that takes several passes.
  PlanCache* plans = nullptr;
  // Bytes of intermediate values at a time: worlds are split into as many passes as that takes.
  std::int64_t memory = std::int64_t{1} << 30;
  const std::atomic<bool>* cancel = nullptr;          // InterruptedError when set
  std::function<void(int done, int total)> progress;  // worlds

  // Optimisations. Each can be switched off, to measure it; the values stay the same.
  bool by_row = true;         // only rows that an edit reaches; off: all rows, from its site on
  bool by_head = true;        // only heads that an edit reaches, as far as heads are kept apart
  bool by_difference = true;  // not where an edit puts in what is there already
  bool by_demand = true;      // only rows that the outputs read
};

struct SweepStats {
  int worlds = 0;        // edited runs asked for
  double base_runs = 0;  // what they come to in runs of the base: one that edits a single prompt of
                         // a batch is a part of one
  int without_effect = 0;  // answered without running: no output reads what they change
  int passes = 0;          // programs that gave the others
  int base_passes = 0;  // runs of the base: one, unless what a program reads of it was not foreseen
  std::int64_t base_flops = 0, flops = 0;              // one run of the base; all passes together
  std::int64_t parameter_bytes = 0, weights_read = 0;  // of one run; by all passes
  std::int64_t base_bytes = 0, bytes = 0;  // intermediate values: of one run; of all passes
  std::int64_t largest_arena = 0;          // bytes
  double seconds = 0, base_seconds = 0, lift_seconds = 0;
};

class Swept {
 public:
  // [worlds, shape of the output...], in the order of the worlds.
  Tensor operator[](std::string_view output) const;
  Tensor base(std::string_view output) const;  // of the run without edits
  // Whether a world had to be run: otherwise its values are exactly the base run's.
  bool has_effect(std::size_t world) const { return has_effect_[world]; }
  const SweepStats& stats() const { return stats_; }
  std::string explain() const;  // passes avoided, FLOPs and bytes beside running each world alone

 private:
  friend Swept sweep(const Graph&, const Feeds&, const Parameters&, std::span<const Interventions>,
                     const std::vector<std::string>&, const SweepOptions&);
  std::map<std::string, Tensor, std::less<>> values_, base_;
  std::vector<bool> has_effect_;
  SweepStats stats_;
};

// Builds the batched program of all worlds: a graph like any other, whose matrices carry their
// sites' names. Inputs sweep.base.ID are the base run's values of node ID.
Graph sweep_program(const Graph& graph, const Feeds& feeds, const Parameters& parameters,
                    std::span<const Interventions> worlds, const std::vector<std::string>& outputs,
                    const SweepOptions& options = {});

// Runs all worlds. `outputs` names outputs of the graph. `feeds` and `parameters` are those of the
// base run. Throws what intervene and with_interventions throw for an edit, naming the world,
// GraphError for an output that the graph does not have or a leaf whose name begins with "sweep.",
// and InterruptedError.
Swept sweep(const Graph& graph, const Feeds& feeds, const Parameters& parameters,
            std::span<const Interventions> worlds, const std::vector<std::string>& outputs,
            const SweepOptions& options = {});

}  // namespace vitrine
