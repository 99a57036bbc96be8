// Exercise of lesson 5: rotary positions of neighbours.
#pragma once

#include "autograd/ops/ops.h"

namespace vitrine::exercise {

// x [rows, e], turned: row p by position p, entries 2i and 2i + 1 by p base^(-2i / e).
Value rotate_pairs(Builder& b, const Value& x, double base);

}  // namespace vitrine::exercise
