// A fault planted in a model, to see that its diagnosis finds it.
#pragma once

#include <cstdint>

#include "autograd/graph/graph.h"

namespace vitrine {

// Every causal mask lets a query see keys up to its own position + `by` + what it was: the mask that is off by one, which
// by = 1 (a token sees the one that it is to predict) or by = -1 (it does not see itself) makes. Throws GraphError for a
// graph that has no causal mask.
Graph with_masks_shifted(const Graph& graph, std::int64_t by);

}  // namespace vitrine
