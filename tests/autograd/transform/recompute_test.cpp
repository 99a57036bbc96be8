// Values computed again for the backward pass: what is copied, when, and that nothing changes.
#include "autograd/transform/recompute.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "autograd/compile/optimise.h"
#include "autograd/compile/plan.h"
#include "autograd/ops/ops.h"
#include "autograd/transform/gradient.h"
#include "tensor/error.h"
#include "tests/autograd/ops/samples.h"
#include "tests/tensor/expect_error.h"

namespace vitrine::test {
namespace {

constexpr int kLayers = 6;

// x + tanh(tanh(x) w), over and over; the sites l.LAYER.in and l.LAYER.inner.
struct Chain {
  Graph graph;  // with the gradients of "loss" of all weights
  Feeds feeds;
  Parameters parameters;
};
Chain chain(int layers = kLayers) {
  constexpr std::int64_t rows = 300, d = 8;
  Chain c;
  Builder b;
  const Axes axes = {Axis::row, Axis::feature};
  Value x = b.input("x", {DType::f32, {rows, d}});
  c.feeds["x"] = normal("x", {rows, d}).value.to(DType::f32);
  for (int layer = 0; layer < layers; ++layer) {
    const std::string name = fmt::format("w{}", layer);
    c.parameters[name] = normal(name, {d, d}).value.to(DType::f32);
    x = b.site(fmt::format("l.{}.in", layer), x, axes);
    const Value inner = b.site(fmt::format("l.{}.inner", layer), tanh(x), axes);
    x = x + tanh(matmul(inner, b.parameter(name, {DType::f32, {d, d}})));
  }
  b.output("loss", mean(square(b.site("end", x, axes))));
  c.graph = gradient(std::move(b).finish(), "loss", leaves("w*"));
  return c;
}
Plan plan_of(const Graph& g) { return compile(g, fetch(value("loss"), grad(leaves("*")))); }

int count(const Plan& plan, std::string_view op) { return count_ops(plan.graph(), op); }

void expect_same_bits(const Results& a, const Results& b) {
  ASSERT_EQ(a.names(), b.names());
  for (const std::string& name : a.names()) {
    EXPECT_EQ(a.raw(name).to_vector<float>(), b.raw(name).to_vector<float>()) << name;
    EXPECT_GT(max_abs(a.raw(name)), 0) << name;
  }
}

TEST(Recompute, ChangesNoBitAndHoldsLess) {
  const Chain c = chain();
  const Plan plain = plan_of(c.graph);
  const Results want = plain.run(c.feeds, c.parameters);
  for (const char* kept : {"l.*.in", "l.0.in,l.2.in,l.4.in", "l.1.in,end", "l.0.in,l.3.inner"}) {
    SCOPED_TRACE(kept);
    const Graph g = recompute(c.graph, sites(kept));
    verify(g);
    const Plan less = plan_of(g);
    ThreadPool two(2);
    expect_same_bits(want, less.run(c.feeds, c.parameters, {.pool = &two}));
    EXPECT_LT(less.stats().arena_bytes, plain.stats().arena_bytes);
    EXPECT_GT(less.stats().flops, plain.stats().flops);
    const std::int64_t forward = compile(c.graph, fetch(value("loss"))).stats().flops;
    EXPECT_LE(less.stats().flops, plain.stats().flops + forward);
  }
}

// Of each layer the backward pass reads both tanh; with copies, the stream is kept in their place.
TEST(Recompute, TheArenaGrowsByOneStreamALayer) {
  const auto arena = [](int layers, bool less) {
    const Graph g = chain(layers).graph;
    return plan_of(less ? recompute(g, sites("l.*.in")) : g).stats().arena_bytes;
  };
  const std::int64_t stream = 300 * 8 * 4;
  EXPECT_EQ(arena(16, false) - arena(8, false), 8 * 2 * stream);
  EXPECT_EQ(arena(16, true) - arena(8, true), 8 * stream);
}

// What is copied lies between the first kept site and the last, once, and only what gradients read.
TEST(Recompute, CopiesWhatTheBackwardPassReads) {
  const Chain c = chain();
  const Plan plain = plan_of(c.graph);
  const auto copies = [&](const char* kept, const char* op) {
    return count(plan_of(recompute(c.graph, sites(kept))), op) - count(plain, op);
  };
  // Every layer but the last: both tanh, and the product between them; not the sum.
  EXPECT_EQ(copies("l.*.in", "tanh"), 2 * (kLayers - 1));
  EXPECT_EQ(copies("l.*.in", "matmul"), kLayers - 1);
  EXPECT_EQ(copies("l.*.in", "add"), 0);
  EXPECT_EQ(copies("l.*.in", "again"), kLayers - 1);
  // Three layers from one site need the sums between them.
  EXPECT_EQ(copies("l.0.in,l.3.in", "tanh"), 6);
  EXPECT_EQ(copies("l.0.in,l.3.in", "add"), 2);
  EXPECT_EQ(copies("l.0.in,l.3.in", "again"), 1);
}

TEST(Recompute, CopiesComeRightBeforeTheyAreRead) {
  const Graph g = recompute(chain().graph, sites("l.*.in"));
  // The streams that are seen again, and the gradients of weights, in order.
  std::vector<std::string> order;
  for (const Node& n : g.nodes()) {
    if (n.op->name == "again") {
      for (const SiteEntry& s : g.sites()) {
        if (s.before == n.inputs[0]) order.push_back(s.name);
      }
    }
    for (const auto& [name, id] : g.outputs()) {
      if (id == n.id && name != "loss") order.push_back(name);
    }
  }
  EXPECT_EQ(order, (std::vector<std::string>{"grad(w5)", "l.4.in", "grad(w4)", "l.3.in", "grad(w3)",
                                             "l.2.in", "grad(w2)", "l.1.in", "grad(w1)", "l.0.in",
                                             "grad(w0)"}));
}

TEST(Recompute, OneKeptSiteLeavesNothingToDo) {
  const Chain c = chain();
  EXPECT_TRUE(same_program(recompute(c.graph, sites("l.3.in")), c.graph));
}

TEST(Recompute, KeepsNamesOfSitesInsideComposites) {
  Builder b;
  const Type row{DType::f64, {4}};
  Value x = b.input("x", {DType::f64, {3, 4}});
  for (int layer = 0; layer < 3; ++layer) {
    const std::string name = fmt::format("l.{}", layer);
    x = b.site(name + ".in", x, {Axis::row, Axis::feature});
    x = x + sin(layer_norm(x, b.parameter(name + ".gain", row), b.parameter(name + ".bias", row),
                           1e-5, name + ".ln"));
  }
  b.output("loss", sum(b.site("end", x, {Axis::row, Axis::feature})));
  const Graph g = gradient(std::move(b).finish(), "loss", leaves("*"));
  const Graph less = recompute(g, sites("l.*.in"));
  EXPECT_EQ(less.site_names(), g.site_names());
  EXPECT_GT(count_ops(less, "layer_norm"), count_ops(g, "layer_norm"));
  EXPECT_ERROR(GraphError, "'l.1.ln.hook_scale' lies hidden inside layer_norm",
               recompute(g, sites("l.0.in,l.1.ln.hook_scale")));
  EXPECT_ERROR(SiteError, "no_such", recompute(g, sites("no_such")));
}

// Without `again` the copies would be merged with what they are copies of.
TEST(Recompute, AgainIsNotMerged) {
  Builder b;
  const Value x = b.input("x", {DType::f64, {5}});
  b.output("same", tanh(x) + tanh(identity(x)));
  b.output("again", tanh(x) + tanh(again(x)) + tanh(again(x)));
  const Graph g = std::move(b).finish();
  EXPECT_EQ(compile(g, fetch(value("same"))).stats().steps, 2);
  EXPECT_EQ(compile(g, fetch(value("again"))).stats().steps, 4);
}

}  // namespace
}  // namespace vitrine::test
