// Serialises interventions as JSON, so that an experiment can be kept beside its result and
// repeated.
//
//   {"version": 1, "stages": [[
//     {"site": "blocks.2.hook_resid_post", "action": "replace", "where": [{"pos": [4]}],
//      "value": {"dtype": "f32", "shape": [2], "data": [0.5, -1.0]},
//      "origin": "given", "from": "clean"},
//     {"site": "blocks.3.attn.hook_z", "action": "scale", "factor": 0.5}]]}
//
// Stages follow one another (Interventions::then). Numbers come back with the same bits;
// the strings "inf", "-inf" and "nan" stand for the numbers that JSON does not have.
#pragma once

#include <string>
#include <string_view>

#include "autograd/transform/intervention.h"

namespace vitrine {

// Throws GraphError for an edit without the value that its action needs, and for text that is not
// UTF-8.
std::string to_json(const Interventions& what);

// Throws FileError, naming the place ("stages[0][1].where[0].pos"), for what is not valid JSON, is
// missing, occurs twice, is of the wrong type, is not known, or does not belong to the action.
Interventions interventions_from_json(std::string_view text);

}  // namespace vitrine
