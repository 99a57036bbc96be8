// Kernels of matching pursuit: codes that are found greedily, one feature after the other.
//
// What is picked for n samples is a table i32 [n, steps]: for each sample the features in the order
// in which they were picked, then -1. A feature may be there twice.
#pragma once

#include "tensor/kernels/kernels.h"

namespace vitrine::kernels {

// When a sample is finished, beside having no feature with a product above 0 left.
struct PursuitLimits {
  double threshold = 0;         // once the norm of its residual is below; 0 or less: never
  bool stop_at_repeat = false;  // once a feature has been picked again, which still counts
};

// r = x[i]; at each step, as many as out has columns: j = the feature with the largest r . w[j], of
// equal ones the first, and r -= (r . w[j]) w[j]. x [n, d], w [features, d], out i32 [n, steps].
// scratch: null, or matching_pursuit_scratch bytes.
void matching_pursuit(ThreadPool& pool, const View& x, const View& w, const PursuitLimits& limits,
                      const View& out, std::byte* scratch);
std::int64_t matching_pursuit_scratch(std::int64_t n, std::int64_t d, std::int64_t features,
                                      DType dtype);

// out[i] = (1 + L)^-1 b[i], L the part of l[i] below its diagonal; or, transposed, (1 + L^T)^-1
// b[i]. l [n, m, m], b and out [n, m].
void solve_unit_lower(ThreadPool& pool, const View& l, const View& b, bool transposed,
                      const View& out);

// out[i, j] = the sum of z[i, c] over the places with index[i, c] == j: [n, features].
void sparse_to_dense(ThreadPool& pool, const View& z, const View& index, const View& out);
// out[i, c] = y[i, index[i, c]], 0 where there is none. y [n, features].
void sparse_pick(ThreadPool& pool, const View& y, const View& index, const View& out);

}  // namespace vitrine::kernels
