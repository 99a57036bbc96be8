// Ops of a program that uses the library: their rows alone tell transformations and passes what they
// have to know, and where they tell nothing, nothing is assumed.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "autograd/compile/plan.h"
#include "autograd/ops/common.h"
#include "autograd/ops/op_table.h"
#include "autograd/transform/gradient.h"
#include "autograd/transform/linearise.h"
#include "autograd/transform/recorded.h"
#include "tests/autograd/ops/samples.h"
#include "tests/autograd/sweep/check.h"
#include "tests/tensor/expect_error.h"

namespace vitrine::test {
namespace {

using ::testing::DoubleNear;
using ::testing::Pointwise;

constexpr std::int64_t kRows = 8, kWidth = 4;
constexpr double kEps = 1e-3;

// ---- the rows -----------------------------------------------------------------------------------
// out[r, c] = f(r, c, x[r, c]) of f64 matrices, whatever their strides.
template <class F>
void each(const EvalCall& c, const F& f) {
  const View &x = c.in[0], &out = c.out;
  for (std::int64_t r = 0; r < out.shape[0]; ++r) {
    for (std::int64_t k = 0; k < out.shape[1]; ++k) {
      const auto at = [&](std::int64_t column) {
        return x.as<const double>()[r * x.strides[0] + column * x.strides[1]];
      };
      out.as<double>()[r * out.shape[1] + k] = f(r, k, at);
    }
  }
}
double sigmoid_of(double x) { return 1 / (1 + std::exp(-x)); }

// An activation of one's own.
constexpr OpDef kMySilu = {.name = "my_silu",
                           .doc = "y = x s(x), s = sigmoid; dx = (s + y (1 - s)) dy",
                           .kind = OpKind::activation,
                           .infer = like_first,
                           .eval =
                               [](const EvalCall& c) {
                                 each(c, [](std::int64_t, std::int64_t k, const auto& x) {
                                   return x(k) * sigmoid_of(x(k));
                                 });
                               },
                           .vjp =
                               [](const VjpCall& c) {
                                 const Value s = sigmoid(c.in[0]);
                                 return Grads{c.grad * (s + c.out * (1.0 - s))};
                               },
                           .reach = reach_elementwise};

// A norm: no mean is taken.
constexpr OpDef kMyNorm = {
    .name = "my_norm",
    .doc = "y = x / s gain, s = sqrt(mean x^2 + eps)",
    .kind = OpKind::norm,
    .linear_in = only_inputs({1}),
    .frozen = &kSqrt,
    .infer = like_first,
    .eval =
        [](const EvalCall& c) {
          const double* gain = c.in[1].as<const double>();
          each(c, [&](std::int64_t, std::int64_t k, const auto& x) {
            double squares = 0;
            for (std::int64_t i = 0; i < kWidth; ++i) squares += x(i) * x(i);
            return x(k) / std::sqrt(squares / kWidth + kEps) * gain[k];
          });
        },
    .reach = reach_rows,
    .expand =
        [](const ExpandCall& c) {
          const std::string& prefix = c.as<NormRule>().prefix;
          Value s = sqrt(mean(square(c.in[0]), {-1}, true) + kEps);
          if (!prefix.empty())
            s = c.builder.site(prefix + ".hook_scale", s, {Axis::pos, Axis::feature});
          return c.in[0] / s * c.in[1];
        },
    .interior =
        [](const InferCall& c, const Type& out) {
          const std::string& prefix = c.as<NormRule>().prefix;
          if (prefix.empty()) return std::vector<InteriorSite>{};
          return std::vector<InteriorSite>{{{prefix + ".hook_scale", {Axis::pos, Axis::feature}},
                                            {out.dtype, {out.shape[0], 1}}}};
        }};

// It states nothing, and each row is another function of its input: to take its reach rule for more
// than it says would be wrong.
constexpr OpDef kByPlace = {.name = "by_place",
                            .doc = "y[r] = x[r]^(r + 1)",
                            .infer = like_first,
                            .eval =
                                [](const EvalCall& c) {
                                  each(c, [](std::int64_t r, std::int64_t k, const auto& x) {
                                    return std::pow(x(k), static_cast<double>(r + 1));
                                  });
                                },
                            .reach = reach_elementwise};

constexpr OpDef renamed(OpDef op, std::string_view name) {
  op.name = name;
  return op;
}
const OpDef kMyProduct = renamed(kMatmul, "my_product"), kMyRows = renamed(kGatherRows, "my_rows");

Value my_silu(const Value& x) {
  return x.builder().emit(kMySilu, {x}, NoAttributes{}, SourceLine::here());
}
Value twin_of_my_silu(const Value& x) { return x * sigmoid(x); }
Value my_norm(const Value& x, const Value& gain, const std::string& prefix) {
  return x.builder().emit(kMyNorm, {x, gain}, NormRule{kEps, prefix}, SourceLine::here());
}
Value by_place(const Value& x) {
  return x.builder().emit(kByPlace, {x}, NoAttributes{}, SourceLine::here());
}

// ---- models -------------------------------------------------------------------------------------
using Function = std::function<Value(const Value&)>;

// x [rows, width] -> pre = x w + b -> f -> y = f(pre) v; out = y of one row; total = a sum over it.
Made model(const Function& f) {
  Made m;
  Builder b;
  const Axes axes = {Axis::pos, Axis::feature};
  const auto weight = [&](const std::string& name, const Shape& shape) {
    m.parameters[name] = normal(name, shape).value;
    return b.parameter(name, {DType::f64, shape});
  };
  m.feeds = {{"x", normal("x", {kRows, kWidth}).value}};
  const Value x = b.site("stream", b.input("x", {DType::f64, {kRows, kWidth}}), axes);
  const Value pre =
      b.site("pre", linear(x, weight("w", {kWidth, kWidth}), weight("b", {kWidth})), axes);
  const Value post = b.site("post", f(pre), axes);
  const Value y = matmul(post, weight("v", {kWidth, kWidth}));
  b.output("y", y);
  const Value out = gather_rows(y, b.constant(Tensor::of<std::int32_t>({2}, {6, 1})));
  b.output("out", out);
  b.output("total", sum(out * b.constant(normal("metric", {2, kWidth}).value)));
  m.graph = std::move(b).finish();
  verify(m.graph);
  m.outputs = {"out", "y", "total"};
  return m;
}

Results run(const Made& m, const Graph& g, const Fetch& wanted, const Feeds& feeds) {
  return compile(g, wanted).run(feeds, m.parameters);
}
std::vector<double> output(const Made& m, const Graph& g, const Feeds& feeds,
                           std::string_view name = "out") {
  return run(m, g, fetch(value(name)), feeds).raw(name).to_vector<double>();
}
std::vector<double> slope(const Made& m, const Graph& g, const Feeds& feeds) {
  return run(m, gradient(g, "total", sites("stream")), fetch(grad(sites("stream"))), feeds)
      .grad("stream")
      .to_vector<double>();
}
Feeds moved(const Made& m, double by) {
  Feeds feeds = m.feeds;
  Tensor x = feeds.at("x").clone();
  for (std::int64_t i = 0; i < x.numel(); ++i)
    x.data<double>()[i] += by * std::sin(static_cast<double>(i + 1));
  feeds["x"] = x;
  return feeds;
}
// Edits of single rows of the stream and of what f reads.
std::vector<Interventions> worlds() {
  std::vector<Interventions> all;
  for (const std::int64_t row : {1, 4, 6}) {
    for (const char* site : {"stream", "pre", "post"}) {
      Where where;
      where.pos = {row};
      all.push_back({scale(Site{site}, 1.5, where)});
      all.push_back({zero(Site{site}, where)});
    }
  }
  return all;
}

// ---- an activation ------------------------------------------------------------------------------
TEST(OwnActivation, HasTheValuesAndGradientsOfWhatItIs) {
  const Made m = model(my_silu), twin = model(twin_of_my_silu);
  EXPECT_THAT(output(m, m.graph, m.feeds),
              Pointwise(DoubleNear(1e-13), output(twin, twin.graph, m.feeds)));
  EXPECT_THAT(slope(m, m.graph, m.feeds),
              Pointwise(DoubleNear(1e-12), slope(twin, twin.graph, m.feeds)));
}

TEST(OwnActivation, IsDetached) {
  const Made m = model(my_silu);
  const Graph g = linearise(m.graph, {.activation = Policy::detach});
  EXPECT_THAT(output(m, g, m.feeds), Pointwise(DoubleNear(1e-13), output(m, m.graph, m.feeds)));
  EXPECT_THAT(slope(m, g, m.feeds), Pointwise(DoubleNear(1e-12), slope(m, m.graph, m.feeds)));
  const auto second = [&](const Graph& graph) {  // of d total / d stream
    Builder b(gradient(graph, "total", sites("stream")));
    b.output("slopes", sum(square(b.output(grad_name("stream")))));
    const Graph twice = gradient(std::move(b).finish(), "slopes", leaves("x"));
    return max_abs(run(m, twice, fetch(grad(leaves("x"))), m.feeds).grad("x"));
  };
  EXPECT_EQ(second(g), 0);  // the slope is a constant
  EXPECT_GT(second(m.graph), 0.1);
}

// f(x*) + f'(x*) (x - x*), x* of the recorded run: written out with the twin's slope.
TEST(OwnActivation, IsHeld) {
  const Made m = model(my_silu);
  const Graph g = linearise(m.graph, {.activation = Policy::hold});
  const Results recorded = run(m, m.graph, fetch(held_sites(g)), m.feeds);
  const Feeds at = with_held(g, recorded, m.feeds), away = with_held(g, recorded, moved(m, 0.7));
  EXPECT_THAT(output(m, g, at), Pointwise(DoubleNear(1e-13), output(m, m.graph, m.feeds)));
  const std::vector<double> fixed = recorded.raw("pre").to_vector<double>();
  const std::vector<double> pre =
      run(m, m.graph, fetch(Site{"pre"}), moved(m, 0.7)).raw("pre").to_vector<double>();
  const std::vector<double> post =
      run(m, g, fetch(Site{"post"}), away).raw("post").to_vector<double>();
  for (std::size_t i = 0; i < pre.size(); ++i) {
    const double x = fixed[i], s = sigmoid_of(x), f = x * s, slope = s + f * (1 - s);
    EXPECT_NEAR(post[i], f + slope * (pre[i] - x), 1e-13);
    EXPECT_GT(std::abs(post[i] - pre[i] * sigmoid_of(pre[i])), 1e-12) << "it is still curved";
  }
}

// A selection of rows is moved past it: two rows of eight are computed, with the values of all.
TEST(OwnActivation, IsNarrowed) {
  const Made m = model(my_silu);
  const Plan plan = compile(m.graph, fetch(value("out")));
  const std::vector<double> all = output(m, m.graph, m.feeds, "y");
  std::vector<double> want(all.begin() + 6 * kWidth, all.begin() + 7 * kWidth);
  want.insert(want.end(), all.begin() + kWidth, all.begin() + 2 * kWidth);
  EXPECT_THAT(plan.run(m.feeds, m.parameters).raw("out").to_vector<double>(),
              Pointwise(DoubleNear(1e-13), want));
  EXPECT_EQ(plan.stats().narrowed, 3);  // linear, my_silu, matmul
}

TEST(OwnActivation, IsSweptByRow) {
  const Made m = model(my_silu), twin = model(twin_of_my_silu);
  for (int seed = 0; seed < 5; ++seed) expect_equal_to_one_by_one(m, worlds(), options_of(seed));
  const auto flops = [&](const Made& made) {
    return sweep(made.graph, made.feeds, made.parameters, worlds(), made.outputs).stats();
  };
  // Of every world one row is computed, as of the listed ops that do the same.
  EXPECT_EQ(flops(m).base_passes, flops(twin).base_passes);
  const Graph program = sweep_program(m.graph, m.feeds, m.parameters, worlds(), m.outputs);
  int of_some_rows = 0;
  for (const Node& n : program.nodes()) {
    if (n.op != &kMySilu) continue;
    ++of_some_rows;
    EXPECT_EQ(n.type.shape, (Shape{12, kWidth}));  // the worlds that edit before it, a row of each
  }
  EXPECT_EQ(of_some_rows, 1);
}

// ---- a norm -------------------------------------------------------------------------------------
Made normed(const std::string& prefix) {
  return model([&](const Value& x) {
    return my_norm(x, x.builder().constant(normal("gain", {kWidth}).value), prefix);
  });
}

TEST(OwnNorm, ScalesAreDetachedAndHeld) {
  const Made m = normed("mine"), bare = normed("");
  const Graph detached = linearise(m.graph, {.norm = Policy::detach}),
              held = linearise(m.graph, {.norm = Policy::hold});
  EXPECT_THAT(output(m, detached, m.feeds),
              Pointwise(DoubleNear(1e-13), output(m, m.graph, m.feeds)));
  const Results recorded = run(m, m.graph, fetch(held_sites(held)), m.feeds);
  const Feeds at = with_held(held, recorded, m.feeds);
  EXPECT_THAT(output(m, held, at), Pointwise(DoubleNear(1e-13), output(m, m.graph, m.feeds)));
  // Where scales are held, the output is affine: its gradient is the same everywhere, and that of
  // the detached graph here.
  const std::vector<double> here = slope(m, held, at);
  EXPECT_THAT(slope(m, held, with_held(held, recorded, moved(m, 0.7))),
              Pointwise(DoubleNear(1e-12), here));
  EXPECT_THAT(slope(m, detached, m.feeds), Pointwise(DoubleNear(1e-12), here));
  EXPECT_THAT(slope(bare, linearise(bare.graph, {.norm = Policy::detach}), m.feeds),
              Pointwise(DoubleNear(1e-12), here));
  EXPECT_GT(max_abs_difference(Tensor::of<double>({kRows * kWidth}, slope(m, m.graph, m.feeds)),
                               Tensor::of<double>({kRows * kWidth}, here)),
            1e-2);
  EXPECT_ERROR(GraphError, "the my_norm", linearise(bare.graph, {.norm = Policy::hold}));
}

// ---- products and selections --------------------------------------------------------------------
TEST(OwnProduct, IsComputedForTheColumnsThatAreRead) {
  constexpr std::int64_t kColumns = 40;
  Builder b;
  const Value x = b.input("x", {DType::f64, {kRows, kWidth}}),
              w = b.input("w", {DType::f64, {kWidth, kColumns}});
  const Value y = b.emit(kMyProduct, {x, w}, NoAttributes{}, SourceLine::here());
  const Value rows = b.emit(kMyRows, {y, b.constant(Tensor::of<std::int32_t>({3}, {7, -1, 2}))},
                            NoAttributes{}, SourceLine::here());
  b.output("some", slice(y, 1, 7, 9));
  b.output("fewer", slice(rows, 1, 3, 4));
  b.output("y", y);
  b.output("rows", rows);
  const Graph g = std::move(b).finish();
  const Feeds feeds = {{"x", normal("x", {kRows, kWidth}).value},
                       {"w", normal("w", {kWidth, kColumns}).value}};
  const Plan some = compile(g, fetch(value("some"), value("fewer")));
  EXPECT_EQ(some.stats().narrowed_columns, 1);
  const Results narrow = some.run(feeds, {}),
                whole = compile(g, fetch(value("y"), value("rows"))).run(feeds, {});
  EXPECT_LE(max_abs_difference(narrow.raw("some"), whole.raw("y").slice(1, 7, 9).contiguous()),
            1e-14);
  EXPECT_LE(max_abs_difference(narrow.raw("fewer"), whole.raw("rows").slice(1, 3, 4).contiguous()),
            1e-14);
}

// ---- an op that states nothing ------------------------------------------------------------------
TEST(UnstatedOp, IsRefusedByName) {
  const Made m = model(by_place);
  for (const Policies& p : {Policies{.norm = Policy::detach},
                            {.attention = Policy::hold},
                            {.activation = Policy::detach},
                            {.activation = Policy::hold}}) {
    EXPECT_ERROR(GraphError, "'by_place'", linearise(m.graph, p));
    EXPECT_ERROR(GraphError, "own_ops_test.cpp:", linearise(m.graph, p));
  }
  EXPECT_NO_THROW(linearise(m.graph, {}));
  EXPECT_NO_THROW(
      linearise(model([](const Value& x) { return x; }).graph, {.norm = Policy::detach}));
}

// Only what a gradient can pass is on the way.
TEST(UnstatedOp, IsOfNoConcernBesideTheWay) {
  const Policies p = {.norm = Policy::detach, .activation = Policy::detach};
  const auto beside = [](const Value& x) {
    Builder& b = x.builder();
    by_place(x);  // nothing reads it
    return x + by_place(b.constant(normal("c", {kRows, kWidth}).value));
  };
  EXPECT_NO_THROW(linearise(model(beside).graph, p));
}

TEST(UnstatedOp, IsComputedInFull) {
  const Made m = model(by_place);
  const Plan plan = compile(m.graph, fetch(value("out")));
  const std::vector<double> all = output(m, m.graph, m.feeds, "y");
  std::vector<double> want(all.begin() + 6 * kWidth, all.begin() + 7 * kWidth);
  want.insert(want.end(), all.begin() + kWidth, all.begin() + 2 * kWidth);
  EXPECT_THAT(plan.run(m.feeds, m.parameters).raw("out").to_vector<double>(),
              Pointwise(DoubleNear(1e-12), want));
  EXPECT_EQ(plan.stats().narrowed, 1);  // the product after it, and nothing further up
  for (int seed = 0; seed < 5; ++seed) expect_equal_to_one_by_one(m, worlds(), options_of(seed));
}

// ---- rows that are not complete -----------------------------------------------------------------
TEST(OwnOps, WhatARowLacksIsSaid) {
  const auto lacks = [](const char* what, void (*spoil)(OpDef&), OpDef op = kMySilu) {
    EXPECT_EQ(what_is_missing(op), "");
    spoil(op);
    EXPECT_THAT(what_is_missing(op), ::testing::HasSubstr(what));
  };
  lacks("no name", [](OpDef& op) { op.name = ""; });
  lacks("no formula", [](OpDef& op) { op.doc = ""; });
  lacks("no shape rule", [](OpDef& op) { op.infer = nullptr; });
  lacks("no kernel", [](OpDef& op) { op.eval = nullptr; });
  lacks("must have a gradient", [](OpDef& op) { op.vjp = nullptr; });
  lacks("a leaf is given", [](OpDef& op) { op.kind = OpKind::input; });
  lacks("must be a view", [](OpDef& op) { op.kind = OpKind::identity; });
  lacks("only norms and attention freeze", [](OpDef& op) { op.frozen = &kSqrt; });
  lacks(
      "what it freezes", [](OpDef& op) { op.frozen = nullptr; }, kMyNorm);
  lacks(
      "no expansion", [](OpDef& op) { op.expand = nullptr; }, kMyNorm);
  lacks(
      "in an expansion", [](OpDef& op) { op.expand = nullptr, op.interior = nullptr; }, kMyNorm);
}

TEST(OwnOps, GraphsRefuseIncompleteRowsAndNamesOfTheTable) {
  static constexpr OpDef kSpoilt = [] {
    OpDef op = kMySilu;
    op.vjp = nullptr;
    return op;
  }();
  static constexpr OpDef kImpostor = renamed(kMySilu, "relu");
  const auto graph_with = [](const OpDef& op) {
    Builder b;
    const Value x = b.input("x", {DType::f64, {2, 2}});
    b.output("y", b.emit(op, {x}, NoAttributes{}, SourceLine::here()));
    const Graph g = std::move(b).finish();  // verifies, too, in builds with assertions
    verify(g);
    return g;
  };
  EXPECT_ERROR(GraphError, "my_silu at own_ops_test.cpp:", graph_with(kSpoilt));
  EXPECT_ERROR(GraphError, "the row of its op is not complete: an activation must have a gradient",
               graph_with(kSpoilt));
  EXPECT_ERROR(GraphError, "the table has another op of this name", graph_with(kImpostor));
  EXPECT_NO_THROW(graph_with(kMySilu));
}

}  // namespace
}  // namespace vitrine::test
