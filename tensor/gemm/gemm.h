// Matrix multiplication (GEMM) of tensors, batched and with fused epilogues.
//
// The order of every sum is fixed by its length alone, so the bits depend neither on the number of
// threads nor on the other rows and columns of a large product; unless OpenBLAS multiplies, see
// gemm/provider.h.
//
// The right side may be stored in fewer bits than f32 (f16, bf16, GGUF's blocks): it is widened
// while it is read, by blocks that stay in the caches or in registers, and the product has the bits
// that it would have with all of it widened first. See reads_stored.
#pragma once

#include <cstdint>
#include <optional>

#include "tensor/gemm/provider.h"
#include "tensor/simd/functions.h"
#include "tensor/tensor.h"
#include "tensor/thread_pool.h"

namespace vitrine {

// Whether products read a right side [..., k, n] of this stored type and layout where it is: rows
// or columns lie together, and where there are blocks, these are whole groups of 32 elements.
// Blocks along k (a weight [n, k], transposed) are read by the loops of few rows; those along n, as
// in the gradient of such a product, are widened a tile at a time. Others are widened in full
// first, for the time of the product.
bool reads_stored(DType dtype, const Shape& shape, const Strides& strides);

// out[..., i, j] = sum_k a[..., i, k] b[..., k, j], f32 or f64; b may be stored where out is f32.
// Batch axes of a and b already have out's shape (stride 0 where broadcast). a and b may have any
// strides; out is contiguous. Sizes of 0 are fine: k == 0 gives zeros.
void matmul(ThreadPool& pool, const View& a, const View& b, const View& out,
            GemmProvider provider = gemm_provider());

// out += a b.
void matmul_add(ThreadPool& pool, const View& a, const View& b, const View& out,
                GemmProvider provider = gemm_provider());

// out = then(x w + bias) for x [m, k], w [k, n], bias [n], out [m, n]. Kernel fusion: the epilogue
// finishes each tile while it is in the caches.
void affine(ThreadPool& pool, const View& x, const View& w, const View& bias, const View& out,
            std::optional<kernels::Unary> then = {}, GemmProvider provider = gemm_provider());

// Returns the time that this thread has spent in the functions above, in nanoseconds since it
// began; `explain()` reports the difference of two readings.
std::int64_t matmul_nanoseconds();

}  // namespace vitrine
