// Ops of training and generation: the loss over a vocabulary, norms, the optimiser's step, rows
// written into a cache, and dropout.
#include "autograd/graph/parts.h"
#include "autograd/ops/common.h"
#include "tensor/gemm/gemm.h"
#include "tensor/kernels/dense.h"

namespace vitrine {

extern const OpDef kLinearCrossEntropyGrads, kWriteRows;

namespace {

// ---- linear_cross_entropy ---------------------------------------------------------------------
Type infer_loss(const InferCall& c) {
  const Type &x = c.in[0], &w = c.in[1], &target = c.in[2];
  require_float(x, "x");
  require_same_dtype(x, w);
  require_integer(target, "the targets");
  require(x.shape.size() == 2 && w.shape.size() == 2 && x.shape[1] == w.shape[1],
          "x must be [n, d] and w [vocabulary, d], not {} and {}", to_string(x.shape),
          to_string(w.shape));
  require(target.shape == Shape{x.shape[0]},
          "there must be one target for each of the {} rows, not {}", x.shape[0],
          to_string(target.shape));
  return {x.dtype, {x.shape[0]}};
}
Type infer_loss_grads(const InferCall& c) {
  const Type loss = infer_loss({c.in.first(3), c.attributes});
  require(c.in[3] == loss, "dloss must be {}, not {}", to_string(loss), to_string(c.in[3]));
  const std::int64_t n = c.in[0].shape[0], d = c.in[0].shape[1], vocabulary = c.in[1].shape[0];
  return {loss.dtype, {n + n * d + vocabulary * d}};
}
View part(const View& flat, std::int64_t begin, const Shape& shape) {
  return {flat.data + bytes_of(flat.dtype, begin), flat.dtype, shape, contiguous_strides(shape)};
}
void eval_loss_grads(const EvalCall& c) {
  const std::int64_t n = c.in[0].shape[0], d = c.in[0].shape[1], vocabulary = c.in[1].shape[0];
  const View loss = part(c.out, 0, {n}), dx = part(c.out, n, {n, d}),
             dw = part(c.out, n + n * d, {vocabulary, d});
  kernels::linear_cross_entropy(c.pool,
                                {c.in[0], c.in[1], c.in[2], loss, &c.in[3], &dx, &dw, c.scratch});
}
// One pass gives the loss and both gradients: the parts of a flat result.
Grads vjp_loss(const VjpCall& c) {
  const Value &x = c.in[0], &w = c.in[1];
  const Value all = c.builder.emit(kLinearCrossEntropyGrads, {x, w, c.in[2], c.grad},
                                   NoAttributes{}, SourceLine::here());
  const std::int64_t n = x.dim(0), nx = n * x.dim(1), nw = w.dim(0) * w.dim(1);
  return {reshape(slice(all, 0, n, n + nx), x.shape()),
          reshape(slice(all, 0, n + nx, n + nx + nw), w.shape()), Value()};
}
Value expand_loss(const ExpandCall& c) {
  return cross_entropy(matmul(c.in[0], transpose(c.in[1])), c.in[2]);
}
Value expand_loss_grads(const ExpandCall& c) {
  const Value &x = c.in[0], &w = c.in[1], &target = c.in[2], &g = c.in[3];
  const Value log_p = log_softmax(matmul(x, transpose(w)));
  const Value dlogits = exp(log_p) * reshape(g, {g.dim(0), 1}) - unpick(g, target, w.dim(0));
  const Value dx = matmul(dlogits, w), dw = matmul(transpose(dlogits), x);
  return concat({neg(pick(log_p, target)), reshape(dx, {numel(dx.shape())}),
                 reshape(dw, {numel(dw.shape())})},
                0);
}
// The unembedding [vocabulary, d] is multiplied with transposed, and for dx as it is.
bool unembedding_as_stored(std::size_t input, DType stored, const Layout& w) {
  return input == 1 && reads_stored(stored, w.shape, w.strides) &&
         reads_stored(stored, {w.shape[1], w.shape[0]}, {w.strides[1], w.strides[0]});
}
std::int64_t scratch_loss(const InferCall& c) {
  return kernels::linear_cross_entropy_scratch(c.in[0].shape[0], c.in[1].shape[0], c.in[0].dtype);
}
std::int64_t flops_loss(const InferCall& c, const Type&) {
  return 2 * c.in[0].shape[0] * numel(c.in[1].shape);
}
std::int64_t flops_loss_grads(const InferCall& c, const Type& t) { return 3 * flops_loss(c, t); }
Reach reach_loss(const ReachCall&) {
  return {{.links = {same_axis(0, 0)}}, reach_all(), {.links = {same_axis(0, 0)}}};
}
Reach reach_everything(const ReachCall& c) { return Reach(c.in.size()); }

// ---- sum_squares, adamw -----------------------------------------------------------------------
Type infer_sum_squares(const InferCall& c) {
  require_float(c.in[0], "the input");
  return {c.in[0].dtype, {}};
}
Type infer_adamw(const InferCall& c) {
  const Type &state = c.in[0], &g = c.in[1];
  require_float(state, "the state");
  require_same_dtype(state, g);
  require_same_dtype(state, c.in[2]);
  require(state.shape.size() == 2 && state.shape[0] == 3 && state.shape[1] == numel(g.shape),
          "the state must be [3, {}] (weights, first and second moments), not {}", numel(g.shape),
          to_string(state.shape));
  require(c.in[2].shape.empty(), "clip must be a scalar, not {}", to_string(c.in[2].shape));
  require(c.in[3] == Type({DType::f64, {3}}),
          "the settings must be f64[3] (rate, 1 - beta1^t, 1 - beta2^t), not {}",
          to_string(c.in[3]));
  return state;
}

Value expand_adamw(const ExpandCall& c) {
  const AdamWRule& r = c.as<AdamWRule>();
  const DType dtype = c.in[0].dtype();
  const auto row = [&](int i) { return slice(c.in[0], 0, i, i + 1); };                   // [1, n]
  const auto setting = [&](int i) { return cast(slice(c.in[3], 0, i, i + 1), dtype); };  // [1]
  const Value g = reshape(c.in[1], {1, c.in[0].dim(1)}) * c.in[2], rate = setting(0);
  const Value m = r.beta1 * row(1) + (1 - r.beta1) * g;
  const Value v = r.beta2 * row(2) + (1 - r.beta2) * square(g);
  const Value step = rate * (m / setting(1)) / (sqrt(v / setting(2)) + r.eps);
  const Value next = concat({row(0) * (1.0 - r.decay * rate) - step, m, v}, 0);
  return select(equal(c.in[2], c.in[2]), next, c.in[0]);  // NaN equals nothing
}

// ---- write_rows -------------------------------------------------------------------------------
Type infer_write_rows(const InferCall& c) {
  const Type &table = c.in[0], &x = c.in[1], &index = c.in[2];
  require_same_dtype(table, x);
  require_integer(index, "the index");
  Shape rows = table.shape;
  require(rows.size() >= 1 && index.shape.size() == 1,
          "the table must have rows and the index one axis");
  rows[0] = index.shape[0];
  require(x.shape == rows, "x must be {}, one row for each index, not {}", to_string(rows),
          to_string(x.shape));
  return table;
}
Reach reach_write_rows(const ReachCall& c) {
  InputReach table, x;
  for (int a = 0; a < c.out.shape.size(); ++a) table.links.push_back(same_axis(a, a));
  for (int a = 1; a < c.out.shape.size(); ++a) x.links.push_back(same_axis(a, a));
  return {table, x, reach_all()};
}

// dtable = dy, 0 where rows were written. dx[i] = dy[index[i]] if i was the last to write there, else 0: who was is
// found by writing the numbers of the rows themselves.
Grads vjp_write_rows(const VjpCall& c) {
  Builder& b = c.builder;
  const Shape& written = c.in[1].shape();
  const std::int64_t n = written[0], rows = c.in[0].shape()[0];
  const Value zero = b.scalar(0, c.grad.dtype());
  Tensor count = Tensor::empty({n, 1}, DType::f64);
  for (std::int64_t i = 0; i < n; ++i) count.data<double>()[i] = static_cast<double>(i);
  const Value numbers = b.constant(count);
  const Value writers =
      write_rows(b.constant(Tensor::zeros({rows, 1}, DType::f64)), numbers, c.in[2]);
  Shape line = written;  // [n, 1, ...]
  for (int axis = 1; axis < line.size(); ++axis) line[axis] = 1;
  const Value last = reshape(equal(gather_rows(writers, c.in[2]), numbers), line);
  return {write_rows(c.grad, broadcast_to(zero, written), c.in[2]),
          select(last, gather_rows(c.grad, c.in[2]), zero), Value()};
}

// ---- dropout ----------------------------------------------------------------------------------
Type infer_dropout(const InferCall& c) {
  const DropoutRule& r = c.as<DropoutRule>();
  require_float(c.in[0], "x");
  require(c.in[1] == Type({DType::i64, {2}}), "the key must be i64[2] (seed, step), not {}",
          to_string(c.in[1]));
  require(r.rate >= 0 && r.rate < 1, "the rate must be at least 0 and less than 1, not {}", r.rate);
  return c.in[0];
}
// dx[i] = keep(i) ? dy[i] / (1 - rate) : 0: the same op, which draws the same mask.
Grads vjp_dropout(const VjpCall& c) {
  const DropoutRule& r = c.as<DropoutRule>();
  return {dropout(c.grad, c.in[1], r.rate, r.stream), Value()};
}

}  // namespace

extern constinit const OpDef kLinearCrossEntropy = {
    .name = "linear_cross_entropy",
    .doc = "y[i] = log sum_v exp(x[i] . w[v]) - x[i] . w[target[i]], logits a chunk at a time",
    .kind = OpKind::other,
    .nonlinear = Nonlinear::kept,
    .infer = infer_loss,
    .eval =
        [](const EvalCall& c) {
          kernels::linear_cross_entropy(
              c.pool, {c.in[0], c.in[1], c.in[2], c.out, nullptr, nullptr, nullptr, c.scratch});
        },
    .vjp = vjp_loss,
    .reach = reach_loss,
    .flops = flops_loss,
    .expand = expand_loss,
    .scratch = scratch_loss,
    .reads_stored = unembedding_as_stored};
extern constinit const OpDef kLinearCrossEntropyGrads = {
    .name = "linear_cross_entropy_grads",
    .doc =
        "one after the other: the loss [n], dx = dlogits w, dw = dlogits^T x, with dlogits = dy "
        "(softmax - onehot)",
    .kind = OpKind::other,
    .linear_in = only_inputs({3}),
    .infer = infer_loss_grads,
    .eval = eval_loss_grads,
    .reach = reach_everything,
    .flops = flops_loss_grads,
    .expand = expand_loss_grads,
    .scratch = scratch_loss,
    .reads_stored = unembedding_as_stored};
extern constinit const OpDef kSumSquares = {
    .name = "sum_squares",
    .doc = "y = sum x^2, accumulated in f64; dx = 2 x dy",
    .kind = OpKind::other,
    .nonlinear = Nonlinear::kept,
    .infer = infer_sum_squares,
    .eval = [](const EvalCall& c) { kernels::sum_squares(c.pool, c.in[0], c.out); },
    .vjp = [](const VjpCall& c) { return Grads{2.0 * c.in[0] * c.grad}; },
    .reach = reach_everything,
    .flops = [](const InferCall& c, const Type&) { return 2 * numel(c.in[0].shape); },
    .expand = [](const ExpandCall& c) { return sum(square(c.in[0])); }};
extern constinit const OpDef kAdamW = {
    .name = "adamw",
    .doc =
        "w -= rate (m' / (1-b1^t) / (sqrt(v' / (1-b2^t)) + eps) + decay w), m' = b1 m + (1-b1) g, "
        "v' = b2 v + (1-b2) g^2; unchanged where clip is NaN",
    .kind = OpKind::other,
    .infer = infer_adamw,
    .eval =
        [](const EvalCall& c) {
          const AdamWRule& r = c.as<AdamWRule>();
          kernels::adamw(c.pool, c.in[0], c.in[1], c.in[2], c.in[3],
                         {r.beta1, r.beta2, r.eps, r.decay}, c.out);
        },
    .reach =
        [](const ReachCall& c) {
          InputReach gradient;
          if (c.in[1].shape.size() == 1) gradient.links.push_back(same_axis(0, 1));
          return Reach{{.links = {same_axis(1, 1)}}, gradient, reach_all(), reach_all()};
        },
    .flops = [](const InferCall& c, const Type&) { return 14 * c.in[0].shape[1]; },
    .expand = expand_adamw,
    .in_place = OpDef::InPlace::first_input};
extern constinit const OpDef kWriteRows = {
    .name = "write_rows",
    .doc =
        "y = table, then y[index[i]] = x[i], the last one where an index is said twice; dx = "
        "dy[index[i]], 0 for those "
        "that were overwritten",
    .kind = OpKind::other,
    .linear_in = kEveryInput,
    .infer = infer_write_rows,
    .eval =
        [](const EvalCall& c) { kernels::write_rows(c.pool, c.in[0], c.in[1], c.in[2], c.out); },
    .vjp = vjp_write_rows,
    .reach = reach_write_rows,
    .parts = [](const ReachCall&, int) -> std::optional<InputParts> {
      return {};
    },  // rows have numbers
    .in_place = OpDef::InPlace::first_input};
extern constinit const OpDef kDropout = {
    .name = "dropout",
    .doc = "y[i] = keep(i) ? x[i] / (1 - rate) : 0, keep a function of key, stream and i; dx alike",
    .kind = OpKind::other,
    .linear_in = kEveryInput,
    .infer = infer_dropout,
    .eval =
        [](const EvalCall& c) {
          const DropoutRule& r = c.as<DropoutRule>();
          kernels::dropout(c.pool, c.in[0], c.in[1], {r.rate, r.stream}, c.out);
        },
    .vjp = vjp_dropout,
    .reach =
        [](const ReachCall& c) {
          Reach reach = reach_elementwise(c);
          reach[1] = reach_all();
          return reach;
        },
    .parts = [](const ReachCall&, int) -> std::optional<InputParts> {
      return {};
    },  // masks by index
    .flops = [](const InferCall&, const Type& out) { return numel(out.shape); },
    .fact =
        [](const ReachCall& c) {  // 0 stays 0
          return c.facts[0].kind == Fact::Kind::zero ? c.facts[0] : Fact{};
        },
    .in_place = OpDef::InPlace::first_input};

Value linear_cross_entropy(const Value& x, const Value& w, const Value& targets, SourceLine line) {
  return x.builder().emit(kLinearCrossEntropy, {x, w, targets}, NoAttributes{}, line);
}
Value sum_squares(const Value& x, SourceLine line) {
  return x.builder().emit(kSumSquares, {x}, NoAttributes{}, line);
}
Value adamw(const Value& state, const Value& gradient, const Value& clip, const Value& settings,
            const AdamWRule& rule, SourceLine line) {
  return state.builder().emit(kAdamW, {state, gradient, clip, settings}, rule, line);
}
Value write_rows(const Value& table, const Value& x, const Value& index, SourceLine line) {
  return table.builder().emit(kWriteRows, {table, x, index}, NoAttributes{}, line);
}
Value dropout(const Value& x, const Value& key, double rate, std::int64_t stream, SourceLine line) {
  return x.builder().emit(kDropout, {x, key}, DropoutRule{rate, stream}, line);
}

}  // namespace vitrine
