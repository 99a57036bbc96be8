// Gather and scatter by integer index: embeddings, and the answer's entry of each row.
#include "autograd/ops/common.h"
#include "tensor/kernels/kernels.h"

namespace vitrine {
namespace {

Shape join(const Shape& a, const Shape& b, int from) {  // a followed by b[from:]
  Shape out = a;
  for (int i = from; i < b.size(); ++i) out.push_back(b[i]);
  return out;
}

Type infer_gather(const InferCall& c) {
  require_integer(c.in[1], "the index");
  require(c.in[0].shape.size() >= 1, "the table must be [n, ...], not {}",
          to_string(c.in[0].shape));
  return {c.in[0].dtype, join(c.in[1].shape, c.in[0].shape, 1)};
}

// Inputs: index, then the tables.
Type infer_gather_from(const InferCall& c) {
  require(c.in.size() >= 2, "there is no table");
  require_integer(c.in[0], "the index");
  for (const Type& t : c.in.subspan(1)) {
    require(t.dtype == c.in[1].dtype && t.shape.size() >= 1 &&
                join({1}, t.shape, 1) == join({1}, c.in[1].shape, 1),
            "the tables must be alike but for their rows; {} is not like {}", to_string(t),
            to_string(c.in[1]));
  }
  return {c.in[1].dtype, join(c.in[0].shape, c.in[1].shape, 1)};
}

Type infer_scatter(const InferCall& c) {
  require_float(c.in[0], "the rows");
  require_integer(c.in[1], "the index");
  const int n = c.in[1].shape.size();
  require(c.in[0].shape.size() >= n, "rows {} must begin with the axes of the index {}",
          to_string(c.in[0].shape), to_string(c.in[1].shape));
  for (int a = 0; a < n; ++a) {
    require(c.in[0].shape[a] == c.in[1].shape[a],
            "rows {} must begin with the axes of the index {}", to_string(c.in[0].shape),
            to_string(c.in[1].shape));
  }
  require(c.as<RowCount>().rows >= 0, "the number of rows must not be negative");
  return {c.in[0].dtype, join({c.as<RowCount>().rows}, c.in[0].shape, n)};
}

Type infer_pick(const InferCall& c) {
  require_float(c.in[0], "the input");
  require_integer(c.in[1], "the index");
  Shape out = c.in[0].shape;
  require(out.size() > 0, "a scalar has no axis to pick from");
  out.erase(out.size() - 1);
  require(c.in[1].shape == out,
          "the index must have shape {} (that of x {} without its last axis), not {}",
          to_string(out), to_string(c.in[0].shape), to_string(c.in[1].shape));
  return {c.in[0].dtype, out};
}
Type infer_unpick(const InferCall& c) {
  require_float(c.in[0], "the input");
  require_integer(c.in[1], "the index");
  require(c.in[1].shape == c.in[0].shape, "the index {} must have the shape of x {}",
          to_string(c.in[1].shape), to_string(c.in[0].shape));
  require(c.as<RowCount>().rows >= 0, "the size must not be negative");
  Shape out = c.in[0].shape;
  out.push_back(c.as<RowCount>().rows);
  return {c.in[0].dtype, out};
}

Reach reach_gather(const ReachCall& c) {
  InputReach table, index;
  const int n = c.in[1].shape.size();
  for (int a = 1; a < c.in[0].shape.size(); ++a) table.links.push_back(same_axis(a, n + a - 1));
  for (int a = 0; a < n; ++a) index.links.push_back(same_axis(a, a));
  return {table, index};
}
Reach reach_gather_from(const ReachCall& c) {
  InputReach table, index;
  const int n = c.in[0].shape.size();
  for (int a = 1; a < c.in[1].shape.size(); ++a) table.links.push_back(same_axis(a, n + a - 1));
  for (int a = 0; a < n; ++a) index.links.push_back(same_axis(a, a));
  Reach reach(c.in.size(), table);
  reach[0] = index;
  return reach;
}
Reach reach_scatter(const ReachCall& c) {
  InputReach x;
  const int n = c.in[1].shape.size();
  for (int a = n; a < c.in[0].shape.size(); ++a) x.links.push_back(same_axis(a, a - n + 1));
  return {x, reach_all()};
}
Reach reach_leading(const ReachCall& c) {  // all axes both sides share, from the left
  Reach reach;
  for (const Type& in : c.in) {
    InputReach r;
    for (int a = 0; a < std::min(in.shape.size(), c.out.shape.size()); ++a)
      r.links.push_back(same_axis(a, a));
    reach.push_back(std::move(r));
  }
  return reach;
}

std::int64_t flops_scatter(const InferCall& c, const Type&) { return numel(c.in[0].shape); }

}  // namespace

extern constinit const OpDef kGatherRows = {
    .name = "gather_rows",
    .doc = "y[i] = table[index[i]], zeros where index is -1; dtable = scatter_add_rows(dy)",
    .kind = OpKind::selection,
    .linear_in = kEveryInput,
    .infer = infer_gather,
    .eval = [](const EvalCall& c) { kernels::gather_rows(c.pool, c.in[0], c.in[1], c.out); },
    .vjp =
        [](const VjpCall& c) {
          if (!is_compute_float(c.in[0].dtype())) return Grads{Value(), Value()};
          return Grads{scatter_add_rows(c.grad, c.in[1], c.in[0].dim(0)), Value()};
        },
    .reach = reach_gather,
    .reads_stored =
        [](std::size_t input, DType stored, const Layout& table) {
          return input == 0 && kernels::gathers_stored(stored, table);
        }};
extern constinit const OpDef kGatherRowsFrom = {
    .name = "gather_rows_from",
    .doc = "y[i] = row index[i] of the tables laid one after the other, zeros where index is -1",
    .kind = OpKind::other,
    .linear_in = kEveryInput,
    .infer = infer_gather_from,
    .eval =
        [](const EvalCall& c) {
          kernels::gather_rows_from(c.pool, c.in.subspan(1), c.in[0], c.out);
        },
    .reach = reach_gather_from,
    .expand =
        [](const ExpandCall& c) {
          const std::vector<Value> tables(c.in.begin() + 1, c.in.end());
          return gather_rows(concat(tables, 0), c.in[0]);
        }};
extern constinit const OpDef kScatterAddRows = {
    .name = "scatter_add_rows",
    .doc = "y = 0; y[index[i]] += x[i]; dx = gather_rows(dy)",
    .kind = OpKind::other,
    .linear_in = kEveryInput,
    .infer = infer_scatter,
    .eval = [](const EvalCall& c) { kernels::scatter_add_rows(c.pool, c.in[0], c.in[1], c.out); },
    .vjp =
        [](const VjpCall& c) {
          return Grads{gather_rows(c.grad, c.in[1]), Value()};
        },
    .reach = reach_scatter,
    .flops = flops_scatter};
extern constinit const OpDef kPick = {
    .name = "pick",
    .doc = "y[i] = x[i, index[i]] along the last axis; dx = unpick(dy)",
    .kind = OpKind::other,
    .linear_in = kEveryInput,
    .infer = infer_pick,
    .eval = [](const EvalCall& c) { kernels::pick(c.pool, c.in[0], c.in[1], c.out); },
    .vjp =
        [](const VjpCall& c) {
          return Grads{unpick(c.grad, c.in[1], c.in[0].dim(-1)), Value()};
        },
    .reach = reach_leading};
extern constinit const OpDef kUnpick = {
    .name = "unpick",
    .doc = "y = 0; y[i, index[i]] = x[i]; dx = pick(dy)",
    .kind = OpKind::other,
    .linear_in = kEveryInput,
    .infer = infer_unpick,
    .eval = [](const EvalCall& c) { kernels::unpick(c.pool, c.in[0], c.in[1], c.out); },
    .vjp =
        [](const VjpCall& c) {
          return Grads{pick(c.grad, c.in[1]), Value()};
        },
    .reach = reach_leading};

Value gather_rows(const Value& table, const Value& index, SourceLine line) {
  return table.builder().emit(kGatherRows, {table, index}, NoAttributes{}, line);
}
Value gather_rows_from(const std::vector<Value>& tables, const Value& index, SourceLine line) {
  std::vector<Value> in = {index};
  in.insert(in.end(), tables.begin(), tables.end());
  return index.builder().emit(kGatherRowsFrom, in, NoAttributes{}, line);
}
Value scatter_add_rows(const Value& x, const Value& index, std::int64_t rows, SourceLine line) {
  return x.builder().emit(kScatterAddRows, {x, index}, RowCount{rows}, line);
}
Value pick(const Value& x, const Value& index, SourceLine line) {
  return x.builder().emit(kPick, {x, index}, NoAttributes{}, line);
}
Value unpick(const Value& x, const Value& index, std::int64_t size, SourceLine line) {
  return x.builder().emit(kUnpick, {x, index}, RowCount{size}, line);
}

}  // namespace vitrine
