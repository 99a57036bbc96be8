// Kernels of sparse codes: which features of each sample are active, and products with these alone.
//
// The active features of n samples are a table i32 [n, capacity]: for each sample their numbers in
// increasing order, then -1. Values that belong to them are [n, capacity], in the same places.
#pragma once

#include <cstdint>

#include "tensor/kernels/kernels.h"

namespace vitrine::kernels {

// Feature j of sample i is active when its score h[i, j] * scale[j] is above bar[j] and among the
// `most` largest, or any number if that is negative: of its sample, or with `whole_batch` of
// most * samples (rounded down) of all. Of equal scores the first ones are taken, by sample and
// feature. No sample gets more than `capacity`; those that have more keep the largest, and fill
// their row of the table. In addition, for each sample the `dead_capacity` largest scores of those
// features that are dead, of any sign.
struct ActiveRule {
  double most = -1;
  bool whole_batch = false;
  std::int64_t capacity = 1, dead_capacity = 0;
};
// h [n, features], scale and bar [features], dead [features] boolean, out i32 [n, capacity +
// dead_capacity], contiguous.
struct ActiveCall {
  const View &scale, &bar, &dead;
  ActiveRule rule;
  const View& out;
};
void active_features(ThreadPool& pool, const View& h, const ActiveCall& c);

// out (boolean): the k largest entries along the last axis, of equal ones the first.
void top_mask(ThreadPool& pool, const View& x, std::int64_t k, const View& out);

// The same of h = x w^T + bias, x [n, d], w [features, d], of which a chunk of samples is held at a
// time, in scratch (null: allocated by the call).
void linear_active(ThreadPool& pool, const View& x, const View& w, const View& bias,
                   const ActiveCall& c, std::byte* scratch);
std::int64_t linear_active_scratch(std::int64_t n, std::int64_t features, DType dtype);

// out[i, c] = x[i] . w[index[i, c]], 0 where there is none. x [n, d], w [features, d], index [n,
// capacity], out [n, capacity].
void sparse_linear(ThreadPool& pool, const View& x, const View& w, const View& index,
                   const View& out);
// out[i] = sum_c z[i, c] w[index[i, c]]: [n, d].
void sparse_mix(ThreadPool& pool, const View& z, const View& w, const View& index, const View& out);
// out[j] = sum over (i, c) with index[i, c] == j, in the order of i, of z[i, c] x[i]: [features,
// d].
void sparse_outer(ThreadPool& pool, const View& z, const View& x, const View& index,
                  const View& out);

}  // namespace vitrine::kernels
