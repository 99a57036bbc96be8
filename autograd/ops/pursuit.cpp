// Ops of matching pursuit: codes that are found greedily, each one beside those found before it.
#include "tensor/kernels/pursuit.h"

#include "autograd/ops/common.h"

namespace vitrine {
namespace {

Type infer_pursuit(const InferCall& c) {
  const Type &x = c.in[0], &w = c.in[1];
  require_float(x, "x");
  require_same_dtype(x, w);
  require(x.shape.size() == 2 && w.shape.size() == 2 && x.shape[1] == w.shape[1],
          "x must be [samples, d] and w [features, d], not {} and {}", to_string(x.shape),
          to_string(w.shape));
  require(c.as<PursuitRule>().steps >= 1, "there must be at least one step, not {}",
          c.as<PursuitRule>().steps);
  return {DType::i32, {x.shape[0], c.as<PursuitRule>().steps}};
}
Type infer_solve(const InferCall& c) {
  const Type &l = c.in[0], &b = c.in[1];
  require_float(l, "l");
  require_same_dtype(l, b);
  require(b.shape.size() == 2 && l.shape == Shape({b.shape[0], b.shape[1], b.shape[1]}),
          "l must be [n, m, m] and b [n, m], not {} and {}", to_string(l.shape),
          to_string(b.shape));
  return b;
}
void require_table(const Type& index, std::int64_t samples) {
  require(index.dtype == DType::i32 && index.shape.size() == 2 && index.shape[0] == samples,
          "the index must be i32[{}, capacity], not {}", samples, to_string(index));
}
Type infer_to_dense(const InferCall& c) {
  const Type &z = c.in[0], &index = c.in[1];
  require_float(z, "z");
  require(z.shape.size() == 2, "z must be [samples, capacity], not {}", to_string(z.shape));
  require_table(index, z.shape[0]);
  require(z.shape == index.shape, "there must be one value for each place of the index {}, not {}",
          to_string(index.shape), to_string(z.shape));
  require(c.as<RowCount>().rows >= 0, "the number of features must not be negative");
  return {z.dtype, {z.shape[0], c.as<RowCount>().rows}};
}
Type infer_sparse_pick(const InferCall& c) {
  require_float(c.in[0], "x");
  require(c.in[0].shape.size() == 2, "x must be [samples, features], not {}",
          to_string(c.in[0].shape));
  require_table(c.in[1], c.in[0].shape[0]);
  return {c.in[0].dtype, c.in[1].shape};
}

Reach reach_samples(const ReachCall&) {
  return {{.links = {same_axis(0, 0)}}, {.links = {same_axis(0, 0)}}};
}
// What is strictly below the diagonal of [n, m, m]; the rest 0.
Value below_diagonal(const Value& square) {
  return mask(square, Value(), {.query_axis = 1, .key_axis = 2, .offset = -1, .zero = true});
}
Value outer(const Value& a, const Value& b) {  // [n, m] and [n, m] to [n, m, m]
  return matmul(reshape(a, {a.dim(0), a.dim(1), 1}), reshape(b, {b.dim(0), 1, b.dim(1)}));
}

}  // namespace

extern constinit const OpDef kMatchingPursuit = {
    .name = "matching_pursuit",
    .doc =
        "y[i, t] = the feature j with the largest r . w[j] > 0, r -= (r . w[j]) w[j], r_0 = x[i]",
    .kind = OpKind::other,
    .infer = infer_pursuit,
    .eval =
        [](const EvalCall& c) {
          const auto& rule = c.as<PursuitRule>();
          kernels::matching_pursuit(c.pool, c.in[0], c.in[1], {rule.threshold, rule.stop_at_repeat},
                                    c.out, c.scratch);
        },
    .reach =
        [](const ReachCall&) {
          return Reach{{.links = {same_axis(0, 0)}}, reach_all()};
        },
    .flops = [](const InferCall& c,
                const Type& out) { return 2 * numel(out.shape) * numel(c.in[1].shape); },
    .scratch =
        [](const InferCall& c) {
          return kernels::matching_pursuit_scratch(c.in[0].shape[0], c.in[0].shape[1],
                                                   c.in[1].shape[0], c.in[0].dtype);
        },
    .integer_only = true};
extern constinit const OpDef kSolveUnitLower = {
    .name = "solve_unit_lower",
    .doc =
        "y[i] = (1 + L)^-1 b[i], L what is below the diagonal of l[i]; db = (1 + L^T)^-1 dy, "
        "dl = -db y^T below the diagonal",
    .kind = OpKind::other,
    .linear_in = only_inputs({1}),
    .infer = infer_solve,
    .eval =
        [](const EvalCall& c) {
          kernels::solve_unit_lower(c.pool, c.in[0], c.in[1], c.as<Triangle>().transposed, c.out);
        },
    .vjp =
        [](const VjpCall& c) {
          const bool transposed = c.as<Triangle>().transposed;
          const Value db = solve_unit_lower(c.in[0], c.grad, !transposed);
          const Value dl = transposed ? outer(c.out, db) : outer(db, c.out);
          return Grads{below_diagonal(neg(dl)), db};
        },
    .reach = reach_samples,
    .flops = [](const InferCall& c, const Type&) { return numel(c.in[0].shape); }};
extern constinit const OpDef kSparseToDense = {
    .name = "sparse_to_dense",
    .doc = "y[i, j] = sum of z[i, c] where index[i, c] is j; dz = sparse_pick(dy)",
    .kind = OpKind::other,
    .linear_in = kEveryInput,
    .infer = infer_to_dense,
    .eval = [](const EvalCall& c) { kernels::sparse_to_dense(c.pool, c.in[0], c.in[1], c.out); },
    .vjp =
        [](const VjpCall& c) {
          return Grads{sparse_pick(c.grad, c.in[1]), Value()};
        },
    .reach = reach_samples,
    .flops = [](const InferCall& c, const Type&) { return numel(c.in[0].shape); }};
extern constinit const OpDef kSparsePick = {
    .name = "sparse_pick",
    .doc = "y[i, c] = x[i, index[i, c]], 0 where that is -1; dx = sparse_to_dense(dy)",
    .kind = OpKind::other,
    .linear_in = kEveryInput,
    .infer = infer_sparse_pick,
    .eval = [](const EvalCall& c) { kernels::sparse_pick(c.pool, c.in[0], c.in[1], c.out); },
    .vjp =
        [](const VjpCall& c) {
          return Grads{sparse_to_dense(c.grad, c.in[1], c.in[0].dim(1)), Value()};
        },
    .reach = reach_samples};

Value matching_pursuit(const Value& x, const Value& w, const PursuitRule& rule, SourceLine line) {
  return x.builder().emit(kMatchingPursuit, {x, w}, rule, line);
}
Value pursuit_codes(const Value& x, const Value& w, const Value& index, SourceLine line) {
  const Value rows = gather_rows(w, index, line);  // [n, steps, d]
  return solve_unit_lower(matmul(rows, transpose(rows)), sparse_linear(x, w, index), false, line);
}
Value solve_unit_lower(const Value& l, const Value& b, bool transposed, SourceLine line) {
  return l.builder().emit(kSolveUnitLower, {l, b}, Triangle{transposed}, line);
}
Value sparse_to_dense(const Value& z, const Value& index, std::int64_t features, SourceLine line) {
  return z.builder().emit(kSparseToDense, {z, index}, RowCount{features}, line);
}
Value sparse_pick(const Value& x, const Value& index, SourceLine line) {
  return x.builder().emit(kSparsePick, {x, index}, NoAttributes{}, line);
}

}  // namespace vitrine
