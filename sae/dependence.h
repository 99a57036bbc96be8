// Whether a value of a graph depends on another one.
#pragma once

#include <vector>

#include "autograd/graph/graph.h"

namespace vitrine::sae {

inline bool depends_on(const Graph& graph, NodeId node, NodeId on) {
  std::vector<bool> below(static_cast<std::size_t>(graph.next_id()), false);
  below[static_cast<std::size_t>(on)] = true;
  for (const Node& n : graph.nodes()) {
    for (const NodeId i : n.inputs) {
      if (below[static_cast<std::size_t>(i)]) below[static_cast<std::size_t>(n.id)] = true;
    }
  }
  return below[static_cast<std::size_t>(node)];
}

}  // namespace vitrine::sae
