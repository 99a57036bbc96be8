#include "autograd/compile/plan_cache.h"

#include <gtest/gtest.h>

#include "autograd/ops/ops.h"

namespace vitrine {
namespace {

Type f32(const Shape& shape) { return {DType::f32, shape}; }

TEST(PlanCache, KnowsEqualPrograms) {
  const auto build = [](double factor) {
    Builder b;
    b.output("y", b.input("x", f32({2})) * factor);
    return std::move(b).finish();
  };
  PlanCache cache(2);
  cache.get(build(2), fetch(value("y")));
  cache.get(build(2), fetch(value("y")));
  EXPECT_EQ(cache.hits(), 1);
  const Plan other = cache.get(build(2.000001), fetch(value("y")));
  EXPECT_EQ(cache.hits(), 1);
  cache.get(build(2), fetch(value("y")));
  cache.get(build(5), fetch(value("y")));  // drops the least recently used
  EXPECT_EQ(cache.size(), 2u);
  EXPECT_EQ(cache.hits(), 2);
  cache.get(build(2.000001), fetch(value("y")));
  EXPECT_EQ(cache.hits(), 2);
}

TEST(PlanCache, DropsPlansByTheirBytes) {
  const auto build = [](double fill) {
    Builder b;
    b.output("y", b.input("x", f32({1000})) + b.constant(Tensor::full({1000}, DType::f32, fill)));
    return std::move(b).finish();
  };
  PlanCache cache(64, 40000);  // half of it for plans: of two, with two copies of 4000 bytes each
  for (int i = 0; i < 10; ++i) {
    const Plan plan = cache.get(build(i), fetch(value("y")));
    const Results r = plan.run({{"x", Tensor::zeros({1000}, DType::f32)}}, {});
    EXPECT_EQ(r.raw("y").to_vector<double>()[999], i);
    EXPECT_LE(cache.bytes(), 40000);
  }
  EXPECT_GE(cache.size(), 1u);
  EXPECT_LE(cache.size(), 2u);
  const Graph last = build(10);
  cache.get(last, fetch(value("y")));
  cache.get(last, fetch(value("y")));
  EXPECT_EQ(cache.hits(), 1);
}

}  // namespace
}  // namespace vitrine
