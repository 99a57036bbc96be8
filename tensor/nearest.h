// "Did you mean ...": the known names that are most like one that is not known.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace vitrine {

// Up to `count` of `names`, the most similar first; on a tie the earlier one. Names that have
// little in common with `wanted` are left out, so the result may be empty.
//
// Names are compared word by word (blocks . 5 . attn . hook_pattern has the words blocks, 5, attn,
// hook, pattern): a missing or additional word costs little, a letter more or less costs one, upper
// and lower case are alike, and of two wrong numbers the closer one is nearer.
std::vector<std::string> nearest(std::string_view wanted, std::span<const std::string> names,
                                 int count = 3);

// " (did you mean a, b or c?)", or "" when there are none: ready to be put behind a message.
//   did_you_mean(nearest(wanted, names));
std::string did_you_mean(std::span<const std::string> near);

}  // namespace vitrine
