// Fill in both functions. Then: bash apps/lessons/run.sh exercise 8
//
// The check asks the model itself: it changes each place in turn and looks which states move, and takes the
// gradient of a logit to see which places it depends on.
//
// Hints. Attention is the only part that reads other positions, and it looks at a token's own position and those
// before it. Everything else works on each position alone. For is_read: what reads the state behind the last layer?
#include "apps/lessons/exercises/08_cones.h"

namespace vitrine::lesson {

bool reaches(const Place& edited, const Place& place) {
  return edited.layer == place.layer &&
         edited.pos == place.pos;  // the edited place alone: not all of it
}

bool is_read(const Place& place, int layers, int last) {
  return place.layer < layers && place.pos <= last;  // everything: too much
}

}  // namespace vitrine::lesson
