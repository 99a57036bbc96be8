// Exercise 5: the other way to pair.
//
// Lesson 5 turned entry i together with entry i + e/2. Other models pair neighbours: entries 2i and 2i + 1 turn together, by the angle
// position * base^(-2i / e). Write that. x is [rows, e], the row's number is its position, and e is even.
//
// Of each pair (u, v) comes (u cos a - v sin a, v cos a + u sin a). slice(x, axis, start, stop, step) takes every second entry. Angles are
// constants: compute them in a loop, and put them into the graph by b.constant. How do you bring the two halves back in turns? reshape to
// [rows, e/2, 1] and concat along the last axis, then reshape.
//
//   bash apps/lessons/run.sh exercise 5
#include "apps/lessons/exercises/05_rotary_pairs.h"

#include <cmath>
#include <vector>

#include "autograd/ops/ops.h"

namespace vitrine::exercise {

Value rotate_pairs([[maybe_unused]] Builder& b, const Value& x, [[maybe_unused]] double base) {
  return x;  // Your part.
}

}  // namespace vitrine::exercise
