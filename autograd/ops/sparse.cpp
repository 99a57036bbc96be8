// Ops of sparse codes: which features are active, and products with these alone. With all but a few
// of a dictionary's features at zero, its reconstruction and every gradient cost what the few do.
#include "tensor/kernels/sparse.h"

#include "autograd/ops/common.h"

namespace vitrine {
namespace {

// ---- which are active -------------------------------------------------------------------------
void require_scores(const InferCall& c, std::size_t from, DType dtype, std::int64_t features) {
  for (std::size_t i = from; i < from + 2; ++i) {
    require(c.in[i] == Type({dtype, {features}}), "the {} must be {}[{}], not {}",
            i == from ? "scale" : "bar", name_of(dtype), features, to_string(c.in[i]));
  }
  require(c.in[from + 2] == Type({DType::boolean, {features}}), "dead must be bool[{}], not {}",
          features, to_string(c.in[from + 2]));
}
Type infer_table(const InferCall& c, std::int64_t samples) {
  const auto& r = c.as<ActiveFeatures>();
  require(r.capacity >= 1 && r.dead_capacity >= 0,
          "the capacity must be at least 1, and that for dead features 0, not {} and {}",
          r.capacity, r.dead_capacity);
  return {DType::i32, {samples, r.capacity + r.dead_capacity}};
}
Type infer_active(const InferCall& c) {
  const Type& h = c.in[0];
  require_float(h, "h");
  require(h.shape.size() == 2, "h must be [samples, features], not {}", to_string(h.shape));
  require_scores(c, 1, h.dtype, h.shape[1]);
  return infer_table(c, h.shape[0]);
}
Type infer_linear_active(const InferCall& c) {
  const Type &x = c.in[0], &w = c.in[1];
  require_float(x, "x");
  require_same_dtype(x, w);
  require(x.shape.size() == 2 && w.shape.size() == 2 && x.shape[1] == w.shape[1],
          "x must be [samples, d] and w [features, d], not {} and {}", to_string(x.shape),
          to_string(w.shape));
  require(c.in[2] == Type({x.dtype, {w.shape[0]}}), "the bias must be {}[{}], not {}",
          name_of(x.dtype), w.shape[0], to_string(c.in[2]));
  require_scores(c, 3, x.dtype, w.shape[0]);
  return infer_table(c, x.shape[0]);
}

kernels::ActiveRule rule_of(const ActiveFeatures& r) {
  return {r.most, r.whole_batch, r.capacity, r.dead_capacity};
}
ScoreValues scores_of(std::span<const Value> in) { return {in[0], in[1], in[2]}; }

// Samples are apart unless the batch competes.
Reach reach_active(const ReachCall& c) {
  Reach reach(c.in.size(), reach_all());
  if (!c.as<ActiveFeatures>().whole_batch) reach[0].links.push_back(same_axis(0, 0));
  return reach;
}

// ---- products ---------------------------------------------------------------------------------
void require_index(const Type& index, std::int64_t samples) {
  require(index.dtype == DType::i32, "the index must be i32, not {}", name_of(index.dtype));
  require(index.shape.size() == 2 && index.shape[0] == samples,
          "the index must be [{}, capacity], not {}", samples, to_string(index.shape));
}
void require_matrices(const Type& a, const Type& b) {
  require_float(a, "the first input");
  require_same_dtype(a, b);
  require(a.shape.size() == 2 && b.shape.size() == 2, "both inputs must be matrices, not {} and {}",
          to_string(a.shape), to_string(b.shape));
}
Type infer_sparse_linear(const InferCall& c) {
  const Type &x = c.in[0], &w = c.in[1];
  require_matrices(x, w);
  require(x.shape[1] == w.shape[1], "x must be [samples, d] and w [features, d], not {} and {}",
          to_string(x.shape), to_string(w.shape));
  require_index(c.in[2], x.shape[0]);
  return {x.dtype, c.in[2].shape};
}
void require_values(const Type& z, const Type& index) {
  require(z.shape == index.shape, "there must be one value for each place of the index {}, not {}",
          to_string(index.shape), to_string(z.shape));
}
Type infer_sparse_mix(const InferCall& c) {
  require_matrices(c.in[0], c.in[1]);
  require_index(c.in[2], c.in[0].shape[0]);
  require_values(c.in[0], c.in[2]);
  return {c.in[0].dtype, {c.in[0].shape[0], c.in[1].shape[1]}};
}
Type infer_sparse_outer(const InferCall& c) {
  require_matrices(c.in[0], c.in[1]);
  require_index(c.in[2], c.in[1].shape[0]);
  require_values(c.in[0], c.in[2]);
  require(c.as<RowCount>().rows >= 0, "the number of features must not be negative");
  return {c.in[0].dtype, {c.as<RowCount>().rows, c.in[1].shape[1]}};
}
std::int64_t flops_linear_active(const InferCall& c, const Type&) {
  return 2 * c.in[0].shape[0] * numel(c.in[1].shape) + 2 * c.in[0].shape[0] * c.in[1].shape[0];
}
// As if the table were full.
std::int64_t flops_sparse(const InferCall& c, const Type&) {
  return 2 * numel(c.in[2].shape) * c.in[1].shape[1];
}
// [n, capacity] as [n, capacity, 1]; [n, d] as [n, 1, d]
Value as_columns(const Value& z) { return reshape(z, {z.dim(0), z.dim(1), 1}); }
Value as_rows(const Value& x) { return reshape(x, {x.dim(0), 1, x.dim(1)}); }

}  // namespace

extern constinit const OpDef kTopMask = {
    .name = "top_mask",
    .doc = "y = x is among the k largest along the last axis, of equal ones the first; no gradient",
    .kind = OpKind::other,
    .infer =
        [](const InferCall& c) {
          require_float(c.in[0], "x");
          require(!c.in[0].shape.empty(), "a scalar has no axis to choose from");
          require(c.as<RowCount>().rows >= 0, "k must not be negative, as {}",
                  c.as<RowCount>().rows);
          return Type{DType::boolean, c.in[0].shape};
        },
    .eval =
        [](const EvalCall& c) { kernels::top_mask(c.pool, c.in[0], c.as<RowCount>().rows, c.out); },
    .reach = reach_rows,
    .flops = [](const InferCall&, const Type& out) { return numel(out.shape); },
    .integer_only = true};
extern constinit const OpDef kActiveFeatures = {
    .name = "active_features",
    .doc =
        "y[i] = the features j whose scores h[i, j] scale[j] are above bar[j] and among the most",
    .kind = OpKind::other,
    .infer = infer_active,
    .eval =
        [](const EvalCall& c) {
          kernels::active_features(
              c.pool, c.in[0], {c.in[1], c.in[2], c.in[3], rule_of(c.as<ActiveFeatures>()), c.out});
        },
    .reach = reach_active,
    .flops = [](const InferCall& c, const Type&) { return 2 * numel(c.in[0].shape); },
    .integer_only = true};
extern constinit const OpDef kLinearActive = {
    .name = "linear_active",
    .doc = "active_features of h = x w^T + bias, of which a chunk of samples is held at a time",
    .kind = OpKind::other,
    .infer = infer_linear_active,
    .eval =
        [](const EvalCall& c) {
          kernels::linear_active(
              c.pool, c.in[0], c.in[1], c.in[2],
              {c.in[3], c.in[4], c.in[5], rule_of(c.as<ActiveFeatures>()), c.out}, c.scratch);
        },
    .reach = reach_active,
    .flops = flops_linear_active,
    .expand =
        [](const ExpandCall& c) {
          const Value h = linear(c.in[0], transpose(c.in[1]), c.in[2]);
          return active_features(h, scores_of(c.in.subspan(3)), c.as<ActiveFeatures>());
        },
    .scratch =
        [](const InferCall& c) {
          return kernels::linear_active_scratch(c.in[0].shape[0], c.in[1].shape[0], c.in[0].dtype);
        }};
extern constinit const OpDef kSparseLinear = {
    .name = "sparse_linear",
    .doc = "y[i, c] = x[i] . w[index[i, c]]; dx = sparse_mix(dy, w), dw = sparse_outer(dy, x)",
    .kind = OpKind::other,
    .linear_in = kEveryInput,
    .infer = infer_sparse_linear,
    .eval =
        [](const EvalCall& c) { kernels::sparse_linear(c.pool, c.in[0], c.in[1], c.in[2], c.out); },
    .vjp =
        [](const VjpCall& c) {
          return Grads{sparse_mix(c.grad, c.in[1], c.in[2]),
                       sparse_outer(c.grad, c.in[0], c.in[2], c.in[1].dim(0)), Value()};
        },
    .reach =
        [](const ReachCall&) {
          return Reach{{.links = {same_axis(0, 0)}},
                       reach_all(),
                       {.links = {same_axis(0, 0)}}};  // -1 ends a row
        },
    .flops = flops_sparse,
    .expand =
        [](const ExpandCall& c) {
          const Value rows = gather_rows(c.in[1], c.in[2]);  // [n, capacity, d]
          return reshape(matmul(rows, reshape(c.in[0], {c.in[0].dim(0), c.in[0].dim(1), 1})),
                         c.in[2].shape());
        }};
extern constinit const OpDef kSparseMix = {
    .name = "sparse_mix",
    .doc =
        "y[i] = sum_c z[i, c] w[index[i, c]]; dz = sparse_linear(dy, w), dw = sparse_outer(z, dy)",
    .kind = OpKind::other,
    .linear_in = kEveryInput,
    .infer = infer_sparse_mix,
    .eval =
        [](const EvalCall& c) { kernels::sparse_mix(c.pool, c.in[0], c.in[1], c.in[2], c.out); },
    .vjp =
        [](const VjpCall& c) {
          return Grads{sparse_linear(c.grad, c.in[1], c.in[2]),
                       sparse_outer(c.in[0], c.grad, c.in[2], c.in[1].dim(0)), Value()};
        },
    .reach =
        [](const ReachCall&) {
          return Reach{{.links = {same_axis(0, 0)}},
                       {.links = {same_axis(1, 1)}},
                       {.links = {same_axis(0, 0)}}};
        },
    .flops = flops_sparse,
    .expand =
        [](const ExpandCall& c) {
          const Value y = matmul(as_rows(c.in[0]), gather_rows(c.in[1], c.in[2]));
          return reshape(y, {y.dim(0), y.dim(2)});
        }};
extern constinit const OpDef kSparseOuter = {
    .name = "sparse_outer",
    .doc =
        "y[j] = sum of z[i, c] x[i] where index[i, c] is j; dz = sparse_linear(x, dy), "
        "dx = sparse_mix(z, dy)",
    .kind = OpKind::other,
    .linear_in = kEveryInput,
    .infer = infer_sparse_outer,
    .eval =
        [](const EvalCall& c) { kernels::sparse_outer(c.pool, c.in[0], c.in[1], c.in[2], c.out); },
    .vjp =
        [](const VjpCall& c) {
          return Grads{sparse_linear(c.in[1], c.grad, c.in[2]),
                       sparse_mix(c.in[0], c.grad, c.in[2]), Value()};
        },
    .reach =
        [](const ReachCall&) {
          return Reach{reach_all(), {.links = {same_axis(1, 1)}}, reach_all()};
        },
    .flops = flops_sparse,
    .expand =
        [](const ExpandCall& c) {
          return scatter_add_rows(matmul(as_columns(c.in[0]), as_rows(c.in[1])), c.in[2],
                                  c.as<RowCount>().rows);
        }};

Value top_mask(const Value& x, std::int64_t k, SourceLine line) {
  return x.builder().emit(kTopMask, {x}, RowCount{k}, line);
}
Value active_features(const Value& h, const ScoreValues& s, const ActiveFeatures& rule,
                      SourceLine line) {
  return h.builder().emit(kActiveFeatures, {h, s.scale, s.bar, s.dead}, rule, line);
}
Value linear_active(const Value& x, const Value& w, const Value& bias, const ScoreValues& s,
                    const ActiveFeatures& rule, SourceLine line) {
  return x.builder().emit(kLinearActive, {x, w, bias, s.scale, s.bar, s.dead}, rule, line);
}
Value sparse_linear(const Value& x, const Value& w, const Value& index, SourceLine line) {
  return x.builder().emit(kSparseLinear, {x, w, index}, NoAttributes{}, line);
}
Value sparse_mix(const Value& z, const Value& w, const Value& index, SourceLine line) {
  return z.builder().emit(kSparseMix, {z, w, index}, NoAttributes{}, line);
}
Value sparse_outer(const Value& z, const Value& x, const Value& index, std::int64_t features,
                   SourceLine line) {
  return z.builder().emit(kSparseOuter, {z, x, index}, RowCount{features}, line);
}

}  // namespace vitrine
