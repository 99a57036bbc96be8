#include "autograd/compile/fold.h"

#include <fmt/format.h>

#include "autograd/graph/builder.h"
#include "tensor/error.h"

namespace vitrine {

Graph fold(const Graph& graph, const std::vector<std::string>& outputs) {
  Builder b(graph);
  for (const std::string& name : outputs) {
    const NodeId node = graph.output(name);
    if (graph.leaf(name) != kNoNode) {
      throw GraphError(
          fmt::format("fold: '{}' is an output and a leaf; give the output another name", name));
    }
    b.forward(node, b.parameter(name, graph.node(node).type));
  }
  return std::move(b).finish();
}

Parameters folded_values(const Graph& graph, const std::vector<std::string>& outputs,
                         const Parameters& parameters, ThreadPool* pool) {
  Fetch wanted;
  for (const std::string& name : outputs) wanted.wants.push_back(value(name));
  const Results results = compile(graph, wanted).run({}, parameters, {.pool = pool});
  Parameters values;
  for (const std::string& name : outputs) values[name] = results.raw(name);
  return values;
}

}  // namespace vitrine
