// Rewriting a site: puts the user's own nodes on its value, as a forward hook would.
//
//   Graph g = rewrite(model, Site{"mine.gate"}, [&](const Value& x) {
//     const Value d = x.builder().constant(direction);   // a unit vector
//     return x - sum(x * d, {-1}, true) * d;             // what is left without it
//   });
//
// The function runs once, now, and emits nodes: what it writes is compiled, optimised and
// differentiated like the rest of the model. Numbers that vary between runs are inputs that it
// emits: x.builder().input("strength", {x.dtype(), {}}).
#pragma once

#include <functional>

#include "autograd/graph/builder.h"

namespace vitrine {

// Returns the graph in which f(x) flows on from the site, where x is the value that arrives there
// after earlier edits. A site inside a composite is expanded. Throws SiteError for a site that is
// not there, ShapeError when f changes the shape or dtype, and GraphError when f gives no value, a
// value of another graph, or one that depends on the site itself.
Graph rewrite(const Graph& graph, const Site& site, const std::function<Value(const Value&)>& f);

}  // namespace vitrine
