// Exercise 3: a head that is short-sighted.
//
// Mistral's attention looks back over a window: a query sees its own token and the `window` - 1 tokens before it, and no others. Write such a
// head. q, k, v are [rows, e]; what comes back is the pattern [query, key], and z [rows, e].
//
// You know how to hide the future: mask(scores, 0, 1) makes a score -inf where key > query. Its last argument moves the border:
// mask(scores, 0, 1, n) hides key > query + n, also for an n below 0. How do you hide what is too *old*?
// select(condition, a, b), equal(a, b) and b.scalar(-INFINITY, DType::f32) with broadcast_to may help (autograd/ops/ops.h).
//
//   bash apps/lessons/run.sh exercise 3
#include "apps/lessons/exercises/03_windowed_head.h"

#include <cmath>

#include "autograd/ops/ops.h"

namespace vitrine::exercise {

WindowedHead windowed_head(const Value& q, const Value& k, const Value& v,
                           [[maybe_unused]] std::int64_t window) {
  const Value scores = matmul(q, transpose(k)) / std::sqrt(static_cast<double>(q.dim(1)));
  // Your part: this head sees everything, the future too.
  const Value pattern = softmax(scores);
  return {pattern, matmul(pattern, v)};
}

}  // namespace vitrine::exercise
