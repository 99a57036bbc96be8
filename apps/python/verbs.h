// The verbs of the program, in Python's process: their results are the verbs' own.
#pragma once

#include <nanobind/nanobind.h>

namespace vitrine::python {

void add_verbs(nanobind::module_& m);

}  // namespace vitrine::python
