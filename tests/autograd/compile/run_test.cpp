// The phases of a run: binding, running, what is said of NaN.
#include "autograd/compile/run.h"

#include <gtest/gtest.h>

#include <cmath>

#include "autograd/ops/ops.h"
#include "tests/autograd/compile/drafts.h"
#include "tests/tensor/expect_error.h"

namespace vitrine::test {
namespace {

Type f32(const Shape& shape) { return {DType::f32, shape}; }
Tensor full(const Shape& shape, double v) { return Tensor::full(shape, DType::f32, v); }

// ---- binding ----------------------------------------------------------------------------------
struct Example {
  Graph graph;
  Draft draft;
  explicit Example(bool update) {
    Builder b;
    const Value x = b.input("x", f32({2, 2})), w = b.parameter("w", f32({2, 2}));
    b.input("unread", f32({1}));
    b.output("w.next", w + x);
    graph = std::move(b).finish();
    draft = update ? complete(graph, fetch(), {{"w", "w.next"}})
                   : complete(graph, fetch(value("w.next")));
  }
  Bound bind(const Feeds& feeds, const Parameters& parameters) const {
    return bind_leaves(draft.program, {"unread", "x"}, feeds, parameters);
  }
};

TEST(BindLeaves, InTheOrderOfTheProgramAndContiguous) {
  const Example e(false);
  const Tensor x = Tensor::of<float>({2, 2}, {1, 2, 3, 4}), w = full({2, 2}, 1);
  const Bound bound = e.bind({{"x", x.permute({1, 0})}, {"unread", full({1}, 0)}, {"rows.any", x}},
                             {{"w", w}, {"v", w}});
  ASSERT_EQ(bound.feeds.size(), 1u);
  ASSERT_EQ(bound.parameters.size(), 1u);
  EXPECT_TRUE(bound.feeds[0].is_contiguous());
  EXPECT_EQ(bound.feeds[0].to_vector<float>(), (std::vector<float>{1, 3, 2, 4}));
  EXPECT_EQ(bound.parameters[0].view().data, w.view().data);  // no copy
}

TEST(BindLeaves, SaysWhatIsWrong) {
  const Example reads(false), updates(true);
  const Tensor x = full({2, 2}, 0);
  EXPECT_ERROR(GraphError, "the graph has no input 'y'", reads.bind({{"y", x}}, {}));
  EXPECT_ERROR(GraphError, "the plan needs the input 'x' (f32[2, 2]), which was not given",
               reads.bind({}, {{"w", x}}));
  EXPECT_ERROR(GraphError, "the parameter 'w' must be f32[2, 2], not f32[4]",
               reads.bind({{"x", x}}, {{"w", full({4}, 0)}}));
  EXPECT_NO_THROW(reads.bind({{"x", x}}, {{"w", x.permute({1, 0})}}));
  EXPECT_NO_THROW(reads.bind({{"x", x}}, {{"w", x.as_read_only()}}));
  EXPECT_ERROR(GraphError, "the parameter 'w' is updated by this plan and must be contiguous",
               updates.bind({{"x", x}}, {{"w", x.permute({1, 0})}}));
  EXPECT_ERROR(GraphError, "its memory is read-only",
               updates.bind({{"x", x}}, {{"w", x.as_read_only()}}));
  EXPECT_NO_THROW(updates.bind({{"x", x.permute({1, 0})}}, {{"w", x}}));
}

// As a training step does it: "w" is read by the forward pass, its row of the state by the update,
// and the update waits for all gradients.
TEST(RequireUnshared, AWeightMayBeARowOfItsState) {
  Builder b;
  const Value w = b.parameter("w", f32({2, 2})), state = b.parameter("adamw.w", f32({3, 4})),
              v = b.parameter("v", f32({4})), x = b.input("x", f32({2, 2}));
  const Value gradient = reshape(matmul(x, w), {4});
  const Value settings = b.input("settings", {DType::f64, {3}});
  b.output("adamw.w.next", adamw(state, gradient, sum(gradient), settings, AdamWRule{}));
  b.output("v.next", v * 2.0);
  b.output("late", exp(reshape(b.output("v.next"), {2, 2})) + w);
  const Graph g = std::move(b).finish();
  const Updates updates = {{"adamw.w", "adamw.w.next"}, {"v", "v.next"}};
  const Tensor rows = full({3, 4}, 1);
  const auto check = [&](const Fetch& wanted, const Tensor& w_at, const Tensor& v_at) {
    const Draft d = complete(g, wanted, updates);
    EXPECT_EQ(d.stats.update_copies, 0);
    require_unshared(d.program, bind_leaves(d.program, {"settings", "x"},
                                            {{"x", full({2, 2}, 1)},
                                             {"settings", Tensor::zeros({3}, DType::f64)}},
                                            {{"w", w_at}, {"adamw.w", rows}, {"v", v_at}}));
  };
  const Tensor of_state = rows.select(0, 0).reshape({2, 2}), own = full({4}, 1);
  EXPECT_NO_THROW(check(fetch(), of_state, own));
  // Another update that comes first would do no harm to w where it is read before.
  EXPECT_ERROR(GraphError,
               "'w' and 'adamw.w' share memory, and this plan updates 'adamw.w' before it is done "
               "with 'w': give a clone() of one of them",
               check(fetch(value("late")), of_state, own));
  EXPECT_NO_THROW(check(fetch(value("late")), full({2, 2}, 1), own));
  EXPECT_ERROR(GraphError, "share memory, and this plan updates 'v' before it is done with 'w'",
               check(fetch(value("late")), own.reshape({2, 2}), own));
  EXPECT_ERROR(GraphError, "share memory", check(fetch(), of_state, rows.select(0, 2)));
}

// Updates that are copied at the end are copied one after the other.
TEST(RequireUnshared, WhatACopyReadsMustNotBeWrittenByOneBefore) {
  for (const bool first : {false, true}) {
    const std::string name = first ? "a" : "z";
    Builder b;
    const Value of = b.parameter(name, f32({2, 2})), m = b.parameter("m", f32({2, 2})),
                x = b.parameter("x", f32({2, 2}));
    b.output("product", matmul(of, of));
    b.output("turned", transpose(x));
    b.output("m", m);
    const Graph g = std::move(b).finish();
    const Draft d = complete(g, fetch(), {{name, "product"}, {"m", "turned"}});
    ASSERT_EQ(d.program.copies.size(), 2u);
    const Tensor shared = Tensor::of<float>({2, 2}, {1, 2, 3, 4}), own = full({2, 2}, 0);
    const Parameters given = {{name, shared}, {"x", shared}, {"m", own}};
    if (first) {
      EXPECT_ERROR(GraphError,
                   "'a' and 'x' share memory, and this plan updates 'a' before it is done with 'x'",
                   run(g, d, {}, given));
    } else {
      run(g, d, {}, given);
      EXPECT_EQ(own.to_vector<float>(), (std::vector<float>{1, 3, 2, 4}));
      EXPECT_EQ(shared.to_vector<float>(), (std::vector<float>{7, 10, 15, 22}));
    }
  }
}

TEST(RowTables, AreCheckedAndCounted) {
  Builder b;
  const Type four{DType::i32, {4}};
  const Value sequence = b.input("sequence", four), position = b.input("position", four);
  b.rows(sequence, position, b.input("keys", {DType::i32, {3, 2}}));
  b.output("x", b.input("x", f32({4, 1})) * 2.0);
  const Graph g = std::move(b).finish();
  const auto feeds = [](const std::vector<std::int32_t>& rows) {
    return Feeds{{"sequence", Tensor::of<std::int32_t>({4}, rows)},
                 {"keys", Tensor::zeros({3, 2}, DType::i32)}};
  };
  EXPECT_NO_THROW(check_row_table(g, feeds({0, 0, 2, 2})));
  EXPECT_ERROR(
      GraphError,
      "the input 'sequence' says that row 1 belongs to sequence 3; there are sequences 0 to 2",
      check_row_table(g, feeds({0, 3, 2, 2})));
  EXPECT_NO_THROW(check_row_table(g, {}));
  EXPECT_EQ(sequence_lengths(g, feeds({0, 0, 2, 0})), (std::vector<std::int64_t>{3, 0, 1}));
  EXPECT_TRUE(sequence_lengths(g, {}).empty());
  Builder plain;
  plain.output("x", plain.input("x", f32({1})));
  const Graph none = std::move(plain).finish();
  EXPECT_NO_THROW(check_row_table(none, feeds({0, 9, 9, 9})));
  EXPECT_TRUE(sequence_lengths(none, feeds({0, 0, 2, 0})).empty());
}

// ---- running ----------------------------------------------------------------------------------
struct Runner {
  const Graph& graph;
  const Draft& draft;
  Bound bound;
  std::shared_ptr<MemoryPool> memory = std::make_shared<MemoryPool>(1 << 20);
  ThreadPool pool{1};
  RunOptions options = {};
  Timing timing{draft.program.steps.size()};

  PlanRun run() { return {draft.program, graph, bound, *memory, pool, options}; }
  std::vector<Tensor> execute() { return vitrine::execute(run(), timing); }
};

TEST(Execute, GivesResultsInTheirOrderAndTimes) {
  Builder b;
  const Value x = b.input("x", f32({2, 2}));
  b.output("z", transpose(x * 2.0));
  b.output("a", x * 2.0);
  b.output("x", x);
  b.output("c", b.scalar(3, DType::f32));
  const Graph g = std::move(b).finish();
  const Draft d = complete(g, fetch(value("z"), value("a"), value("x"), value("c")));
  const Tensor given = Tensor::of<float>({2, 2}, {1, 2, 3, 4});
  Runner r{g, d, {{given}, {}}};
  int told = 0;
  r.options.progress = [&](int done, int total) {
    EXPECT_EQ(total, 1);
    told += done;
  };
  const std::vector<Tensor> results = r.execute();
  EXPECT_EQ(told, 1);
  ASSERT_EQ(results.size(), 4u);
  EXPECT_EQ(results[0].to_vector<float>(), (std::vector<float>{2, 6, 4, 8}));
  EXPECT_EQ(results[1].to_vector<float>(), (std::vector<float>{2, 4, 6, 8}));
  EXPECT_EQ(results[0].view().data, results[1].view().data);
  EXPECT_EQ(results[2].to_vector<float>(), (std::vector<float>{1, 2, 3, 4}));
  EXPECT_NE(results[2].view().data, given.view().data);  // results own their memory
  EXPECT_EQ(results[3].item<float>(), 3);
  EXPECT_EQ(r.timing.runs, 1);
  EXPECT_GT(r.timing.nanoseconds, 0);
  EXPECT_EQ(r.timing.nanoseconds, r.timing.steps[0]);
  r.execute();
  EXPECT_EQ(r.timing.runs, 2);
}

TEST(Execute, IsCancelledBetweenStepsUnlessItUpdates) {
  for (const bool update : {false, true}) {
    Builder b;
    const Value w = b.parameter("w", f32({2}));
    b.output("w.next", exp(w) + 1.0);
    b.output("y", sum(w));
    const Graph g = std::move(b).finish();
    const Updates updates = update ? Updates{{"w", "w.next"}} : Updates{};
    const Draft d = complete(g, fetch(value("y"), value("w.next")), updates);
    const Tensor w0 = full({2}, 0);
    Runner r{g, d, {{}, {w0}}};
    std::atomic<bool> cancel = false;
    int steps = 0;
    r.options.cancel = &cancel;
    r.options.progress = [&](int done, int) {
      steps = done;
      cancel = true;
    };
    if (update) {
      r.execute();
      EXPECT_EQ(w0.to_vector<float>(), (std::vector<float>{2, 2}));
      steps = 0;
      EXPECT_ERROR(InterruptedError, "the run was cancelled", r.execute());
      EXPECT_EQ(steps, 0);
    } else {
      EXPECT_ERROR(InterruptedError, "the run was cancelled", r.execute());
      EXPECT_EQ(steps, 1);
      EXPECT_EQ(r.timing.runs, 0);
    }
  }
}

// ---- NaN --------------------------------------------------------------------------------------
TEST(ReportNan, NamesTheLeafOrTheStep) {
  Builder b;
  const Value x = b.input("x", f32({2})), w = b.parameter("w", f32({2}));
  const Value logarithm = log(x);
  b.output("log", logarithm);  // wanted, so that no step writes over it
  b.output("y", exp(logarithm * w) * 2.0);
  const Graph g = std::move(b).finish();
  const Draft d = complete(g, fetch(value("y"), value("log")));
  const auto report = [&](double x_is, double w_is) {
    Runner r{g, d, {{full({2}, x_is)}, {full({2}, w_is)}}};
    EXPECT_EQ(holds_nan(r.pool, r.execute()[0]), std::isnan(x_is) || std::isnan(w_is) || x_is <= 0);
    report_nan(r.run(), "y");
  };
  EXPECT_ERROR(NumericError, "the input 'x' holds NaN", report(NAN, 1));
  EXPECT_ERROR(NumericError, "the parameter 'w' holds NaN", report(1, NAN));
  EXPECT_ERROR(NumericError,
               "NaN first appeared in op 'log' at 'log' (built at run_test.cpp:", report(-1, 1));
  EXPECT_ERROR(NumericError,
               "no input of it holds NaN: log f32[2], which holds infinities; w f32[2]",
               report(0, 0));
  EXPECT_ERROR(NumericError, "'y' holds NaN, but no step of a second run produced one",
               report(1, 1));
}

TEST(ReportNan, AnUpdatedLeafIsNotRunAgain) {
  const Example e(true);
  Runner r{e.graph, e.draft, {{full({2, 2}, NAN)}, {full({2, 2}, 0)}}};
  EXPECT_ERROR(NumericError, "'loss' holds NaN; this plan has updated its leaves",
               report_nan(r.run(), "loss"));
  EXPECT_EQ(r.bound.parameters[0].to_vector<float>(), (std::vector<float>{0, 0, 0, 0}));
}

TEST(HoldsNan, OfAnyValue) {
  ThreadPool pool(2);
  Tensor x = full({3, 5}, 1);
  EXPECT_FALSE(holds_nan(pool, x));
  x.data<float>()[7] = NAN;
  EXPECT_TRUE(holds_nan(pool, x));
  EXPECT_TRUE(holds_nan(pool, x.permute({1, 0})));
  EXPECT_FALSE(holds_nan(pool, x.slice(0, 0, 1)));
  EXPECT_FALSE(holds_nan(pool, Tensor::zeros({0}, DType::f32)));
  EXPECT_FALSE(holds_nan(pool, Tensor::zeros({2}, DType::i32)));
}

}  // namespace
}  // namespace vitrine::test
