// Interventions: edits of sites, as plain values.
#pragma once

#include <nanobind/nanobind.h>

#include "autograd/transform/intervention.h"

namespace vitrine::python {

namespace nb = nanobind;

// None, an Edit, a list of them, or Interventions.
Interventions to_interventions(nb::handle edits);

void add_edits(nb::module_& m);

}  // namespace vitrine::python
