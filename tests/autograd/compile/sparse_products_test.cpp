// Products of matrices that are zero but for a few columns, against those of full matrices.
#include <gtest/gtest.h>

#include <functional>

#include "autograd/compile/plan.h"
#include "autograd/ops/ops.h"
#include "autograd/transform/gradient.h"
#include "tensor/random.h"

namespace vitrine {
namespace {

constexpr std::int64_t kColumns = 90, kOut = 3;

struct Inputs {
  Value x, each;      // [4, 2], [4]
  Value index, rows;  // [4] columns; [4] rows out of 6
};
using Emit = std::function<Value(const Inputs&)>;
struct Case {
  const char* name;
  Emit emit;  // [4 or 6, columns]
};

Feeds feeds() {
  Feeds f{{"x", Tensor::empty({4, 2}, DType::f64)},
          {"each", Tensor::empty({4}, DType::f64)},
          {"w", Tensor::empty({kColumns, kOut}, DType::f64)}};
  ThreadPool serial(1);
  std::uint64_t key = 0;
  for (auto& [name, tensor] : f) random::fill_normal(serial, random::Key{++key}, tensor);
  f["one"] = Tensor::full({}, DType::f64, 1);
  f["index"] = Tensor::of<std::int32_t>({4}, {89, 0, 17, 17});
  f["rows"] = Tensor::of<std::int32_t>({4}, {5, -1, 0, 5});
  return f;
}

// "y" = a w, and "full": the same, where nothing is known of a.
Graph graph_of(const Emit& emit) {
  Builder b;
  const auto all = feeds();
  const auto input = [&](const char* name) {
    return b.input(name, {all.at(name).dtype(), all.at(name).shape()});
  };
  const Value a = emit({input("x"), input("each"), input("index"), input("rows")});
  const Value w = input("w");
  b.output("y", matmul(a, w));
  b.output("full", matmul(a * input("one"), w));
  return std::move(b).finish();
}

const std::vector<Case> kSparse = {
    {"unslice", [](const Inputs& i) { return unslice(i.x, 1, 7, 1, kColumns); }},
    {"strided", [](const Inputs& i) { return unslice(i.x, -1, 7, 40, kColumns); }},
    {"unpick", [](const Inputs& i) { return unpick(i.each, i.index, kColumns); }},
    {"sums",
     [](const Inputs& i) {
       const Value a = unslice(i.x, 1, 7, 1, kColumns), b = unslice(i.x, 1, 8, 1, kColumns);
       return neg(a) - b + unpick(i.each, i.index, kColumns);
     }},
    {"scattered", [](const Inputs& i) {
       const Value a = unpick(i.each, i.index, kColumns) + unslice(i.x, 1, 7, 1, kColumns);
       return identity(scatter_add_rows(a, i.rows, 6));
     }}};
const std::vector<Case> kFull = {
    {"most_columns",
     [](const Inputs& i) {
       return unslice(broadcast_to(reshape(i.each, {4, 1}), {4, 46}), 1, 7, 1, kColumns);
     }},
    {"rows",
     [](const Inputs& i) {
       return unslice(broadcast_to(reshape(i.each, {4, 1}), {4, kColumns}), 0, 1, 1, 6);
     }},
    {"a_full_part",
     [](const Inputs& i) {
       return unslice(i.x, 1, 7, 1, kColumns) +
              broadcast_to(reshape(i.each, {4, 1}), {4, kColumns});
     }},
    {"broadcast", [](const Inputs& i) {
       return unslice(i.x, 1, 7, 1, kColumns) +
              unpick(slice(i.each, 0, 0, 1), slice(i.index, 0, 0, 1), kColumns);
     }}};

TEST(SparseProducts, EqualThoseOfFullMatrices) {
  for (const Case& c : kSparse) {
    const Graph g = graph_of(c.emit);
    const Plan sparse = compile(g, fetch(value("y"))), full = compile(g, fetch(value("full")));
    EXPECT_EQ(sparse.stats().sparse_products, 1) << c.name;
    EXPECT_EQ(full.stats().sparse_products, 0) << c.name;
    EXPECT_NE(sparse.explain().find("1 matrix products leave out columns that are known to be "
                                    "zero"),
              std::string::npos);
    EXPECT_LT(sparse.stats().intermediate_bytes, full.stats().intermediate_bytes / 4) << c.name;
    const Tensor got = sparse.run(feeds(), {}).raw("y"), want = full.run(feeds(), {}).raw("full");
    ASSERT_EQ(got.shape(), want.shape()) << c.name;
    EXPECT_GT(max_abs(want), 0.1) << c.name;
    EXPECT_LE(max_abs_difference(got, want), 1e-12) << c.name;
  }
}

TEST(SparseProducts, LeaveOthersAlone) {
  for (const Case& c : kFull) {
    const Graph g = graph_of(c.emit);
    const Plan plan = compile(g, fetch(value("y"), value("full")));
    EXPECT_EQ(plan.stats().sparse_products, 0) << c.name;
    const Results r = plan.run(feeds(), {});
    EXPECT_LE(max_abs_difference(r.raw("y"), r.raw("full")), 1e-12) << c.name;
  }
}

// The gradient of two columns of a product, where it meets the weight again.
TEST(SparseProducts, GradientsOfColumns) {
  Builder b;
  const auto all = feeds();
  const Value x = b.input("x", {DType::f64, {4, 2}}), v = b.input("v", {DType::f64, {2, kOut}}),
              w = b.input("w", {DType::f64, {kColumns, kOut}}),
              index = b.input("index", {DType::i32, {4}});
  const Value y = matmul(matmul(x, v), transpose(w));  // [4, columns]
  b.output("energy", sum(square(pick(y, index) - reshape(slice(y, 1, 3, 4), {4}))));
  const Graph g = gradient(std::move(b).finish(), "energy", leaves("x"));
  const Plan plan = compile(g, fetch(value("energy"), grad(leaves("x"))));
  EXPECT_EQ(plan.stats().narrowed_columns, 1);
  EXPECT_EQ(plan.stats().sparse_products, 1);
  Feeds f = feeds();
  f["v"] = Tensor::of<double>({2, kOut}, {1, -2, 0.5, 3, 0.25, -1});
  const std::vector<double> slope = plan.run(plan.taken(f), {}).grad("x").to_vector<double>();
  for (std::size_t i = 0; i < slope.size(); ++i) {
    const auto energy = [&](double step) {
      Feeds moved = f;
      moved["x"] = f["x"].clone();
      moved["x"].data<double>()[i] += step;
      return plan.run(plan.taken(moved), {}).scalar("energy");
    };
    EXPECT_NEAR((energy(1e-5) - energy(-1e-5)) / 2e-5, slope[i],
                1e-6 * std::max(1.0, std::abs(slope[i])));
  }
}

}  // namespace
}  // namespace vitrine
