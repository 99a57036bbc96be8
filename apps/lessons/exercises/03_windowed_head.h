// Exercise of lesson 3: a head that looks back over a window.
#pragma once

#include "autograd/ops/ops.h"

namespace vitrine::exercise {

struct WindowedHead {
  Value pattern, z;  // [query, key], [rows, e]
};
// q, k, v [rows, e]; a query sees its own token and the `window` - 1 tokens before it.
WindowedHead windowed_head(const Value& q, const Value& k, const Value& v, std::int64_t window);

}  // namespace vitrine::exercise
