// The ops as functions of Values: the operator library in which models are written.
//
// Binary ops broadcast like NumPy. Shapes are given as [rows, d]; every function throws ShapeError
// when they do not fit, naming the op, the shapes and the caller's line.
#pragma once

#include <vector>

#include "autograd/graph/builder.h"

namespace vitrine {

// ---- elementwise ------------------------------------------------------------------------------
Value neg(const Value& x, SourceLine line = SourceLine::here());
Value abs(const Value& x, SourceLine line = SourceLine::here());
Value sign(const Value& x, SourceLine line = SourceLine::here());  // gradient 0
Value square(const Value& x, SourceLine line = SourceLine::here());
Value sqrt(const Value& x, SourceLine line = SourceLine::here());
Value rsqrt(const Value& x, SourceLine line = SourceLine::here());  // 1 / sqrt(x)
Value reciprocal(const Value& x, SourceLine line = SourceLine::here());
Value exp(const Value& x, SourceLine line = SourceLine::here());
Value log(const Value& x, SourceLine line = SourceLine::here());
Value sin(const Value& x, SourceLine line = SourceLine::here());
Value cos(const Value& x, SourceLine line = SourceLine::here());
Value tanh(const Value& x, SourceLine line = SourceLine::here());
Value erf(const Value& x, SourceLine line = SourceLine::here());
Value sigmoid(const Value& x, SourceLine line = SourceLine::here());
Value relu(const Value& x, SourceLine line = SourceLine::here());  // gradient 0 at 0
Value silu(const Value& x, SourceLine line = SourceLine::here());  // x sigmoid(x), or swish
Value gelu_tanh(
    const Value& x,
    SourceLine line = SourceLine::here());  // Hendrycks & Gimpel 2016, tanh form ("gelu_new")
Value gelu_erf(const Value& x, SourceLine line = SourceLine::here());  // exact form ("gelu")
// cap tanh(x / cap), for a cap above 0: nearly x where |x| is small, never beyond +-cap. -inf, which
// stands for a key that is not seen, stays.
Value softcap(const Value& x, double cap, SourceLine line = SourceLine::here());
Value gelu_tanh_slope(const Value& x, SourceLine line = SourceLine::here());  // d gelu_tanh / dx
Value gelu_erf_slope(const Value& x, SourceLine line = SourceLine::here());

Value add(const Value& a, const Value& b, SourceLine line = SourceLine::here());
Value sub(const Value& a, const Value& b, SourceLine line = SourceLine::here());
Value mul(const Value& a, const Value& b, SourceLine line = SourceLine::here());
Value div(const Value& a, const Value& b, SourceLine line = SourceLine::here());
Value maximum(const Value& a, const Value& b,
              SourceLine line = SourceLine::here());  // on a tie the gradient goes to a
Value minimum(const Value& a, const Value& b, SourceLine line = SourceLine::here());

Value operator+(At a, At b);
Value operator-(At a, At b);
Value operator*(At a, At b);
Value operator/(At a, At b);
Value operator-(At x);
Value operator+(At a, double b);
Value operator-(At a, double b);
Value operator*(At a, double b);
Value operator/(At a, double b);
Value operator+(double a, At b);
Value operator-(double a, At b);
Value operator*(double a, At b);
Value operator/(double a, At b);

// ---- truth: boolean values, no gradient -------------------------------------------------------
Value equal(const Value& a, const Value& b, SourceLine line = SourceLine::here());
Value less(const Value& a, const Value& b, SourceLine line = SourceLine::here());
Value less_equal(const Value& a, const Value& b, SourceLine line = SourceLine::here());
Value logical_and(const Value& a, const Value& b, SourceLine line = SourceLine::here());
Value logical_or(const Value& a, const Value& b, SourceLine line = SourceLine::here());
Value logical_not(const Value& a, SourceLine line = SourceLine::here());
// mask ? a : b. What is not selected does not leak, not even NaN, in value or gradient.
Value select(const Value& mask, const Value& a, const Value& b,
             SourceLine line = SourceLine::here());

// ---- shape ------------------------------------------------------------------------------------
Value reshape(const Value& x, const Shape& shape,
              SourceLine line = SourceLine::here());  // one axis may be -1
Value permute(const Value& x, const Dims& axes, SourceLine line = SourceLine::here());
Value transpose(const Value& x, SourceLine line = SourceLine::here());  // the last two axes
Value broadcast_to(const Value& x, const Shape& shape, SourceLine line = SourceLine::here());
Value slice(const Value& x, int axis, std::int64_t start, std::int64_t stop, std::int64_t step = 1,
            SourceLine line = SourceLine::here());
// The transpose of slice: zeros of `size` along axis, with x at start, start + step, ...
Value unslice(const Value& x, int axis, std::int64_t start, std::int64_t step, std::int64_t size,
              SourceLine line = SourceLine::here());
Value concat(const std::vector<Value>& parts, int axis, SourceLine line = SourceLine::here());
Value cast(const Value& x, DType dtype, SourceLine line = SourceLine::here());
// A stored weight (f16, bf16, quantised blocks) as f32, exactly; x itself where it computes already.
// Products and gathers of the result read the weight as it is stored (compile/stored.cpp); other
// readers make a plan widen it in full. No gradient flows into a stored weight.
Value widen(const Value& x, SourceLine line = SourceLine::here());
Value detach(const Value& x,
             SourceLine line = SourceLine::here());  // the value, without its gradient
Value identity(const Value& x, SourceLine line = SourceLine::here());
// x, seen as a value of its own: what is computed from it is computed again, even where the same
// is computed from x (see transform/recompute.h). Costs nothing itself.
Value again(const Value& x, SourceLine line = SourceLine::here());

// ---- reductions -------------------------------------------------------------------------------
Value sum(const Value& x, const Dims& axes, bool keepdims = false,
          SourceLine line = SourceLine::here());
Value sum(const Value& x, SourceLine line = SourceLine::here());  // of everything: a scalar
Value mean(const Value& x, const Dims& axes, bool keepdims = false,
           SourceLine line = SourceLine::here());
Value mean(const Value& x, SourceLine line = SourceLine::here());
Value max(const Value& x, const Dims& axes, bool keepdims = false,
          SourceLine line = SourceLine::here());
Value argmax(const Value& x,
             SourceLine line = SourceLine::here());  // along the last axis, i64, the first on a tie
Value sum_to(const Value& x, const Shape& shape,
             SourceLine line = SourceLine::here());  // the transpose of broadcasting

// ---- rows: along the last axis ----------------------------------------------------------------
Value softmax(const Value& x,
              SourceLine line = SourceLine::here());  // a row of only -inf gives zeros
Value log_softmax(const Value& x, SourceLine line = SourceLine::here());
Value softmax_grad(const Value& y, const Value& dy, SourceLine line = SourceLine::here());
// (x - mean) / sqrt(var + eps) * gain + bias over the last axis (Ba et al. 2016). With a prefix,
// the sites prefix.hook_scale [..., 1] and prefix.hook_normalized [..., d] lie inside.
Value layer_norm(const Value& x, const Value& gain, const Value& bias, double eps,
                 std::string_view prefix = "", SourceLine line = SourceLine::here());
Value layer_norm_grad(const Value& x, const Value& gain, const Value& dy, double eps,
                      SourceLine line = SourceLine::here());
Value layer_norm_gain_grad(const Value& x, const Value& dy, double eps,
                           SourceLine line = SourceLine::here());
// x / sqrt(mean x^2 + eps) * gain over the last axis (Zhang & Sennrich 2019): of rows [rows, d], or
// of the heads of rows [rows, head, e] with one gain [e] for all heads. With a prefix, the sites
// prefix.hook_scale [..., 1] and prefix.hook_normalized [..., d], before the gain, lie inside.
Value rms_norm(const Value& x, const Value& gain, double eps, std::string_view prefix = "",
               SourceLine line = SourceLine::here());
Value rms_norm_grad(const Value& x, const Value& gain, const Value& dy, double eps,
                    SourceLine line = SourceLine::here());
Value rms_norm_gain_grad(const Value& x, const Value& dy, double eps,
                         SourceLine line = SourceLine::here());
// -log softmax(logits)[target], in nats: logits [rows, vocabulary], targets [rows] (integers)
// -> [rows].
Value cross_entropy(const Value& logits, const Value& targets,
                    SourceLine line = SourceLine::here());

// ---- products ---------------------------------------------------------------------------------
// [..., m, k] x [..., k, n] -> [..., m, n]; leading axes broadcast.
Value matmul(const Value& a, const Value& b, SourceLine line = SourceLine::here());
// x w + bias: [..., in] x [in, out] + [out] -> [..., out].
Value linear(const Value& x, const Value& w, const Value& bias,
             SourceLine line = SourceLine::here());

// ---- gather and scatter -----------------------------------------------------------------------
// table [n, rest...], index (integers, any shape; -1 gives zeros) -> index.shape + rest.
Value gather_rows(const Value& table, const Value& index, SourceLine line = SourceLine::here());
// The same from several tables, whose rows are counted one after the other.
Value gather_rows_from(const std::vector<Value>& tables, const Value& index,
                       SourceLine line = SourceLine::here());
Value scatter_add_rows(const Value& x, const Value& index, std::int64_t rows,
                       SourceLine line = SourceLine::here());
// x [..., n], index [...] -> x[..., index[...]], shape [...].
Value pick(const Value& x, const Value& index, SourceLine line = SourceLine::here());
Value unpick(const Value& x, const Value& index, std::int64_t size,
             SourceLine line = SourceLine::here());

// ---- attention over row tables ----------------------------------------------------------------
// sequence [rows], position [rows], keys [sequences, key positions], all i32: see "Rows" in
// autograd/README.md.
struct RowValues {
  Value sequence, position, keys;
};
// Entries whose key index is beyond query index + offset become -inf; the rest stays. The second
// form reads the query's position from a table along query_axis. The third one, with a rule, has a
// window, too: entries whose key is `window` or more before the query become -inf; its position may
// be undefined.
Value mask(const Value& scores, int query_axis, int key_axis, std::int64_t offset = 0,
           SourceLine line = SourceLine::here());
Value mask(const Value& scores, const Value& position, int query_axis, int key_axis,
           std::int64_t offset = 0, SourceLine line = SourceLine::here());
Value mask(const Value& scores, const Value& position, const Visibility& rule,
           SourceLine line = SourceLine::here());
// Heads of queries may come in groups that share a key head (grouped-query attention, Ainslie et al.
// 2023): head h reads key head h / group, group = heads / key heads.
// q [rows, head, e], k [key rows, key head, e] -> [rows, head, key positions]; -inf where a sequence
// has no such position.
Value attention_scores(const Value& q, const Value& k, const RowValues& rows, double scale,
                       SourceLine line = SourceLine::here());
Value attention_outer(const Value& q, const Value& k, const RowValues& rows,
                      SourceLine line = SourceLine::here());
// p [rows, head, key positions], v [key rows, key head, e] -> [rows, head, e].
Value attention_mix(const Value& p, const Value& v, const RowValues& rows,
                    SourceLine line = SourceLine::here());
Value attention_mix_transposed(const Value& p, const Value& x, const RowValues& rows,
                               std::int64_t key_rows, SourceLine line = SourceLine::here());
// p [rows, head, key positions], x [rows, head, e] -> [key rows, head / group, e]: summed over the
// heads of each group.
Value attention_mix_transposed(const Value& p, const Value& x, const RowValues& rows,
                               std::int64_t key_rows, std::int64_t group,
                               SourceLine line = SourceLine::here());
struct AttentionOptions {
  double scale = 1;
  std::int64_t offset = 0;  // a query sees keys up to its own position + offset
  std::int64_t window = 0;  // and, unless 0, less than `window` positions before its own
  double softcap = 0;  // unless 0: scores become softcap tanh(score / softcap), then are masked
};
// softmax(mask(softcap(q k^T * scale))) v in one op (Vaswani et al. 2017): q [rows, head, e], k
// [key rows, key head, e], v [key rows, key head, f] -> [rows, head, f]. With a prefix, the sites
// prefix.hook_attn_scores (after softcap and mask: -inf where a key is not seen) and
// prefix.hook_pattern [rows, head, key positions] lie inside.
Value attention(const Value& q, const Value& k, const Value& v, const RowValues& rows,
                const AttentionOptions& options, std::string_view prefix = "",
                SourceLine line = SourceLine::here());
Value attention(const Value& q, const Value& k, const Value& v, const RowValues& rows, double scale,
                std::string_view prefix = "", std::int64_t offset = 0,
                SourceLine line = SourceLine::here());

// Rotary position embedding (Su et al. 2021) of x [rows, head, e] by position i32 [rows]: with n = 2
// * rule.inverse.size(), entries a = x[:n/2] and b = x[n/2:n] of each head become scale (a cos - b
// sin) and scale (b cos + a sin) of the angles position * inverse[i]; entries from n on pass. Angles
// are computed in f64, their cosine and sine are rounded to x's type.
Value rotary(const Value& x, const Value& position, const RotaryRule& rule,
             SourceLine line = SourceLine::here());

// ---- training and generation ------------------------------------------------------------------
// -log softmax(x w^T)[target]: x [n, d], w [vocabulary, d], targets [n] -> [n] in nats. The logits
// are made a chunk of rows at a time and never stored; with gradients, the same pass gives the loss
// and both of them.
Value linear_cross_entropy(const Value& x, const Value& w, const Value& targets,
                           SourceLine line = SourceLine::here());
Value sum_squares(const Value& x, SourceLine line = SourceLine::here());  // of everything: a scalar
// One AdamW step (Loshchilov & Hutter 2019) -> the next state.
// - state [3, n]: weights, first and second moments
// - gradient: n elements; clip: a scalar that multiplies it
// - settings f64[3]: rate, 1 - beta1^t, 1 - beta2^t
// A clip that is NaN leaves the state as it is: a failed step is not made.
Value adamw(const Value& state, const Value& gradient, const Value& clip, const Value& settings,
            const AdamWRule& rule, SourceLine line = SourceLine::here());
// table with x[i] written at row index[i]; the last one wins where an index repeats.
Value write_rows(const Value& table, const Value& x, const Value& index,
                 SourceLine line = SourceLine::here());
// Inverted dropout (Srivastava et al. 2014): y[i] = keep(i) ? x[i] / (1 - rate) : 0, for rate in
// [0, 1). key i64[2] holds a seed and the number of the step; keep(i) is a function of key, stream
// and i alone, so a gradient draws the mask again where PyTorch would keep it. i counts the
// elements of x in row-major order.
Value dropout(const Value& x, const Value& key, double rate, std::int64_t stream,
              SourceLine line = SourceLine::here());

// ---- sparse codes -----------------------------------------------------------------------------
// Boolean: the k largest entries along the last axis, of equal ones the first.
Value top_mask(const Value& x, std::int64_t k, SourceLine line = SourceLine::here());

// The active features of each sample, as a table i32 [n, capacity]: their numbers in increasing
// order, then -1. Feature j is when its score h[i, j] scale[j] is above bar[j] and among the `most`
// largest of its sample (topk), or of the most * n of the batch (batchtopk: whole_batch). A row
// that is full may have lost features, its weakest ones. The last `dead_capacity` columns are a
// table of their own: the largest scores, of any sign, of those features that are `dead`
// [features].
struct ScoreValues {
  Value scale, bar, dead;
};
Value active_features(const Value& h, const ScoreValues& score, const ActiveFeatures& rule,
                      SourceLine line = SourceLine::here());
// The same of h = x w^T + bias, w [features, d], of which a few rows are held at a time.
Value linear_active(const Value& x, const Value& w, const Value& bias, const ScoreValues& score,
                    const ActiveFeatures& rule, SourceLine line = SourceLine::here());
// With such a table `index` [n, capacity], and values z in its places, 0 where there is none:
// y[i, c] = x[i] . w[index[i, c]]
Value sparse_linear(const Value& x, const Value& w, const Value& index,
                    SourceLine line = SourceLine::here());
// y[i] = sum_c z[i, c] w[index[i, c]]
Value sparse_mix(const Value& z, const Value& w, const Value& index,
                 SourceLine line = SourceLine::here());
// y[j] = sum of z[i, c] x[i] over the places with index[i, c] == j: [features, d]
Value sparse_outer(const Value& z, const Value& x, const Value& index, std::int64_t features,
                   SourceLine line = SourceLine::here());

// Matching pursuit (Mallat & Zhang 1993): what is picked, i32 [n, rule.steps], in the order in which
// it is, then -1. r = x [n, d]; at each step the feature j with the largest r . w[j] above 0, w
// [features, d], is picked, and r -= (r . w[j]) w[j]. A feature may be there twice.
Value matching_pursuit(const Value& x, const Value& w, const PursuitRule& rule,
                       SourceLine line = SourceLine::here());
// The codes of such picks: code[i, t] = r_t . w[index[i, t]], with the residual r_t that the step
// found. Written out, they solve (1 + L) code = W x with W = w[index[i]] and L the part of W W^T
// below its diagonal, so gradients flow through all steps before, to x and to w.
Value pursuit_codes(const Value& x, const Value& w, const Value& index,
                    SourceLine line = SourceLine::here());
// y[i] = (1 + L)^-1 b[i], L the part of l[i] below its diagonal; transposed, (1 + L^T)^-1 b[i].
// l [n, m, m], b [n, m].
Value solve_unit_lower(const Value& l, const Value& b, bool transposed = false,
                       SourceLine line = SourceLine::here());
// A table's values as a matrix, y[i, j] = the sum of z[i, c] over the places with index[i, c] == j,
// [n, features]; and those of a matrix in a table's places, y[i, c] = x[i, index[i, c]].
Value sparse_to_dense(const Value& z, const Value& index, std::int64_t features,
                      SourceLine line = SourceLine::here());
Value sparse_pick(const Value& x, const Value& index, SourceLine line = SourceLine::here());

// What heads_in needs to know of the norm before it, to recompute it for an edited copy of its
// input.
struct NormedInput {
  Value normed;         // the norm of x: what the projection reads
  Value x, gain, bias;  // of an RMSNorm, which has no bias, it is undefined
  double eps;
  Value scale = {};           // [rows, 1]: the scale to use for every copy; undefined: its own
  bool detach_scale = false;  // its own, but no gradient flows through it
  NormKind norm = NormKind::layer_norm;  // layer_norm(x, gain, bias, eps), rms_norm(x, gain, eps)
};
// One projection per head: normed [rows, d] x w [d, head * e] + bias -> [rows, head, e]. Inside
// lies `site` [rows, head, d]: the residual stream before the norm, one copy per head, each of
// which may be edited on its own. The bias may be undefined: none is added.
Value heads_in(const NormedInput& in, const Value& w, const Value& bias, int heads,
               std::string_view site = "", SourceLine line = SourceLine::here());
// sum over heads of z[:, h] w[h] + bias: z [rows, head, e], w [head * e, d] -> [rows, d]. Inside
// lies `site` [rows, head, d]: what each head adds to the residual stream. The bias may be
// undefined.
Value heads_out(const Value& z, const Value& w, const Value& bias, std::string_view site = "",
                SourceLine line = SourceLine::here());

}  // namespace vitrine
