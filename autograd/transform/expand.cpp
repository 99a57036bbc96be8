#include "autograd/transform/expand.h"

#include <algorithm>

#include "autograd/graph/builder.h"

namespace vitrine {

Graph expand_sites(const Graph& graph, const std::vector<std::string>& names) {
  Graph g = graph;
  for (;;) {
    std::vector<NodeId> hiding;
    for (const std::string& name : names) {
      const SiteEntry& s = g.site(name);
      if (s.interior() && std::find(hiding.begin(), hiding.end(), s.node) == hiding.end())
        hiding.push_back(s.node);
    }
    if (hiding.empty()) return g;
    Builder b(g);
    for (const NodeId id : hiding) b.expand(id);
    g = std::move(b).finish();
  }
}

}  // namespace vitrine
