// Exercise of lesson 8: which places of a model can an edit change, and which does an answer depend on?
#pragma once

namespace vitrine::lesson {

// The state of the token at position `pos` behind `layer` (hook_resid_post), both counted from 0.
struct Place {
  int layer, pos;
};

// Whether an edit of the state at `edited` can change the state at `place`. The edited place itself counts.
bool reaches(const Place& edited, const Place& place);

// Whether the logits behind the last of `layers` layers, at position `last`, depend on the state at `place`.
bool is_read(const Place& place, int layers, int last);

}  // namespace vitrine::lesson
