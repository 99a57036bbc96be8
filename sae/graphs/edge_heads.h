// Which heads carry an edge of an attribution graph, and from where to where.
//
//   EdgeHeads e = heads_on_edge(m, set, g, node_named(g, "1_20_3"), node_named(g, "4_7_4"));
//   e.heads[0];   // the weight of a pattern through which most of the edge goes: what attribute_score explains
#pragma once

#include <cstdint>
#include <vector>

#include "sae/graphs/attribution_graph.h"
#include "sae/graphs/score_attribution.h"

namespace vitrine::sae {

struct EdgeHeads {
  struct Carried {
    AttentionPlace place;
    double weight = 0;
  };
  double weight = 0;           // of the edge: A[target, source]
  double direct = 0;           // of it, what goes through no head
  std::vector<Carried> heads;  // the strongest first, whatever the sign: those that carry anything
};

// What would be gone from the edge without one weight of one head's pattern, all else held. A path that goes through two heads counts
// for both. Throws Error (usage) for a source that is a logit, a target that is neither feature nor logit, and nodes that are
// not there.
EdgeHeads heads_on_edge(const nn::Model& model, const TranscoderSet& set,
                        const AttributionGraph& graph, std::int64_t source, std::int64_t target);

}  // namespace vitrine::sae
