// What features respond to in a text, as `vitrine sae features --corpus` found it: for the page of an attribution graph.
#pragma once

#include <string>
#include <vector>

#include "apps/terminal/output.h"
#include "sae/graphs/viewer_graph.h"

namespace vitrine::app {

// Of the graph's features, out of JSON files of `sae features`, each of one layer's transcoder, whose site says the layer:
// {contexts: {"LAYER_FEATURE": [{line, pos, value, tokens: [id], values, peak, before, after}]}, words: {ID: text}}. Throws
// FileError for a file that is none, and one of a site that is in no layer.
Json contexts_of_features(const std::vector<std::string>& files, const sae::ViewerGraph& graph);

}  // namespace vitrine::app
