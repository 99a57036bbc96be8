// Values that runs with cut edges share: differences, points between two runs, what cuts are fed.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "interp/circuits/edge_mask.h"

namespace vitrine::interp {

Tensor difference(const Tensor& a, const Tensor& b);  // a - b

// weights[p] of the way from b to a, for each of a's rows, point after point.
Tensor on_the_way(const Tensor& a, const Tensor& b, std::span<const double> weights);

// edges.cut [runs, receivers, senders]: 1 for what is cut in the run.
Tensor cut_feed(std::span<const EdgeMask> cuts, const EdgeGrid& grid, DType dtype);
// edges.row of so many runs of a prompt: 0 ... rows - 1, again and again.
Tensor rows_again(std::int64_t rows, std::int64_t times);

double mean_of(std::span<const double> x);  // 0 of nothing

}  // namespace vitrine::interp
