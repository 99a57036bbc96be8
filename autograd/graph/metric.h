// Metrics (objectives): the scalar that is explained or minimised.
#pragma once

#include <functional>
#include <string>

#include "autograd/graph/builder.h"
#include "autograd/graph/feeds.h"

namespace vitrine {

// A scalar: a function that emits it onto a given graph. value(metric) fetches it. `feeds` are for
// inputs that it adds; a run needs them beside those of the model.
struct Metric {
  std::string name;
  std::function<Value(Builder&)> emit;
  Feeds feeds = {};
};

// Emits `metric` and registers it as an output under its name.
Graph with_metric(const Graph& graph, const Metric& metric);

}  // namespace vitrine
