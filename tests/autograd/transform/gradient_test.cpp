#include "autograd/transform/gradient.h"

#include <vector>

#include "autograd/compile/plan.h"
#include "autograd/ops/ops.h"
#include "tests/tensor/expect_error.h"

namespace vitrine {
namespace {

Type f32(const Shape& shape) { return {DType::f32, shape}; }
Tensor numbers(const Shape& shape) {
  std::vector<float> v;
  for (std::int64_t i = 0; i < numel(shape); ++i) v.push_back(static_cast<float>(i));
  return Tensor::of(shape, v);
}

TEST(Gradient, OfSitesIsOfTheValueThatFlowsOn) {
  Builder b;
  const Value x = b.input("x", f32({2}));
  const Value s = b.site("s", x * 3.0, {Axis::feature});
  b.output("y", sum(s * s));
  const Graph g = gradient(std::move(b).finish(), "y", sites("s"), leaves("x"));
  const Results r =
      compile(g, fetch(grad(sites("s")), grad(leaves("x")))).run({{"x", numbers({2})}}, {});
  EXPECT_EQ(r.grad(Site{"s"}).to_vector<float>(), (std::vector<float>{0, 6}));
  EXPECT_EQ(r.grad("x").to_vector<float>(), (std::vector<float>{0, 18}));
}

TEST(Gradient, IsExactlyZeroWhereNothingDepends) {
  Builder b;
  const Value x = b.input("x", f32({2})),
              other = b.site("other", b.parameter("w", f32({3})) * 2.0, {Axis::feature});
  b.output("y", sum(x) + sum(detach(x)));
  b.output("o", sum(other));
  const Graph g = gradient(std::move(b).finish(), "y", sites("other"), leaves("x,w"));
  const Results r = compile(g, fetch(grad(sites("other")), grad(leaves("*"))))
                        .run({{"x", numbers({2})}}, {{"w", numbers({3})}});
  EXPECT_EQ(r.grad("x").to_vector<float>(),
            (std::vector<float>{1, 1}));  // detach lets nothing through
  EXPECT_EQ(r.grad("w").to_vector<float>(), (std::vector<float>{0, 0, 0}));
  EXPECT_EQ(r.grad(Site{"other"}).to_vector<float>(), (std::vector<float>{0, 0, 0}));
}

TEST(Gradient, SaysWhyItCannot) {
  Builder b;
  const Value x = b.input("x", f32({2}));
  b.output("vector", x * 2.0);
  b.output("y", sum(x));
  const Graph g = std::move(b).finish();
  EXPECT_ERROR(GraphError,
               "gradients are taken of a scalar; 'vector' is f32[2]: take its sum or mean",
               gradient(g, "vector", leaves("x")));
  EXPECT_ERROR(SiteError, "'z'", gradient(g, "y", leaves("z")));
  EXPECT_ERROR(GraphError,
               "the graph has no gradient of 'x': add it with gradient(graph, metric, ...) first",
               compile(g, fetch(grad(leaves("x")))));
}

}  // namespace
}  // namespace vitrine
