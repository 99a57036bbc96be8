#include "autograd/transform/store.h"

#include <fmt/format.h>

#include "autograd/graph/builder.h"
#include "autograd/ops/ops.h"
#include "tensor/error.h"

namespace vitrine {

Graph store_as(const Graph& graph, const Parameters& weights) {
  Builder b(graph);
  for (const Node& n : graph.nodes()) {
    const auto* leaf = std::get_if<LeafName>(&n.attributes);
    if (leaf == nullptr || n.op->kind != OpKind::parameter) continue;
    const auto weight = weights.find(leaf->name);
    if (weight == weights.end() || weight->second.dtype() == n.type.dtype ||
        !is_stored_float(weight->second.dtype()))
      continue;
    if (n.type.dtype != DType::f32) {
      throw GraphError(fmt::format(
          "the parameter '{}' is {} in the graph, and stored as {}: stored weights are widened to "
          "f32; convert it to {} first",
          leaf->name, to_string(n.type), name_of(weight->second.dtype()), name_of(n.type.dtype)));
    }
    const Builder::Origin origin(b, n.scope, n.line);
    b.forward(n.id, widen(b.replace_leaf(n.id, weight->second.dtype())));
  }
  return std::move(b).finish();
}

}  // namespace vitrine
