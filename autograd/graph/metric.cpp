#include "autograd/graph/metric.h"

namespace vitrine {

Graph with_metric(const Graph& graph, const Metric& metric) {
  Builder b(graph);
  b.output(metric.name, metric.emit(b));
  return std::move(b).finish();
}

}  // namespace vitrine
