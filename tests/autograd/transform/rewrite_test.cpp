// Rewrites of a site's value by the user's own small graph.
#include "autograd/transform/rewrite.h"

#include <gmock/gmock.h>

#include "autograd/compile/plan.h"
#include "autograd/ops/ops.h"
#include "autograd/transform/gradient.h"
#include "autograd/transform/intervention.h"
#include "tests/tensor/expect_error.h"

namespace vitrine {
namespace {

const Site kS{"s"}, kScale{"ln.hook_scale"};
const Type kType{DType::f64, {2, 3}};

// y = layer_norm(s)^2, s = x; the scale of the LayerNorm lies inside a composite.
Graph model() {
  Builder b;
  const Value s = b.site(kS, b.input("x", kType), {Axis::row, Axis::feature});
  const Value one = broadcast_to(b.scalar(1, DType::f64), {3}), zero = one * 0.0;
  const Value normed = layer_norm(s, one, zero, 1e-5, "ln");
  b.output("y", square(normed));
  b.output("total", sum(square(s)));
  return std::move(b).finish();
}
const Feeds kFeeds = {{"x", Tensor::of<double>({2, 3}, {1, 2, 4, -1, 0, 3})}};

std::vector<double> run(const Graph& g, const Feeds& feeds, const Fetch& wanted,
                        std::string_view name) {
  return compile(g, wanted).run(feeds, {}).raw(name).to_vector<double>();
}

TEST(Rewrite, WhatTheFunctionGivesFlowsOn) {
  int calls = 0;
  const Graph g = rewrite(model(), kS, [&](const Value& x) {
    ++calls;
    return x * 2.0 + x.builder().input("shift", {DType::f64, {}});
  });
  Feeds feeds = kFeeds;
  feeds["shift"] = Tensor::scalar(0.5);
  EXPECT_EQ(run(g, feeds, fetch(kS), "s"), (std::vector<double>{2.5, 4.5, 8.5, -1.5, 0.5, 6.5}));
  EXPECT_EQ(run(g, feeds, fetch(before(kS)), "before(s)"),
            (std::vector<double>{1, 2, 4, -1, 0, 3}));
  EXPECT_EQ(run(g, feeds, fetch(value("total")), "total"),
            (std::vector<double>{6.25 + 20.25 + 72.25 + 2.25 + 0.25 + 42.25}));
  EXPECT_EQ(calls, 1);  // at build time only
}

TEST(Rewrite, IsDifferentiatedLikeTheRest) {
  const Graph g = rewrite(model(), kS, [](const Value& x) { return x * x; });
  // d sum (x^2)^2 / dx = 4 x^3
  EXPECT_EQ(
      run(gradient(g, "total", leaves("x")), kFeeds, fetch(grad(leaves("x"))), grad_name("x")),
      (std::vector<double>{4, 32, 256, -4, 0, 108}));
}

TEST(Rewrite, SitesInsideCompositesAreExpanded) {
  const Graph g = rewrite(model(), kScale, [](const Value& scale) { return scale * 2.0; });
  const std::vector<double> plain = run(model(), kFeeds, fetch(value("y")), "y"),
                            halved = run(g, kFeeds, fetch(value("y")), "y");
  for (std::size_t i = 0; i < plain.size(); ++i) EXPECT_NEAR(halved[i], plain[i] / 4, 1e-14);
}

// Edits made before are in what the function gets; edits made after are made to what it gives.
TEST(Rewrite, KeepsTheOrderOfEdits) {
  const auto plus_one = [](const Value& x) { return x + 1.0; };
  const Interventions twice = {scale(kS, 2)};
  const Graph first = intervene(rewrite(model(), kS, plus_one), twice);
  const Graph last = rewrite(intervene(model(), twice), kS, plus_one);
  EXPECT_EQ(run(first, with_interventions(first, twice, kFeeds), fetch(kS), "s"),
            (std::vector<double>{4, 6, 10, 0, 2, 8}));
  EXPECT_EQ(run(last, with_interventions(last, twice, kFeeds), fetch(kS), "s"),
            (std::vector<double>{3, 5, 9, -1, 1, 7}));
}

TEST(Rewrite, MistakesAreExplained) {
  const Graph g = model();
  EXPECT_ERROR(SiteError, "there is no site 't'",
               rewrite(g, Site{"t"}, [](const Value& x) { return x; }));
  EXPECT_ERROR(ShapeError,
               "the rewrite of 's' gave f64[2], but what reads the site expects f64[2, 3]",
               rewrite(g, kS, [](const Value& x) { return sum(x, {1}); }));
  EXPECT_ERROR(ShapeError, "gave f32[2, 3]",
               rewrite(g, kS, [](const Value& x) { return cast(x, DType::f32); }));
  EXPECT_ERROR(GraphError, "gave no value", rewrite(g, kS, [](const Value&) { return Value(); }));
  Builder other;
  EXPECT_ERROR(GraphError, "a value of another graph",
               rewrite(g, kS, [&](const Value&) { return other.input("x", kType); }));
  EXPECT_ERROR(GraphError, "closed a cycle",
               rewrite(g, kS, [](const Value& x) { return x + x.builder().output("y"); }));
}

}  // namespace
}  // namespace vitrine
