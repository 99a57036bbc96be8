// Attribution graphs as circuit-tracer's viewers read them.
#pragma once

#include <functional>
#include <string>

#include "sae/graphs/pruned_graph.h"
#include "tensor/files/json_value.h"

namespace vitrine::sae {

struct ViewerSpec {
  std::string slug, scan;                  // what the graph is called; which features it is of
  std::function<std::string(int)> text{};  // of a token; none: its number
  double node_threshold = 0.8;
};
// {metadata, qParams, nodes, links}: the kept nodes that have a link, all tokens and logits; links between them. A node is
// {node_id, feature, layer, ctx_idx, feature_type, token_prob, is_target_logit, run_idx, reverse_ctx_idx, jsNodeId, clerp,
// influence, activation}. Errors are called error_LAYER_POSITION, where circuit-tracer's "0_LAYER_POSITION" may be a feature's
// name, too.
JsonValue viewer_json(const AttributionGraph& graph, const PrunedGraph& pruned,
                      const ViewerSpec& spec);

}  // namespace vitrine::sae
