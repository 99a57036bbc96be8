// Plan: runs a compiled program by the phases of compile/run.h.
#include "autograd/compile/plan.h"

#include <algorithm>

#include "autograd/compile/program.h"
#include "autograd/compile/run.h"
#include "tensor/error.h"

namespace vitrine {

Results Plan::run(const Feeds& feeds, const Parameters& parameters,
                  const RunOptions& options) const {
  if (compiled_ == nullptr) throw GraphError("this Plan is empty: compile a graph first");
  const Compiled& c = *compiled_;
  const Program& program = c.program;
  const Bound bound = bind_leaves(program, c.inputs, feeds, parameters);
  check_row_table(c.graph, feeds);
  require_unshared(program, bound);

  ThreadPool serial(1);
  ThreadPool& pool = options.pool != nullptr ? *options.pool : serial;
  MemoryPool& memory = memory_ != nullptr ? *memory_ : *c.memory;
  const PlanRun run{program, c.graph, bound, memory, pool, options};
  std::vector<Tensor> tensors = execute(run, *c.timing);
  Results results;
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    const NamedResult& r = program.results[i];
    results.values_[r.name] = {std::move(tensors[i]), r.axes};
  }
  if (options.find_nan) {
    for (const auto& [name, entry] : results.values_) {
      if (holds_nan(pool, entry.tensor)) report_nan(run, name);
    }
  }
  results.lengths_ = sequence_lengths(c.graph, feeds);
  return results;
}

Feeds Plan::taken(const Feeds& feeds) const {
  Feeds some;
  for (const auto& [name, tensor] : feeds) {
    if (std::binary_search(compiled_->inputs.begin(), compiled_->inputs.end(), name))
      some.emplace(name, tensor);
  }
  return some;
}

const Plan::Stats& Plan::stats() const { return compiled_->stats; }
const Graph& Plan::graph() const { return compiled_->graph; }

}  // namespace vitrine
