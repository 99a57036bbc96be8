// The Python module vitrine._vitrine: the engine as Python sees it. The package vitrine/ is what people import.
#include <nanobind/nanobind.h>

#include "apps/python/edits.h"
#include "apps/python/errors.h"
#include "apps/python/graphs.h"
#include "apps/python/metrics.h"
#include "apps/python/models.h"
#include "apps/python/saes.h"
#include "apps/python/transcoders.h"
#include "apps/python/values.h"
#include "apps/python/verbs.h"

NB_MODULE(_vitrine, m) {
  namespace py = vitrine::python;
  // What is alive when Python ends, a model in a global, say, is no leak.
  nanobind::set_leak_warnings(false);
  m.attr("__version__") = VITRINE_VERSION;
  py::add_errors(m);
  py::add_values(m);
  py::add_ops(m);
  py::add_metrics(m);
  py::add_edits(m);
  py::add_graphs(m);
  py::add_saes(m);
  py::add_transcoders(m);
  py::add_models(m);
  py::add_verbs(m);
}
