// Exercise 4: which head wrote the answer?
//
// Lesson 4 found that attention 1 pushes " Austin" over " Sacramento" by 7.28. It has four heads. Each writes z W_O into the
// stream, z [64] being the mean of its values (lesson 3) and W_O [64, 256] its own matrix. How far does each head push?
//
// The head's part in the difference of the two logits: what it writes, without its mean, divided by the last norm's scale, times the gain
// of that norm, entry by entry; then the dot product with (austin - sacramento), the difference of the two tokens' columns.
//
//   bash apps/lessons/run.sh exercise 4
#include "apps/lessons/exercises/04_heads_of_a_layer.h"

#include <cstddef>
#include <vector>

namespace vitrine::exercise {

double push_of_head([[maybe_unused]] const Vector& z,
                    [[maybe_unused]] const std::vector<Vector>& w_o, [[maybe_unused]] double scale,
                    [[maybe_unused]] const Vector& gain, [[maybe_unused]] const Vector& austin,
                    [[maybe_unused]] const Vector& sacramento) {
  return 0;  // Your part.
}

}  // namespace vitrine::exercise
