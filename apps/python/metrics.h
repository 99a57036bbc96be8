// Metrics: the library's, and functions of Python that emit one.
#pragma once

#include <nanobind/nanobind.h>

#include "autograd/graph/metric.h"

namespace vitrine::python {

namespace nb = nanobind;

// A metric whose graph a function of Python may write. That function is held here, where Python's garbage collector
// sees it, and borrowed by the metric.
class MetricHandle {
 public:
  explicit MetricHandle(Metric metric) : metric_(std::move(metric)) {}
  // emit(builder) or, of each prompt, emit(logits [prompts, vocabulary]) -> [prompts].
  static MetricHandle of_function(const std::string& name, const nb::callable& function,
                                  bool per_prompt, Feeds feeds);

  const Metric& live() const { return metric_; }
  static int traverse(PyObject* self, visitproc visit, void* arg);
  static int clear(PyObject* self);

 private:
  Metric metric_;
  nb::object function_;
};

void add_metrics(nb::module_& m);

}  // namespace vitrine::python
