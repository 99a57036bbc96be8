// The names of an attribution graph's nodes, as files, pages and command lines have them:
//
//   feature  LAYER_FEATURE_POSITION      error  error_LAYER_POSITION
//   token    E_ID_POSITION               logit  LAYERS+1_ID_POSITION
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "sae/graphs/attribution_graph.h"

namespace vitrine::sae {

std::string node_name(const AttributionGraph& graph, std::int64_t node);

// The node of this name. Throws Error (usage) for a text that is no name, and for a node that is not there, saying what is: where
// else the feature is active, which positions there are.
std::int64_t node_named(const AttributionGraph& graph, std::string_view name);

// One number for a layer and a feature (Cantor's pairing), as circuit-tracer's files have it.
std::int64_t paired(std::int64_t layer, std::int64_t feature);

}  // namespace vitrine::sae
