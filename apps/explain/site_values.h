// What a site holds on a prompt, in a few numbers.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <vector>

#include "apps/terminal/output.h"
#include "tensor/tensor.h"

namespace vitrine::app {

// Of a value as it is fetched, with its axes (fetched_axes), or of one head of it: {least, most, mean, deviation, length,
// zeros, hidden, largest: {value, AXIS: i, ...}}. `length` is the mean Euclidean length of the vectors along the last axis,
// `deviation` the standard deviation of all numbers, `zeros` the share that is exactly 0, `hidden` how many are -inf, which
// count in nothing else; `largest` is the number of largest absolute value. Null numbers where nothing else is there.
Json spread_of(const Tensor& value, std::span<const std::string> axes, std::optional<int> head);

// The same of each position (queries, of patterns), in order.
Json spread_by_position(const Tensor& value, std::span<const std::string> axes,
                        std::optional<int> head);

}  // namespace vitrine::app
