// Graphs, plans and results.
#pragma once

#include <nanobind/nanobind.h>

#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "autograd/compile/plan.h"
#include "autograd/transform/intervention.h"

namespace vitrine::python {

namespace nb = nanobind;

// What is wanted of a run, as Python says it: one pattern of sites ("blocks.*.hook_z,logits") or several.
using Patterns = std::optional<std::variant<std::string, std::vector<std::string>>>;
std::vector<std::string> list_of(const Patterns& patterns);
struct Wanted {
  Patterns sites, before, gradients, leaf_gradients, outputs;
  // Of a word in `sites` that is an output of the graph, and no site of it, the output is meant: "logits".
  Fetch fetch(const Graph& graph) const;
};

Feeds to_feeds(const Graph& graph, const nb::dict& arrays);

void add_graphs(nb::module_& m);

}  // namespace vitrine::python
