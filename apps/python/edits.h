// Interventions: edits of sites, as plain values.
#pragma once

#include <nanobind/nanobind.h>

#include <vector>

#include "autograd/transform/intervention.h"
#include "nn/model/batch.h"

namespace vitrine::python {

namespace nb = nanobind;

// None, an Edit, a list of them, or Interventions: as they were made.
Interventions to_interventions(nb::handle edits);

// The same for a graph that is run on these prompts. Sites may be said as everywhere ("2.z", "z", a glob: an edit for each
// site that is meant), and positions from the end. Throws SiteError, and ContextError for a position that a prompt does not
// have. Without prompts, positions stay as they are.
Interventions to_interventions(nb::handle edits, const Graph& graph,
                               const std::vector<nn::Tokens>& prompts);

void add_edits(nb::module_& m);

}  // namespace vitrine::python
