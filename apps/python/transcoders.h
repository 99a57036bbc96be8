// A transcoder for every MLP, per layer or cross-layer.
#pragma once

#include <nanobind/nanobind.h>

namespace vitrine::python {

void add_transcoders(nanobind::module_& m);

}  // namespace vitrine::python
