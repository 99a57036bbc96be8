// Frozen activations: values of a recorded run that a graph reads instead of computing them, for
// the policy `hold` of linearise and splice. They are inputs named held(SITE).
//
//   Graph g = linearise(model, {.attention = Policy::hold});
//   Results recorded = compile(model, fetch(held_sites(g))).run(feeds, parameters);
//   compile(g, fetch(value("logits"))).run(with_held(g, recorded, feeds), parameters);
#pragma once

#include <string>
#include <string_view>

#include "autograd/graph/feeds.h"
#include "autograd/graph/graph.h"
#include "autograd/graph/results.h"

namespace vitrine {

inline std::string held_name(std::string_view site) { return "held(" + std::string(site) + ")"; }

// The sites whose recorded values the graph reads. Throws GraphError when there are none.
SiteSet held_sites(const Graph& graph);

// Adds those inputs to `feeds`, from a run in which the sites were fetched. Throws GraphError for a
// site that was not, and ShapeError for one that was recorded of another batch size.
Feeds with_held(const Graph& graph, const Results& recorded, const Feeds& feeds);

}  // namespace vitrine
