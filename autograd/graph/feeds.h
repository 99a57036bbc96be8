// The arguments of a run: tensors by the name of the leaf.
#pragma once

#include <map>
#include <string>

#include "tensor/tensor.h"

namespace vitrine {

using Feeds = std::map<std::string, Tensor, std::less<>>;       // of inputs
using Parameters = std::map<std::string, Tensor, std::less<>>;  // of parameters

}  // namespace vitrine
