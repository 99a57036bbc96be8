// compile turns a graph and a list of wanted values into a Plan, a compiled program that runs any
// number of times.
//
//   Plan plan = compile(graph, fetch(sites("*.hook_pattern"), value("logits")));
//   fmt::print("{}", plan.explain());
//   Results r = plan.run({{"tokens", tokens}}, parameters);
//   r[site::pattern(2)];
#pragma once

#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "autograd/graph/graph.h"
#include "autograd/graph/metric.h"
#include "autograd/graph/results.h"
#include "tensor/thread_pool.h"

namespace vitrine {

// ---- what is wanted ---------------------------------------------------------------------------
struct Want {
  enum class Kind { site, before, output, grad_of_site, grad_of_leaf } kind;
  std::string pattern;  // site and leaf kinds: comma-separated patterns
};
struct Fetch {
  std::vector<Want> wants;
  std::string key() const;  // for the plan cache
};
inline Want value(std::string_view output) { return {Want::Kind::output, std::string(output)}; }
inline Want value(const Metric& metric) { return {Want::Kind::output, metric.name}; }
inline Want before(const SiteSet& s) { return {Want::Kind::before, s.patterns}; }
inline Want before(const Site& s) { return {Want::Kind::before, s.name}; }
inline Want grad(const SiteSet& s) { return {Want::Kind::grad_of_site, s.patterns}; }
inline Want grad(const Site& s) { return {Want::Kind::grad_of_site, s.name}; }
inline Want grad(const LeafSet& s) { return {Want::Kind::grad_of_leaf, s.patterns}; }
inline Want as_want(const Want& w) { return w; }
inline Want as_want(const SiteSet& s) { return {Want::Kind::site, s.patterns}; }
inline Want as_want(const Site& s) { return {Want::Kind::site, s.name}; }
// fetch(site) is the value that flows on (after edits); before(site) the one that arrives.
template <class... W>
Fetch fetch(const W&... wants) {
  return {{as_want(wants)...}};
}

// In-place updates of leaves after a run: {"w", "w.next"} writes the output "w.next" into the
// tensor given for the leaf "w". Where the op that makes the new value can work in place and
// nothing reads the old one later, no copy is made: this is how an optimiser updates weights and
// how keys and values are cached. All updates are of the values before the run, in whatever order
// they are made.
using Updates = std::map<std::string, std::string, std::less<>>;

// ---- running ----------------------------------------------------------------------------------
struct RunOptions {
  ThreadPool* pool = nullptr;  // null: on this thread alone
  // When a result holds NaN the run is repeated with every step checked, and NumericError names the
  // first op, its place in the model and its inputs. false returns the NaN.
  bool find_nan = true;
  // Checked between steps; InterruptedError when set. A plan with updates looks at it before its
  // first step alone, so that no leaf is left half updated.
  const std::atomic<bool>* cancel = nullptr;
  std::function<void(int done, int total)> progress;  // after each step
};

class MemoryPool;

class Plan {
 public:
  Plan() = default;
  // const and re-entrant: each run has its own arena. Throws GraphError for a feed or parameter
  // that is missing or of another type, naming it and what was expected, and for a feed that the
  // graph has no input for (see taken), but for tables of a batch (rows.*, next.*).
  Results run(const Feeds& feeds, const Parameters& parameters,
              const RunOptions& options = {}) const;

  // Filters the feeds to those that the graph has inputs for: one set may serve several plans.
  Feeds taken(const Feeds& feeds) const;

  // Ops, bytes, FLOPs, what was removed and why; after a run also where the time went, per kind of
  // op (the mean of this plan's runs), and how much of it inside matrix products.
  std::string explain() const;
  struct Stats {
    int nodes = 0, steps = 0, views = 0, dead = 0, identities = 0, duplicates = 0, fused = 0,
        narrowed = 0, narrowed_columns = 0, sparse_products = 0, summed_products = 0, in_place = 0,
        update_copies = 0;
    int stored = 0, widened = 0;  // weights that are read as they are stored; that are not
    std::int64_t flops = 0, arena_bytes = 0, intermediate_bytes = 0, result_bytes = 0,
                 parameter_bytes = 0;
  };
  const Stats& stats() const;
  const Graph& graph() const;

 private:
  friend Plan compile(const Graph& graph, const Fetch& wanted, const Updates& updates);
  friend class PlanCache;  // whose plans share their memory
  struct Compiled;  // compile/program.h
  std::shared_ptr<const Compiled> compiled_;
  std::shared_ptr<MemoryPool> memory_;  // null: its own, in compiled_
};

// Compiles a graph for a list of wanted values. Throws SiteError for an unknown site, GraphError
// for an output, gradient or leaf that the graph does not have, or an update of another type than
// its leaf.
Plan compile(const Graph& graph, const Fetch& wanted, const Updates& updates = {});

}  // namespace vitrine
