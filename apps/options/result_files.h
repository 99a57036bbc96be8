// Results as files for other programs, by the ending of their names: .safetensors and .npz hold
// tensors, .csv their elements or the rows of a table.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "apps/terminal/axis_names.h"
#include "apps/terminal/output.h"
#include "tensor/files/safetensors.h"

namespace vitrine::app {

// Whether a file of this name holds data, and the result for people goes to stdout besides.
bool is_data_file(std::string_view name);
bool is_tensor_file(std::string_view name);  // .safetensors or .npz

// Writes FILE.npz where it is called that, and else safetensors; .npz has no metadata. Throws
// SaveError.
void save_tensors(const std::string& file, const NamedTensors& tensors, const Json& metadata);

// One line for each element: the tensor's name, a column for each axis that any of them has, and the
// value. NaN is an empty cell.
std::string csv_of(const NamedTensors& tensors, const AxisNames& axes);

// A line for each object of a list, a column for each field that any of them has; what is in an
// object within is called outer.inner, lists are written as JSON, null is an empty cell.
std::string csv_of_rows(const Json& list);

}  // namespace vitrine::app
