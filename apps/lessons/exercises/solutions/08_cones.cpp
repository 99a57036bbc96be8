// Our solution.
#include "apps/lessons/exercises/08_cones.h"

namespace vitrine::lesson {

// In its own layer an edit comes after attention has looked: it changes this one state. In later layers its
// position, and through attention all positions after it.
bool reaches(const Place& edited, const Place& place) {
  if (place.layer == edited.layer) return place.pos == edited.pos;
  return place.layer > edited.layer && place.pos >= edited.pos;
}

// Attention of a later layer may look at any position up to the last. Behind the last layer no attention is left: the
// logits are made of the last state alone.
bool is_read(const Place& place, int layers, int last) {
  if (place.layer == layers - 1) return place.pos == last;
  return place.pos <= last;
}

}  // namespace vitrine::lesson
