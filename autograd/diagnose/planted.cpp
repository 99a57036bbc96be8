#include "autograd/diagnose/planted.h"

#include <utility>
#include <variant>

#include "autograd/graph/builder.h"
#include "tensor/error.h"

namespace vitrine {

Graph with_masks_shifted(const Graph& graph, std::int64_t by) {
  Builder b(graph);
  bool found = false;
  for (const Node& node : graph.nodes()) {
    Attributes attributes = node.attributes;
    if (auto* attention = std::get_if<AttentionRule>(&attributes)) attention->offset += by;
    else if (auto* mask = std::get_if<Visibility>(&attributes)) mask->offset += by;
    else continue;
    std::vector<Value> inputs;
    for (const NodeId input : node.inputs) inputs.push_back(b.value(input));
    b.rebuild(node.id, inputs, std::move(attributes));
    found = true;
  }
  if (!found) throw GraphError("the graph has no causal mask: nothing was shifted");
  return std::move(b).finish();
}

}  // namespace vitrine
