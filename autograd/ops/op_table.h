// All ops, in one explicit array.
#pragma once

#include <span>
#include <string_view>

#include "autograd/graph/op.h"

namespace vitrine {

std::span<const OpDef* const> all_ops();

// The op that computes function(producer(...)) in one pass, with the inputs of the producer; null
// when there is none.
const OpDef* fused(const OpDef& producer, const OpDef& function);

}  // namespace vitrine
