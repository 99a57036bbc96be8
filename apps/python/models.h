// Models.
#pragma once

#include <nanobind/nanobind.h>

#include <atomic>
#include <optional>
#include <string>
#include <vector>

#include "nn/model/model.h"

namespace vitrine::python {

namespace nb = nanobind;

// A model, and the functions of Python that rewrite its graphs, which its transformations borrow: Python's garbage
// collector sees them here.
struct ModelHandle {
  std::optional<nn::Model> model;  // none: collected
  std::vector<nb::object> functions;

  const nn::Model& live() const;
  // A copy for one call, which `cancel` stops.
  nn::Model running(const std::atomic<bool>* cancel) const;
  ModelHandle changed() const { return *this; }

  static int traverse(PyObject* self, visitproc visit, void* arg);
  static int clear(PyObject* self);
};

// A prompt is text or a list of ids; several are a list of these.
std::vector<nn::Tokens> to_prompts(const nn::Model& model, nb::handle prompts);

void add_models(nb::module_& m);
void add_sweeps(nb::module_& m, nb::class_<ModelHandle>& c);

}  // namespace vitrine::python
