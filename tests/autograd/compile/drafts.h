// Graphs taken through some of the phases of compile, and random ones.
#pragma once

#include <string>
#include <vector>

#include "autograd/compile/phases.h"
#include "autograd/compile/run.h"
#include "autograd/graph/builder.h"

namespace vitrine::test {

// Each runs the phases up to its own; no pass rewrites the graph before. Steps of the draft point
// into the graph.
Draft laid_out(const Graph& graph, const Fetch& wanted, const Updates& updates = {});
Draft with_results(const Graph& graph, const Fetch& wanted, const Updates& updates = {});
Draft with_updates(const Graph& graph, const Fetch& wanted, const Updates& updates);
Draft complete(const Graph& graph, const Fetch& wanted, const Updates& updates = {});

// The operand of an output of the graph.
const Operand& operand(const Graph& graph, const Draft& draft, const std::string& output);
const Storage& storage(const Graph& graph, const Draft& draft, const std::string& output);

// Runs a complete draft; the results in their order.
std::vector<Tensor> run(const Graph& graph, const Draft& draft, const Feeds& feeds,
                        const Parameters& parameters);

// ---- random graphs ----------------------------------------------------------------------------
// Of parameters w0 ... w3 and an input x, all f64[4, 4], and as many steps and views of them,
// outputs y0, y1, ...; some of the parameters are updated.
struct RandomProgram {
  Graph graph;
  Updates updates;
  std::vector<std::string> wanted_outputs;  // some of the outputs
  Fetch fetch() const;
};
RandomProgram random_program(int number);

}  // namespace vitrine::test
