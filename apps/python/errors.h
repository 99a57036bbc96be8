// Exceptions: those of the library, as exceptions of Python.
#pragma once

#include <nanobind/nanobind.h>

namespace vitrine::python {

// Makes vitrine.Error and its kinds, and has every exception of the library come as one of them. What a function says
// of its errors in C++ holds in Python, by the same names.
void add_errors(nanobind::module_& m);

}  // namespace vitrine::python
