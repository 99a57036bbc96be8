// The steps of the tour, in the order in which they are told. Each computes what it claims; none knows beforehand whether
// that holds.
#pragma once

#include "apps/tour/guide.h"

namespace vitrine::app {

// ---- how the fact is completed (prediction_steps.cpp)
TourStep completes_a_fact(Guide& guide);
TourStep layer_by_layer(Guide& guide);  // logit lens
TourStep who_wrote_it(Guide& guide);    // direct logit attribution
// ---- what single directions mean (meaning_steps.cpp)
TourStep neurons_mean_many_things(Guide& guide);
TourStep features_are_cleaner(Guide& guide);
// ---- where information moves (moving_steps.cpp)
TourStep the_subject_moves(Guide& guide);  // activation patching
TourStep features_cause_features(Guide& guide);
TourStep heads_compose(Guide& guide);  // induction
// ---- circuits, and what breaks (breaking_steps.cpp)
TourStep one_circuit_many_phrasings(Guide& guide);
TourStep what_breaks(Guide& guide);
TourStep steering(Guide& guide);
TourStep the_mask_is_right(Guide& guide);

}  // namespace vitrine::app
