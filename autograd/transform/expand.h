// Decomposition of composite (fused) ops, so that what lies inside them can be fetched, edited or
// differentiated.
#pragma once

#include <string>
#include <vector>

#include "autograd/graph/graph.h"

namespace vitrine {

// Replaces every composite that hides one of these sites by its expansion; the sites become nodes.
Graph expand_sites(const Graph& graph, const std::vector<std::string>& names);

}  // namespace vitrine
