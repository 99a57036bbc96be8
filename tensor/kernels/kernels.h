// The arithmetic: one function per kernel, over views, for f32 and f64 alike unless said otherwise.
//
// Contract of every kernel:
// - Inputs may have any strides, 0 included (broadcast axes). Outputs are contiguous and never
//   overlap an input, except that elementwise kernels may write over a contiguous input of the
//   same shape and dtype.
// - Elementwise inputs already have the output's shape: callers broadcast by stride 0.
// - The caller has checked shapes, dtypes and axes (the shape rules of autograd/); kernels trust
//   them.
// - Work is cut by shape alone, so the bits do not depend on the number of threads. Empty tensors
//   are fine.
// - Sums of f32 values that end in one scalar per tensor accumulate in f64 (see Reduce).
//
// The inner loops are Highway code (simd/), compiled for every CPU target and chosen at run time.
#pragma once

#include <cstdint>
#include <span>

#include "tensor/simd/functions.h"
#include "tensor/tensor.h"
#include "tensor/thread_pool.h"

namespace vitrine::kernels {

// ---- elementwise ------------------------------------------------------------------------------
void unary(ThreadPool& pool, Unary op, const View& x, const View& out);

// cap tanh(x / cap) for a cap above 0. -inf, which stands for a key that is not seen, stays.
void softcap(ThreadPool& pool, double cap, const View& x, const View& out);

void binary(ThreadPool& pool, Binary op, const View& a, const View& b, const View& out);

// out is boolean; a and b share a dtype among f32, f64, i32, i64 (and boolean for `equal`).
enum class Compare { equal, less, less_equal };
void compare(ThreadPool& pool, Compare op, const View& a, const View& b, const View& out);

// boolean -> boolean
enum class Logic { and_, or_, not_ };  // not_ ignores b
void logic(ThreadPool& pool, Logic op, const View& a, const View& b, const View& out);

// out = mask ? a : b, for any dtype. An unselected NaN or infinity does not leak.
void select(ThreadPool& pool, const View& mask, const View& a, const View& b, const View& out);

// Copies with conversion between any two dtypes. To integer truncates; to boolean is x != 0.
void copy(ThreadPool& pool, const View& x, const View& out);

void fill(ThreadPool& pool, double value, const View& out);  // any dtype

// ---- reductions -------------------------------------------------------------------------------
// `axes` lists the reduced axes (normalised, ascending); out has size 1 along them. Sums accumulate
// in f64 throughout, whatever the dtype. The max of nothing is -inf, the sum of nothing is 0. NaN
// propagates through max.
enum class Reduce { sum, max };
void reduce(ThreadPool& pool, Reduce op, const View& x, const Dims& axes, const View& out);

// out[..., 0] (i64, last axis of size 1): the index of the largest entry along the last axis, the
// first on a tie.
void argmax(ThreadPool& pool, const View& x, const View& out);

// ---- rows: along the last axis ----------------------------------------------------------------
// exp(x - max) / sum. -inf entries give exactly 0; a row of only -inf gives zeros, not NaN.
void softmax(ThreadPool& pool, const View& x, const View& out);
// x - max - log(sum exp(x - max)); a row of only -inf stays -inf.
void log_softmax(ThreadPool& pool, const View& x, const View& out);
// dx = y * (dy - sum(y * dy)) where y = softmax(x).
void softmax_grad(ThreadPool& pool, const View& y, const View& dy, const View& dx);

// y = (x - mean) / sqrt(var + eps) * gain + bias, var with 1/n; mean and variance in two passes,
// accumulated in f64. x, out [..., d]; gain, bias [d].
void layer_norm(ThreadPool& pool, const View& x, const View& gain, const View& bias, double eps,
                const View& out);
// dx [..., d] of the same, given dy [..., d].
void layer_norm_grad(ThreadPool& pool, const View& x, const View& gain, const View& dy, double eps,
                     const View& dx);
// dgain [d] = sum over rows of dy * normalised x, in f64.
void layer_norm_gain_grad(ThreadPool& pool, const View& x, const View& dy, double eps,
                          const View& dgain);

// y = x / s * gain with s = sqrt(mean x^2 + eps), accumulated in f64; x, out [..., d], gain [d].
void rms_norm(ThreadPool& pool, const View& x, const View& gain, double eps, const View& out);
// dx [..., d] of the same: (g - x mean(g x) / s^2) / s, where g = dy * gain.
void rms_norm_grad(ThreadPool& pool, const View& x, const View& gain, const View& dy, double eps,
                   const View& dx);
// dgain [d] = sum over rows of dy * x / s, in f64.
void rms_norm_gain_grad(ThreadPool& pool, const View& x, const View& dy, double eps,
                        const View& dgain);

// ---- gather and scatter -----------------------------------------------------------------------
// Indices are i32 or i64. Out-of-range ones throw GraphError naming the position, the index and the
// size; -1 is only allowed where said.
//
// out[i..., :] = table[index[i...], :]
// table [n, rest...], index any shape, out index.shape + rest. -1 gives zeros.
// A table that is stored (f16, bf16, blocks) may be read into an f32 `out`, row by row, where
// gathers_stored.
void gather_rows(ThreadPool& pool, const View& table, const View& index, const View& out);
bool gathers_stored(DType stored, const Layout& table);  // each row is contiguous, in whole groups
// The same from several tables, whose rows are counted one after the other.
void gather_rows_from(ThreadPool& pool, std::span<const View> tables, const View& index,
                      const View& out);
// out = 0; out[index[i...], :] += x[i..., :]
// The transpose of gather_rows, in a fixed order. -1 is skipped.
void scatter_add_rows(ThreadPool& pool, const View& x, const View& index, const View& out);
// out[i...] = x[i..., index[i...]]
// Picks one entry of the last axis: index.shape == out.shape == x.shape[:-1].
void pick(ThreadPool& pool, const View& x, const View& index, const View& out);
// out = 0; out[i..., index[i...]] = x[i...]
// The transpose of pick.
void unpick(ThreadPool& pool, const View& x, const View& index, const View& out);

// ---- attention over row tables ----------------------------------------------------------------
// Tables (all i32):
// - sequence[r]: the sequence of query row r
// - position[r]: its position there
// - keys[s, c]: the key row that holds position c of sequence s, or -1 where there is none
// Shapes: q [rows, head, e]; k, v [key rows, key head, e or f]. Heads may come in groups that share
// a key head (grouped-query attention, Ainslie et al. 2023): head h reads key head h / group, where
// group = heads / key heads, a whole number.
struct Tables {
  View sequence, position, keys;
};
// What attention does to scores. Row r sees key position c when c <= position[r] + offset and, with
// a window, position[r] - c < window.
struct AttendRule {
  double scale = 1;
  std::int64_t offset = 0;
  std::int64_t window = 0;  // 0: none
  double softcap = 0;       // 0: none; else scores become softcap tanh(score / softcap)
};
// Throws GraphError, naming the row, for a sequence or a key row that does not exist. All of these
// functions call it.
void check_tables(const Tables& t, std::int64_t key_rows);
// out[r, h, c] = scale * sum_e q[r, h, e] k[keys[sequence[r], c], h / group, e]
// -inf where there is no key.
void attention_scores(ThreadPool& pool, const View& q, const View& k, const Tables& t, double scale,
                      const View& out);
// out[r, h, c] = the same without -inf: 0 where there is no key (used by gradients).
void attention_outer(ThreadPool& pool, const View& q, const View& k, const Tables& t,
                     const View& out);
// out[r, h, :] = sum_c p[r, h, c] v[keys[sequence[r], c], h / group, :]; entries without a key, and
// weights of exactly 0, are skipped: a NaN in a masked v does not leak, as in `attention`.
void attention_mix(ThreadPool& pool, const View& p, const View& v, const Tables& t,
                   const View& out);
// out[j, g, :] = sum over the heads h of group g and over (r, c) with keys[sequence[r], c] == j of
// p[r, h, c] x[r, h, :]. The transpose of mix in v; out says how many groups there are.
void attention_mix_transposed(ThreadPool& pool, const View& p, const View& x, const Tables& t,
                              const View& out);
// z = mix(softmax(causal(scores(q, k))))
// Fused attention: nothing of size [query, key] is stored. A row that sees nothing gives zeros.
void attention(ThreadPool& pool, const View& q, const View& k, const View& v, const Tables& t,
               const AttendRule& rule, const View& out);

// Rotary position embedding (Su et al. 2021) of x [rows, head, e]: the pairs (i, n/2 + i) of the
// first n = 2 * inverse.size() entries of each head are turned by position[row] * inverse[i] radians
// and multiplied by scale; entries from n on pass. position i32 [rows]. Angles are f64; their cosine
// and sine are rounded to x's type. out may be x.
void rotary(ThreadPool& pool, const View& x, const View& position, std::span<const double> inverse,
            double scale, const View& out);

}  // namespace vitrine::kernels
