// RowMatrix products.
#include "autograd/ops/affine.h"
#include "autograd/ops/common.h"
#include "tensor/gemm/gemm.h"
#include "tensor/kernels/kernels.h"

namespace vitrine {
namespace {

Shape batch_of(const Shape& s) {
  return Shape(std::span(s.begin(), static_cast<std::size_t>(s.size() - 2)));
}

// The matrix axes m, n after the broadcast batch axes.
Type infer_matmul(const InferCall& c) {
  const Type &a = c.in[0], &b = c.in[1];
  require_float(a, "the left side");
  require_same_dtype(a, b);
  require(a.shape.size() >= 2 && b.shape.size() >= 2, "{} x {}: both sides need at least two axes",
          to_string(a.shape), to_string(b.shape));
  const std::int64_t k = a.shape.back(), k2 = b.shape[b.shape.size() - 2];
  require(k == k2,
          "{} x {}: the inner sizes {} and {} differ; the last axis of the left side meets the "
          "second to last of the right one (transpose one of them?)",
          to_string(a.shape), to_string(b.shape), k, k2);
  auto out = broadcast_shapes(batch_of(a.shape), batch_of(b.shape));
  require(out.has_value(), "{} x {}: the batch axes do not broadcast", to_string(a.shape),
          to_string(b.shape));
  out->push_back(a.shape[a.shape.size() - 2]);
  out->push_back(b.shape.back());
  return {a.dtype, *out};
}

View with_batch_of(const View& x,
                   const Shape& out) {  // batch axes broadcast, matrix axes as they are
  Shape shape = out;
  shape[shape.size() - 2] = x.shape[x.rank() - 2];
  shape[shape.size() - 1] = x.shape[x.rank() - 1];
  return broadcast_view(x, shape);
}

Reach reach_matmul(const ReachCall& c) {
  const int rank = c.out.shape.size();
  Reach reach;
  for (int side = 0; side < 2; ++side) {
    InputReach r;
    const Shape& in = c.in[static_cast<std::size_t>(side)].shape;
    const int shift = rank - in.size();
    for (int a = 0; a + 2 < in.size(); ++a) {
      if (in[a] == c.out.shape[a + shift]) r.links.push_back(same_axis(a, a + shift));
    }
    r.links.push_back(side == 0 ? same_axis(in.size() - 2, rank - 2)
                                : same_axis(in.size() - 1, rank - 1));
    reach.push_back(std::move(r));
  }
  // Exact zeros of a pattern cut the contraction short: keys beyond the query's are not read.
  const Fact& f = c.facts[0];
  const int ra = c.in[0].shape.size();
  if (f.kind == Fact::Kind::zero && f.query == Coordinate::index && f.query_axis == ra - 2 &&
      f.key_axis == ra - 1) {
    reach[1].links.push_back({.in_axis = c.in[1].shape.size() - 2,
                              .out_axis = rank - 2,
                              .relation = Relation::at_most,
                              .offset = f.offset});
    if (f.window > 0) {
      reach[1].links.push_back({.in_axis = c.in[1].shape.size() - 2,
                                .out_axis = rank - 2,
                                .relation = Relation::at_least,
                                .offset = 1 - f.window});
    }
  }
  return reach;
}

// ---- linear -----------------------------------------------------------------------------------
Type infer_linear(const InferCall& c) { return infer_affine(c.in[0], c.in[1], &c.in[2]); }

void eval_linear_then(const EvalCall& c, std::optional<kernels::Unary> then) {
  const std::int64_t in = c.in[1].shape[0], out = c.in[1].shape[1];
  if (c.out.numel() == 0) return;
  if (in == 0) {
    kernels::copy(c.pool, broadcast_view(c.in[2], c.out.shape), c.out);
    if (then) kernels::unary(c.pool, *then, c.out, c.out);
    return;
  }
  const RowMatrix x = matrix_of(c.pool, c.in[0], in);
  affine(c.pool, x.view, c.in[1], c.in[2], as_matrix(c.out, out), then);
}
void eval_linear(const EvalCall& c) { eval_linear_then(c, {}); }

Value flat(const Value& x) {  // [..., n] as [rows, n], n = 0 included
  std::int64_t rows = 1;
  for (int a = 0; a + 1 < x.rank(); ++a) rows *= x.dim(a);
  return reshape(x, {rows, x.dim(-1)});
}

Grads vjp_linear(const VjpCall& c) {  // dx = dy w^T, dw = x^T dy, dbias = sum of dy
  const Value g = flat(c.grad);
  return {reshape(matmul(g, transpose(c.in[1])), c.in[0].shape()),
          matmul(transpose(flat(c.in[0])), g), sum(g, {0})};
}

Reach reach_linear(const ReachCall& c) {
  const int last = c.out.shape.size() - 1;
  InputReach x;
  for (int a = 0; a < last; ++a) x.links.push_back(same_axis(a, a));
  return {x, {.links = {same_axis(1, last)}}, {.links = {same_axis(0, last)}}};
}

}  // namespace

extern constinit const OpDef kMatmul = {
    .name = "matmul",
    .doc = "y[.., i, j] = sum_k a[.., i, k] b[.., k, j]; da = dy b^T, db = a^T dy",
    .kind = OpKind::product,
    .linear_in = kEveryInput,
    .infer = infer_matmul,
    .eval =
        [](const EvalCall& c) {
          matmul(c.pool, with_batch_of(c.in[0], c.out.shape), with_batch_of(c.in[1], c.out.shape),
                 c.out);
        },
    .vjp =
        [](const VjpCall& c) {
          return Grads{sum_to(matmul(c.grad, transpose(c.in[1])), c.in[0].shape()),
                       sum_to(matmul(transpose(c.in[0]), c.grad), c.in[1].shape())};
        },
    .reach = reach_matmul,
    .flops = flops_matmul,
    .reads_stored = weight_as_stored};
extern constinit const OpDef kLinear = {
    .name = "linear",
    .doc = "y = x w + bias; dx = dy w^T, dw = x^T dy, dbias = sum of dy over rows",
    .kind = OpKind::product,
    .linear_in = kEveryInput,
    .infer = infer_linear,
    .eval = eval_linear,
    .vjp = vjp_linear,
    .reach = reach_linear,
    .flops = flops_matmul,
    .expand =
        [](const ExpandCall& c) {
          const Value& x = c.in[0];
          Shape out = x.shape();
          out[out.size() - 1] = c.in[1].dim(1);
          return reshape(matmul(flat(x), c.in[1]), out) + c.in[2];
        },
    .reads_stored = weight_as_stored};
// y = f(x w + bias): what compile makes of a linear whose value only f reads.
constexpr OpDef linear_then(std::string_view name, std::string_view doc,
                            void (*eval)(const EvalCall&), Value (*expand)(const ExpandCall&)) {
  return {.name = name,
          .doc = doc,
          .kind = OpKind::other,
          .infer = infer_linear,
          .eval = eval,
          .reach = reach_linear,
          .flops = [](const InferCall& c,
                      const Type& out) { return flops_matmul(c, out) + 10 * numel(out.shape); },
          .expand = expand,
          .reads_stored = weight_as_stored};
}
extern constinit const OpDef kLinearGeluTanh = linear_then(
    "linear_gelu_tanh", "y = gelu_tanh(x w + bias)",
    [](const EvalCall& c) { eval_linear_then(c, kernels::Unary::gelu_tanh); },
    [](const ExpandCall& c) { return gelu_tanh(linear(c.in[0], c.in[1], c.in[2])); });
extern constinit const OpDef kLinearRelu = linear_then(
    "linear_relu", "y = max(0, x w + bias)",
    [](const EvalCall& c) { eval_linear_then(c, kernels::Unary::relu); },
    [](const ExpandCall& c) { return relu(linear(c.in[0], c.in[1], c.in[2])); });

Value matmul(const Value& a, const Value& b, SourceLine line) {
  return a.builder().emit(kMatmul, {a, b}, NoAttributes{}, line);
}
Value linear(const Value& x, const Value& w, const Value& bias, SourceLine line) {
  return x.builder().emit(kLinear, {x, w, bias}, NoAttributes{}, line);
}
}  // namespace vitrine
