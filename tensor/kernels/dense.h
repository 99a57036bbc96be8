// Kernels of training: attention over long sequences and its gradient, the loss with its gradients,
// the optimiser, dropout.
#pragma once

#include <cstdint>

#include "tensor/kernels/kernels.h"

namespace vitrine::kernels {

// ---- attention --------------------------------------------------------------------------------
// Whether the blocked form is worth it: by shape alone.
bool attention_is_dense(const View& q, const Tables& t);
// The same as `attention`, by blocks of query rows.
void attention_dense(ThreadPool& pool, const View& q, const View& k, const View& v, const Tables& t,
                     const AttendRule& rule, const View& out);

// The gradients of attention, for as many key rows as query rows and one width: q, dz [rows, head,
// e] and k, v [rows, key head, e] -> out [group + 2, rows, key head, e], which holds dq (as [rows,
// head, e]), dk and dv, one after the other. No [query, key] matrix is stored.
void attention_grad(ThreadPool& pool, const View& q, const View& k, const View& v, const View& dz,
                    const Tables& t, const AttendRule& rule, const View& out);

// ---- loss -------------------------------------------------------------------------------------
// loss[i] = log sum exp(x[i] . w) - x[i] . w[target[i]] for x [n, d], w [vocabulary, d], target [n]
// (i32 or i64): the logits live a chunk of rows at a time. Throws GraphError for a target out of
// range.
struct LinearCrossEntropyCall {
  const View &x, &w, &target;
  const View& loss;  // [n], contiguous
  // With gradients: dx [n, d] and dw [vocabulary, d] of sum_i dloss[i] loss[i], from the same
  // logits. Null: the loss alone.
  const View *dloss = nullptr, *dx = nullptr, *dw = nullptr;
  std::byte* scratch = nullptr;  // for a chunk of logits; null: allocated by the call
};
std::int64_t linear_cross_entropy_scratch(std::int64_t n, std::int64_t vocabulary, DType dtype);
void linear_cross_entropy(ThreadPool& pool, const LinearCrossEntropyCall& c);

// ---- optimiser --------------------------------------------------------------------------------
// The sum of squares of all elements, accumulated in f64, into out (one element).
void sum_squares(ThreadPool& pool, const View& x, const View& out);

// AdamW (Loshchilov & Hutter 2019), one step, as PyTorch computes it. state and out [3, n]:
// weights, first and second moments; gradient n elements, times clip (one element); settings (f64):
// learning rate, 1 - beta1^t, 1 - beta2^t. A clip of NaN means no step: out = state. out may be
// state.
struct AdamRule {
  double beta1, beta2, eps, decay;
};
void adamw(ThreadPool& pool, const View& state, const View& gradient, const View& clip,
           const View& settings, const AdamRule& rule, const View& out);

// out = table, then out[index[i]] = x[i]. out may be table: then only the named rows are touched.
void write_rows(ThreadPool& pool, const View& table, const View& x, const View& index,
                const View& out);

// ---- dropout ----------------------------------------------------------------------------------
// out[i] = x[i] / (1 - rate) or 0, x and out f32 or f64, key (i64) a seed and a step. With
// stream = random::Key{seed}.fold(step).fold(rule.stream), element i is kept when word i % 4 of
// random::philox(stream, i / 4) is at least rate * 2^32 (rounded, at most
// 2^32 - 1). out may be x.
struct DropRule {
  double rate;
  std::int64_t stream;
};
void dropout(ThreadPool& pool, const View& x, const View& key, const DropRule& rule,
             const View& out);

}  // namespace vitrine::kernels
