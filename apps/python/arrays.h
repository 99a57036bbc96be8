// Arrays between Python and tensors, without a copy where that is possible.
#pragma once

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>

#include "autograd/graph/feeds.h"
#include "tensor/tensor.h"

namespace vitrine::python {

namespace nb = nanobind;

// A NumPy array over the tensor's memory, which lives as long as the array; read-only where the tensor is (a model's
// weights, a mapped file). What NumPy has no type for (bf16, GGUF's blocks) comes as a copy in f32.
nb::object to_numpy(const Tensor& tensor);
// The same, always read-only: what belongs to a model.
nb::object to_numpy_read_only(const Tensor& tensor);

// A tensor over the memory of anything that speaks DLPack or the buffer protocol (NumPy, PyTorch, JAX), which lives as
// long as the tensor; read-only where that is. A copy is made where elements do not lie one after the other, and of
// lists and numbers, which become NumPy arrays first. Throws ShapeError for types that a tensor does not have and for
// memory that is not the CPU's.
Tensor to_tensor(nb::handle array);
// The same as `dtype`, converted when it is another one.
Tensor to_tensor(nb::handle array, DType dtype);

// {name: array} and {name: tensor}.
nb::dict to_dict(const std::map<std::string, Tensor, std::less<>>& tensors);
std::map<std::string, Tensor, std::less<>> to_tensors(const nb::dict& arrays);

// "float32", "f32", numpy.float32, ... Throws ShapeError for another.
DType dtype_of(nb::handle type);

}  // namespace vitrine::python
