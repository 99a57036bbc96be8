// Sums of the rows of products, computed from sums, against those of products that are also read.
#include <gtest/gtest.h>

#include <functional>

#include "autograd/compile/plan.h"
#include "autograd/ops/ops.h"
#include "tensor/random.h"

namespace vitrine {
namespace {

struct Case {
  const char* name;
  std::function<Value(const Value& a, const Value& w, const Value& index)> emit;  // [5, 3]
};
const std::vector<Case> kCases = {
    {"matmul", [](const Value& a, const Value& w, const Value&) { return matmul(a, w); }},
    {"sparse_mix", [](const Value& a, const Value& w,
                      const Value& i) { return sparse_mix(slice(a, 1, 0, 2), w, i); }},
    {"neg", [](const Value& a, const Value& w, const Value&) { return neg(matmul(a, w)); }},
    {"sums", [](const Value& a, const Value& w, const Value& i) {
       return matmul(a, w) - neg(sparse_mix(slice(a, 1, 1, 3), w, i)) + matmul(square(a), w);
     }}};

Feeds feeds() {
  Feeds f{{"a", Tensor::empty({5, 4}, DType::f64)}, {"w", Tensor::empty({4, 3}, DType::f64)}};
  ThreadPool serial(1);
  std::uint64_t key = 0;
  for (auto& [name, tensor] : f) random::fill_normal(serial, random::Key{++key}, tensor);
  f["index"] = Tensor::of<std::int32_t>({5, 2}, {0, 3, -1, -1, 2, -1, 1, 2, 3, -1});
  return f;
}

Graph graph_of(const Case& c) {
  Builder b;
  const Value y = c.emit(b.input("a", {DType::f64, {5, 4}}), b.input("w", {DType::f64, {4, 3}}),
                         b.input("index", {DType::i32, {5, 2}}));
  b.output("product", y);
  b.output("y", sum(y, {0}));
  b.output("kept", sum(y, {0}, true));
  b.output("columns", sum(y, {1}));
  return std::move(b).finish();
}

TEST(SummedProducts, EqualSumsOfProducts) {
  for (const Case& c : kCases) {
    const Graph g = graph_of(c);
    for (const char* name : {"y", "kept"}) {
      const Plan quick = compile(g, fetch(value(name)));
      // Where the product is read as well, it is there, and summed.
      const Plan whole = compile(g, fetch(value(name), value("product")));
      EXPECT_EQ(quick.stats().summed_products, 1) << c.name;
      EXPECT_EQ(whole.stats().summed_products, 0) << c.name;
      const Tensor a = quick.run(feeds(), {})[name], b = whole.run(feeds(), {})[name];
      EXPECT_EQ(a.shape(), b.shape());
      EXPECT_LE(max_abs_difference(a, b), 1e-12) << c.name;
    }
    EXPECT_EQ(compile(g, fetch(value("columns"))).stats().summed_products, 0) << c.name;
  }
}

// Two sums of one product share it: it is worth having.
TEST(SummedProducts, NotWhereAProductIsReadTwice) {
  Builder b;
  const Value y = matmul(b.input("a", {DType::f64, {5, 4}}), b.input("w", {DType::f64, {4, 3}}));
  b.output("y", sum(y, {0}));
  b.output("z", sum(square(y)));
  const Graph g = std::move(b).finish();
  EXPECT_EQ(compile(g, fetch(value("y"), value("z"))).stats().summed_products, 0);
}

}  // namespace
}  // namespace vitrine
