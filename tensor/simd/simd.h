// Inner loops over contiguous spans, compiled for several CPU targets (Highway) and chosen once at
// run time.
//
// Each getter returns a table of function pointers for this CPU: fetch it at kernel entry, then
// call through it. T is float or double. Counts may be 0, pointers need no alignment, and `out` may
// equal an input unless said otherwise.
#pragma once

#include <cstddef>
#include <cstdint>

#include "tensor/dtype.h"
#include "tensor/simd/functions.h"

namespace vitrine::simd {

// simd/math.cpp
template <class T>
struct Elementwise {
  void (*unary)(kernels::Unary op, const T* x, T* out, std::int64_t n);
  void (*binary)(kernels::Binary op, const T* a, const T* b, T* out, std::int64_t n);
  void (*softcap)(const T* x, T cap, T* out, std::int64_t n);  // cap tanh(x / cap); -inf stays
};

// simd/rows.cpp: d is the length of a row. Sums accumulate in f64 whatever T is.
template <class T>
struct Rows {
  double (*sum)(const T* x, std::int64_t d);
  T (*max)(const T* x, std::int64_t d);  // -inf for nothing, NaN if there is one
  // acc[i] += x[i], and acc[i] = max(acc[i], x[i]) with NaN kept.
  void (*add_to)(const T* x, double* acc, std::int64_t d);
  void (*max_to)(const T* x, double* acc, std::int64_t d);
  void (*add)(const T* x, T* out, std::int64_t d);  // out[i] += x[i]
  void (*scale)(T* x, T factor, std::int64_t d);    // x *= factor
  void (*softmax)(const T* x, T* out, std::int64_t d);
  void (*log_softmax)(const T* x, T* out, std::int64_t d);
  void (*softmax_grad)(const T* y, const T* dy, T* dx, std::int64_t d);
  void (*layer_norm)(const T* x, const T* gain, const T* bias, double eps, T* out, std::int64_t d);
  void (*layer_norm_grad)(const T* x, const T* gain, const T* dy, double eps, T* dx,
                          std::int64_t d);
  // acc[i] += dy[i] * (normalised x)[i]
  void (*layer_norm_gain_grad)(const T* x, const T* dy, double eps, double* acc, std::int64_t d);
  // The same of RMSNorm.
  void (*rms_norm)(const T* x, const T* gain, double eps, T* out, std::int64_t d);
  void (*rms_norm_grad)(const T* x, const T* gain, const T* dy, double eps, T* dx, std::int64_t d);
  void (*rms_norm_gain_grad)(const T* x, const T* dy, double eps, double* acc, std::int64_t d);
};

// simd/attention.cpp: one query row (of one head) against `count` rows of a table. Row i of
// the table starts at table + rows[i] * stride and has e entries.
template <class T>
struct Attention {
  // out[i] = scale * q . table[rows[i]]
  void (*scores)(const T* q, const T* table, std::int64_t stride, const std::int32_t* rows,
                 std::int64_t count, std::int64_t e, T scale, T* out);
  // out = sum_i p[i] * table[rows[i]]
  void (*mix)(const T* p, const T* table, std::int64_t stride, const std::int32_t* rows,
              std::int64_t count, std::int64_t e, T* out);
  // out += the same, bit for bit as if these rows had followed those of an earlier call.
  void (*mix_more)(const T* p, const T* table, std::int64_t stride, const std::int32_t* rows,
                   std::int64_t count, std::int64_t e, T* out);
  // table[rows[i]] += p[i] * x, in the order of i.
  void (*spread)(const T* p, const T* x, const std::int32_t* rows, std::int64_t count,
                 std::int64_t e, T* table, std::int64_t stride);
  // (a, b) = x[0, n), x[n, 2n) turned: out = (a cos - b sin, b cos + a sin); out may be x.
  void (*rotate)(const T* x, const T* cosine, const T* sine, T* out, std::int64_t n);
};

// simd/skinny.cpp: out [m, n] = a [m, k] b for few rows m and many columns n, b read in
// place; lda, ldb, ldo are row strides. Above so many rows, packing b first is faster (measured).
template <class T>
struct Skinny {
  std::int64_t most_rows, most_rows_transposed, most_rows_dots;
  // b [k, n], row i at b + i * ldb
  void (*side_by_side)(const T* a, std::int64_t lda, std::int64_t m, const T* b, std::int64_t ldb,
                       std::int64_t k, std::int64_t n, T* out, std::int64_t ldo);
  // b transposed: column j at b + j * ldb; up to most_rows_dots rows
  void (*dots)(const T* a, std::int64_t lda, std::int64_t m, const T* b, std::int64_t ldb,
               std::int64_t k, std::int64_t n, T* out, std::int64_t ldo);
  // b transposed, more rows: of a that `turn` has turned, to turned_size(m, k) elements.
  std::int64_t (*turned_size)(std::int64_t m, std::int64_t k);
  void (*turn)(const T* a, std::int64_t lda, std::int64_t m, std::int64_t k, T* turned);
  void (*spread)(const T* turned, std::int64_t m, const T* b, std::int64_t ldb, std::int64_t k,
                 std::int64_t n, T* out, std::int64_t ldo);
};

inline constexpr std::int64_t kLongestFewRows = 8192;  // k; longer sums lose digits in one chain

// simd/stored.cpp: the same loops for an f32 a and a b that is stored as `dtype`, f16, bf16 or
// blocks along k; f32 computes, and sums have the order, so the bits, that they have over the
// widened b. b's first element is element `first` of `b`, where a block may begin earlier; strides
// are in elements. Where blocks are stored, `first`, ldb, k and counts are multiples of 32.
struct Stored {
  // b [k, n], f16 or bf16
  void (*side_by_side)(DType dtype, const float* a, std::int64_t lda, std::int64_t m,
                       const std::byte* b, std::int64_t first, std::int64_t ldb, std::int64_t k,
                       std::int64_t n, float* out, std::int64_t ldo);
  // b transposed: column j begins at element first + j * ldb; k is at most kLongestFewRows
  void (*dots)(DType dtype, const float* a, std::int64_t lda, std::int64_t m, const std::byte* b,
               std::int64_t first, std::int64_t ldb, std::int64_t k, std::int64_t n, float* out,
               std::int64_t ldo);
  void (*spread)(DType dtype, const float* turned, std::int64_t m, const std::byte* b,
                 std::int64_t first, std::int64_t ldb, std::int64_t k, std::int64_t n, float* out,
                 std::int64_t ldo);
  // to[i] = element first + i, widened, for i < n
  void (*widen)(DType dtype, const std::byte* from, std::int64_t first, std::int64_t n, float* to);
};

// simd/gemm.cpp: the product of two packed matrices. `rows` rows of a, or `columns` columns
// of b, make a panel, in which they lie side by side for each index of k: what the innermost loop
// reads is contiguous. The last panel is filled up with zeros.
template <class T>
struct Gemm {
  std::int64_t rows, columns;
  // x [n, k], n counted in rows of a or columns of b; strides in elements, any. `to` has room for
  // packed_rows(n) * k or packed_columns(n) * k elements; panel p begins at p * rows * k.
  void (*pack_a)(const T* x, std::int64_t n_stride, std::int64_t k_stride, std::int64_t n,
                 std::int64_t k, T* to);
  void (*pack_b)(const T* x, std::int64_t n_stride, std::int64_t k_stride, std::int64_t n,
                 std::int64_t k, T* to);
  // out [m, n] = a b, or += with `add`. b was packed with this k, a with ka >= k: index i of a is
  // at a + i * rows.
  void (*multiply)(const T* a, std::int64_t ka, const T* b, std::int64_t m, std::int64_t n,
                   std::int64_t k, bool add, T* out, std::int64_t ldo);
  std::int64_t packed_rows(std::int64_t n) const { return (n + rows - 1) / rows * rows; }
  std::int64_t packed_columns(std::int64_t n) const {
    return (n + columns - 1) / columns * columns;
  }
};

// simd/training.cpp
struct AdamWStep {  // see kernels::adamw; everything that is the same for all weights
  double gradient_scale, beta1, beta2, keep, step, root, eps;
};
struct DropStep {  // see kernels::dropout
  std::uint64_t key;
  std::uint32_t below;  // a word of the key's Philox stream that is less than this drops
  double scale;         // of what is kept
};
template <class T>
struct Training {
  // n weights w with moments m and v and gradients g: the next ones to w2, m2, v2, which may be the
  // old ones.
  void (*adamw)(const AdamWStep& rule, const T* w, const T* m, const T* v, const T* g, T* w2, T* m2,
                T* v2, std::int64_t n);
  double (*sum_squares)(const T* x, std::int64_t n);
  // n elements of which the first belongs to word 0 of Philox block `block`; y may be x.
  void (*dropout)(const DropStep& step, std::uint64_t block, const T* x, T* y, std::int64_t n);
};

// simd/sparse.cpp: the entries of a row that are large enough.
template <class T>
struct Sparse {
  // Appends the entries i in [0, n) with score h[i] * scale[i] > max(bar[i], least): their scores,
  // and first + i. Returns how many. Up to n entries and kPadding more may be written.
  std::int64_t (*above)(const T* h, const T* scale, const T* bar, T least, std::int32_t first,
                        std::int64_t n, T* scores, std::int32_t* index);
  static constexpr std::int64_t kPadding = 64;
};

// simd/peak.cpp: loops that show what this CPU can do at most.
struct PeakLoops {
  const char* target;            // Highway's name of the instructions in use: "AVX3_DL"
  std::int64_t flops_per_round;  // a multiply-add counts as two
  // `rounds` of independent multiply-adds in registers; factor lies in (0, 1). The result only
  // keeps them from being optimised away.
  float (*multiply_adds)(std::int64_t rounds, float factor);
  float (*read)(const float* x, std::int64_t n);  // the sum, in no useful order
};

// kernels/scalar.cpp: what has no SIMD loop (sin, cos; in f64 also exp, log, tanh, erf and the
// functions built on them), by the C library.
void scalar_unary(kernels::Unary op, const float* x, float* out, std::int64_t n);
void scalar_unary(kernels::Unary op, const double* x, double* out, std::int64_t n);
void scalar_softcap(const double* x, double cap, double* out, std::int64_t n);

template <class T>
const Elementwise<T>& elementwise();
template <class T>
const Rows<T>& rows();
template <class T>
const Attention<T>& attention();
template <class T>
const Skinny<T>& skinny();
const Stored& stored();
template <class T>
const Gemm<T>& gemm();
template <class T>
const Training<T>& training();
template <class T>
const Sparse<T>& sparse();
const PeakLoops& peak();

}  // namespace vitrine::simd
