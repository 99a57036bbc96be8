// Matrix products over OpenBLAS, cut into tiles by shape alone: each tile is one single-threaded
// BLAS call, so the bits do not depend on the number of threads.
#pragma once

#include <string>

#include "tensor/tensor.h"
#include "tensor/thread_pool.h"

namespace vitrine {

// out[..., i, j] = sum_k a[..., i, k] b[..., k, j], f32 or f64. Batch axes of a and b already have
// out's shape (stride 0 where broadcast). a and b may have any strides (one that BLAS cannot read
// is copied first); out is contiguous. Sizes of 0 are fine: k == 0 gives zeros.
void matmul(ThreadPool& pool, const View& a, const View& b, const View& out);

// out += a b.
void matmul_add(ThreadPool& pool, const View& a, const View& b, const View& out);

// Which BLAS answers, for `vitrine info` and bug reports: "OpenBLAS 0.3.21 SkylakeX".
std::string blas_description();

}  // namespace vitrine
