// An attribution graph as its page has it: short, so that graphs of thousands of nodes are pages that open at once.
#pragma once

#include "apps/terminal/output.h"
#include "sae/graphs/viewer_graph.h"

namespace vitrine::app {

// {nodes: [], links: [], packed: {nodes: [[kind, layer, number, position, influence, activation, what else], ...], links:
// [[source, target, weight], ...]}}: kinds are 0 feature, 1 error, 2 token, 3 logit, and links have numbers of nodes. What
// else is {id, label, probability, is_target, js_id, run, from_end, others}, as far as it is not what follows from the rest.
// pages/parts/packed_graph.js makes circuit-tracer's nodes and links of it.
Json packed_graph(const sae::ViewerGraph& graph);

}  // namespace vitrine::app
