// What the page of a circuit shows besides the JSON of the verb.
#pragma once

#include "apps/reports/circuit_report.h"
#include "apps/terminal/output.h"
#include "autograd/edges/edge_set.h"

namespace vitrine::app {

// {receivers, ends, rows, inside, ranked, score_sum, curves, compared_edges}, as pages/views/circuit.js says; `edges` are
// those of the model, in the order of the report's grid.
Json circuit_drawing(const CircuitReport& report, const EdgeSet& edges);

}  // namespace vitrine::app
