// The executor: the phases of Plan::run, in their order. It binds leaves to arguments, runs the
// steps and, where a result holds NaN, searches for the op that made it. Not installed.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "autograd/compile/program.h"

namespace vitrine {

// ---- binding ----------------------------------------------------------------------------------
// The tensor of each leaf during a run: contiguous, in the order of Program::feeds and parameters.
struct Bound {
  std::vector<Tensor> feeds, parameters;
};

// Throws GraphError, naming the leaf, for a feed that is none of `inputs`, which are sorted (but
// for tables of a batch, rows.* and next.*); for a leaf that is not given or of another type; and
// for one that is updated and not contiguous or read-only.
Bound bind_leaves(const Program& program, const std::vector<std::string>& inputs,
                  const Feeds& feeds, const Parameters& parameters);

// Alias check. Two leaves may lie in the same memory, as a weight and its row of the optimiser's
// state do. Throws GraphError, naming both, where a run would read, or write again, what it has
// updated already (NamedLeaf::last_read, first_write). Reads no element, and does nothing when the
// program updates no leaf.
void require_unshared(const Program& program, const Bound& bound);

// The row table of the batch, whether or not a step reads it: results are unpacked by it. Throws
// GraphError, naming the row, for a sequence that does not exist.
void check_row_table(const Graph& graph, const Feeds& feeds);

// The number of rows of each sequence of the batch; empty where the graph has no row table, or
// none is given.
std::vector<std::int64_t> sequence_lengths(const Graph& graph, const Feeds& feeds);

// ---- running ----------------------------------------------------------------------------------
// The context of one run. Only the search for NaN reads the program's graph.
struct PlanRun {
  const Program& program;
  const Graph& graph;
  const Bound& bound;
  MemoryPool& memory;
  ThreadPool& pool;
  const RunOptions& options;
};

// Runs the steps, then writes the updates that are copies. The results are in the order of
// Program::results and own their memory. Adds to `timing` what the steps took. Throws
// InterruptedError when cancelled: between any two steps, or, where leaves are updated, before the
// first alone.
std::vector<Tensor> execute(const PlanRun& run, Timing& timing);

// Whether a value holds NaN; by all threads.
bool holds_nan(ThreadPool& pool, const Tensor& value);

// For a run whose result `name` holds NaN. Throws NumericError naming its origin: a leaf, or, by
// running all steps again, the first op with such an output, its place in the model and its inputs.
// A program that updates its leaves cannot be run again: then the error says so.
[[noreturn]] void report_nan(const PlanRun& run, const std::string& name);

}  // namespace vitrine
