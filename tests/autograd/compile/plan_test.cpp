#include "autograd/compile/plan.h"

#include <cmath>
#include <memory>
#include <optional>
#include <sstream>
#include <string>
#include <thread>

#include "autograd/compile/plan_cache.h"
#include "autograd/ops/ops.h"
#include "autograd/transform/gradient.h"
#include "tensor/random.h"
#include "tests/support.h"
#include "tests/tensor/expect_error.h"

namespace vitrine {
namespace {

Type f32(const Shape& shape) { return {DType::f32, shape}; }
Tensor numbers(const Shape& shape) {
  std::vector<float> v;
  for (std::int64_t i = 0; i < numel(shape); ++i) v.push_back(static_cast<float>(i));
  return Tensor::of(shape, v);
}

// What is fed may be a view into a larger tensor, and what is wanted may be just that.
TEST(Plan, GivesBackAFedViewAsItIs) {
  Builder b;
  const Value x = b.input("x", f32({1, 2})), w = b.parameter("w", f32({2}));
  b.output("x", x);
  b.output("w", w);
  b.output("half", slice(x, 1, 1, 2));
  const Results r =
      compile(std::move(b).finish(), fetch(value("x"), value("w"), value("half")))
          .run({{"x", numbers({3, 2}).slice(0, 1, 2)}}, {{"w", numbers({5}).slice(0, 3, 5)}});
  EXPECT_EQ(r["x"].to_vector<float>(), (std::vector<float>{2, 3}));
  EXPECT_EQ(r["w"].to_vector<float>(), (std::vector<float>{3, 4}));
  EXPECT_EQ(r["half"].to_vector<float>(), (std::vector<float>{3}));
}

TEST(Plan, AFeedThatIsNoInputIsNamed) {
  Builder b;
  const Value x = b.input("tokens", f32({2})), w = b.parameter("w", f32({2}));
  b.output("y", x * 2.0);
  b.output("z", b.input("other", f32({2})) + w);
  const Plan plan = compile(std::move(b).finish(), fetch(value("y")));
  const Tensor two = numbers({2});
  EXPECT_ERROR(
      GraphError,
      "the graph has no input 'tokns' (did you mean tokens?); its inputs are other, tokens",
      plan.run({{"tokens", two}, {"tokns", two}}, {}));
  EXPECT_ERROR(GraphError, "did you mean tokens?", plan.run({{"tokns", two}}, {}));
  EXPECT_ERROR(GraphError, "the graph has no input 'w'",
               plan.run({{"tokens", two}, {"w", two}}, {}));
  // Inputs that nothing wanted reads, parameters, and tables that other graphs of a batch read.
  plan.run({{"tokens", two}, {"other", two}}, {{"w", two}, {"v", two}});
  plan.run({{"tokens", two}, {"rows.last", two}, {"next.token", two}}, {});
}

// The entries of a LayerNorm of one row are features: none can be left out.
TEST(Plan, ALayerNormOfOneRowIsNotNarrowed) {
  Builder b;
  const Value x = b.input("x", f32({4}));
  const Value y = layer_norm(x, b.parameter("gain", f32({4})), b.parameter("bias", f32({4})), 0);
  b.output("y", gather_rows(y, b.constant(Tensor::of<std::int32_t>({1}, {3}))));
  const Plan plan = compile(std::move(b).finish(), fetch(value("y")));
  const Results r = plan.run({{"x", Tensor::of<float>({4}, {1, -1, 1, -1})}},
                             {{"gain", numbers({4})}, {"bias", numbers({4})}});
  EXPECT_EQ(r["y"].to_vector<float>(), (std::vector<float>{0}));
}

TEST(Plan, ReadsOnlyWhatIsWanted) {
  Builder b;
  const Value x = b.input("x", f32({2, 3})), unused = b.parameter("unused", f32({3}));
  b.output("y", b.site("s", x * 2.0, {Axis::batch, Axis::feature}) + x * 2.0);
  b.output("z", exp(unused));
  const Plan plan = compile(std::move(b).finish(), fetch(value("y")));
  EXPECT_EQ(plan.stats().steps, 2);       // one product, computed once, and the sum
  EXPECT_EQ(plan.stats().duplicates, 2);  // the product, and the constant 2
  EXPECT_EQ(plan.stats().identities, 1);
  EXPECT_EQ(plan.stats().dead, 2);
  const Results r = plan.run({{"x", numbers({2, 3})}}, {});  // no "unused" needed
  EXPECT_EQ(r["y"].to_vector<float>(), (std::vector<float>{0, 4, 8, 12, 16, 20}));
  const std::string text = plan.explain();
  EXPECT_NE(text.find("plan: 2 steps from 9 nodes"), std::string::npos) << text;
  EXPECT_NE(text.find("2 that nothing wanted reads, 1 identities (sites, detach) read through, 2 "
                      "computed twice"),
            std::string::npos)
      << text;
}

// Times are told after a run, for each kind of op, and their shares are those of the whole.
TEST(Plan, ExplainTellsWhereTheTimeWent) {
  Builder b;
  const Value x = b.input("x", f32({64, 64}));
  b.output("y", sum(tanh(matmul(x, x))));
  const Plan plan = compile(std::move(b).finish(), fetch(value("y")));
  EXPECT_EQ(plan.explain().find("a run, mean of"), std::string::npos);
  const Tensor data = numbers({64, 64});
  for (int i = 0; i < 3; ++i) plan.run({{"x", data}}, {});
  const std::string text = plan.explain();
  EXPECT_NE(text.find(" ms a run, mean of 3: "), std::string::npos) << text;
  double share = 0, products = -1;
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    if (const auto at = line.find(" %"); at != std::string::npos) {
      const double percent = std::stod(line.substr(line.find_last_of(' ', at - 1)));
      (line.find("products") != std::string::npos ? products : share) += percent;
    }
  }
  EXPECT_NEAR(share, 100, 0.3) << text;
  EXPECT_GT(products, -1 + 1e-9) << text;
  EXPECT_LE(products, 100 - 1) << text;  // the sums take time too
}

// A function of a linear that nothing else reads is applied in its tiles, with the same bits; where
// the linear is fetched, or read twice, it is a step of its own.
TEST(Plan, FusesAFunctionWithTheLinearBeforeIt) {
  for (const bool gelu : {false, true}) {
    Builder b;
    const Value x = b.input("x", f32({40, 60})), w = b.input("w", f32({60, 210})),
                bias = b.input("bias", f32({210}));
    const Value pre = b.site("pre", linear(x, w, bias), {Axis::batch, Axis::feature});
    b.output("y", gelu ? gelu_tanh(pre) : relu(pre));
    b.output("pre", pre);
    const Graph g = std::move(b).finish();
    const Feeds feeds{
        {"x", numbers({40, 60})}, {"w", numbers({60, 210})}, {"bias", numbers({210})}};
    const Plan fused = compile(g, fetch(value("y"))),
               apart = compile(g, fetch(value("y"), value("pre")));
    EXPECT_EQ(fused.stats().steps, 1);
    EXPECT_EQ(fused.stats().fused, 1);
    EXPECT_NE(fused.explain().find(gelu ? "linear_gelu_tanh" : "linear_relu"), std::string::npos);
    EXPECT_EQ(apart.stats().steps, 2);
    EXPECT_EQ(apart.stats().fused, 0);
    EXPECT_EQ(max_abs_difference(fused.run(feeds, {})["y"], apart.run(feeds, {})["y"]), 0);
  }
}

// The memory of a result goes back to the plan when nobody holds it, and not before.
TEST(Plan, ResultsReuseMemoryThatNobodyHolds) {
  Builder b;
  b.output("y", b.input("x", f32({1000})) * 2.0);
  std::optional<Plan> plan = compile(std::move(b).finish(), fetch(value("y")));
  const Feeds ones{{"x", Tensor::full({1000}, DType::f32, 1)}},
      threes{{"x", Tensor::full({1000}, DType::f32, 3)}};
  Tensor held = plan->run(ones, {})["y"];
  const float* address = held.data<float>();
  const Tensor other = plan->run(threes, {})["y"];
  EXPECT_NE(other.data<float>(), address);
  EXPECT_EQ(held.to_vector<float>(), std::vector<float>(1000, 2));
  held = Tensor();
  const Tensor again = plan->run(threes, {})["y"];
  EXPECT_EQ(again.data<float>(), address);
  plan.reset();  // results outlive their plan
  EXPECT_EQ(again.to_vector<float>(), std::vector<float>(1000, 6));
}

// A selection of rows moves up past row-wise ops and to the queries of attention: the rest is not
// computed. With index -1, zeros, as before; where all rows are wanted too, nothing moves.
TEST(Plan, RowsThatNobodyReadsAreNotComputed) {
  Builder b;
  const Type table{DType::i32, {6}};
  const RowValues rows{b.input("sequence", table), b.input("position", table),
                       b.input("keys", {DType::i32, {2, 3}})};
  const Value x = b.input("x", f32({6, 4})), w = b.input("w", f32({4, 4})),
              bias = b.input("bias", f32({4})), pick = b.input("pick", {DType::i32, {3}});
  const Value q = reshape(linear(x, w, bias), {6, 2, 2});
  Value z = attention(q, q, q, rows, 0.5, "attn");
  z = b.site("z", heads_out(z, w, bias), {Axis::row, Axis::feature});
  const Value stream =
      b.site("stream", layer_norm(x + z, bias, bias, 1e-5) * 2.0, {Axis::row, Axis::feature});
  const Value out = linear(gelu_tanh(linear(stream, w, bias)), w, bias) + stream;
  b.output("all", out);
  b.output("picked", gather_rows(out, pick));
  const Graph g = std::move(b).finish();
  Feeds feeds{{"sequence", Tensor::of<std::int32_t>({6}, {0, 0, 0, 1, 1, 1})},
              {"position", Tensor::of<std::int32_t>({6}, {0, 1, 2, 0, 1, 2})},
              {"keys", Tensor::of<std::int32_t>({2, 3}, {0, 1, 2, 3, 4, 5})},
              {"x", Tensor::empty({6, 4}, DType::f32)},
              {"w", Tensor::empty({4, 4}, DType::f32)},
              {"bias", Tensor::empty({4}, DType::f32)},
              {"pick", Tensor::of<std::int32_t>({3}, {5, -1, 2})}};
  ThreadPool pool(1);
  for (const char* name : {"x", "w", "bias"})
    random::fill_normal(pool, random::Key{static_cast<std::uint64_t>(name[0])}, feeds.at(name));
  const Plan narrow = compile(g, fetch(value("picked"))),
             whole = compile(g, fetch(value("picked"), value("all")));
  EXPECT_EQ(whole.stats().narrowed, 0);
  EXPECT_GE(narrow.stats().narrowed, 7);
  EXPECT_LT(narrow.stats().flops, whole.stats().flops);
  EXPECT_NE(narrow.explain().find("computed only for the rows that are read"), std::string::npos);
  const Tensor want = whole.run(feeds, {}).raw("picked"), got = narrow.run(feeds, {}).raw("picked");
  EXPECT_LE(max_abs_difference(got, want), 1e-5);
  EXPECT_EQ(max_abs(got.slice(0, 1, 2)), 0);
  // A site on the way that is wanted is computed whole, and what follows it is not.
  const Plan with_site = compile(g, fetch(value("picked"), Site{"stream"}));
  EXPECT_GE(with_site.stats().narrowed, 3);
  const Results r = with_site.run(feeds, {});
  EXPECT_EQ(r.raw("stream").shape(), Shape({6, 4}));
  EXPECT_LE(max_abs_difference(r.raw("picked"), want), 1e-5);
}

TEST(Plan, ViewsCostNothing) {
  Builder b;
  const Value x = b.input("x", f32({2, 6}));
  b.output("y", reshape(permute(slice(reshape(x, {2, 3, 2}), 1, 1, 3), {1, 0, 2}), {2, 4}));
  b.output("view", permute(x, {1, 0}));
  const Graph g = std::move(b).finish();
  EXPECT_EQ(compile(g, fetch(value("view"))).stats().steps, 0);
  const Plan plan = compile(g, fetch(value("y")));
  EXPECT_EQ(plan.stats().steps, 1);  // the last reshape needs a copy
  EXPECT_EQ(plan.stats().views, 3);
  const Results r = plan.run({{"x", numbers({2, 6})}}, {});
  EXPECT_EQ(r["y"].to_vector<float>(), (std::vector<float>{2, 3, 8, 9, 4, 5, 10, 11}));
}

TEST(Plan, FetchedLeavesAreCopies) {
  Builder b;
  b.output("w", permute(b.parameter("w", f32({2, 2})), {1, 0}));
  const Plan plan = compile(std::move(b).finish(), fetch(value("w")));
  Tensor w = numbers({2, 2});
  const Results r = plan.run({}, {{"w", w}});
  w.data<float>()[0] = 99;
  EXPECT_EQ(r["w"].to_vector<float>(), (std::vector<float>{0, 2, 1, 3}));
}

TEST(Plan, RejectsWrongFeeds) {
  Builder b;
  b.output("y", b.input("x", f32({2})) * b.parameter("w", f32({2})));
  const Plan plan = compile(std::move(b).finish(), fetch(value("y")));
  EXPECT_ERROR(GraphError, "the plan needs the input 'x' (f32[2]), which was not given",
               plan.run({}, {}));
  EXPECT_ERROR(GraphError, "the input 'x' must be f32[2], not f32[3]",
               plan.run({{"x", numbers({3})}}, {}));
  EXPECT_ERROR(GraphError, "the plan needs the parameter 'w'", plan.run({{"x", numbers({2})}}, {}));
  EXPECT_ERROR(GraphError, "this Plan is empty", Plan().run({}, {}));
  const Results r = plan.run({{"x", numbers({4}).slice(0, 0, 4, 2)}},
                             {{"w", numbers({2})}});  // strided feeds are fine
  EXPECT_EQ(r["y"].to_vector<float>(), (std::vector<float>{0, 2}));
  EXPECT_ERROR(GraphError, "'z' was not fetched", r["z"]);
}

TEST(Plan, SitesFetchTheValueThatFlowsOn) {
  Builder b;
  const Value x = b.input("x", f32({2}));
  b.output("y", b.site("s", x + 1.0, {Axis::feature}) * 10.0);
  const Graph g = std::move(b).finish();
  Builder e(g);
  e.edit_site("s", e.value(g.site("s").before) * 2.0);
  const Plan plan = compile(std::move(e).finish(), fetch(Site{"s"}, before(Site{"s"}), value("y")));
  const Results r = plan.run({{"x", numbers({2})}}, {});
  EXPECT_EQ(r.at("before(s)").to_vector<float>(), (std::vector<float>{1, 2}));
  EXPECT_EQ(r[Site{"s"}].to_vector<float>(), (std::vector<float>{2, 4}));
  EXPECT_EQ(r["y"].to_vector<float>(), (std::vector<float>{20, 40}));
}

TEST(Plan, MemoryIsReused) {
  Builder b;
  Value x = b.input("x", f32({1000}));
  for (int i = 0; i < 20; ++i) x = exp(x * 0.1);
  b.output("y", sum(x));
  const Plan plan = compile(std::move(b).finish(), fetch(value("y")));
  EXPECT_EQ(plan.stats().intermediate_bytes, 40 * 4000 + 4);
  EXPECT_LE(plan.stats().arena_bytes, 4032 + 64);  // each step writes over the one before
}

TEST(Plan, RunsFromManyThreadsAtOnce) {
  Builder b;
  Value x = b.input("x", f32({64, 64}));
  for (int i = 0; i < 5; ++i) x = tanh(matmul(x, x) * 0.01);
  b.output("y", x);
  const Plan plan = compile(std::move(b).finish(), fetch(value("y")));
  ThreadPool pool(2);
  const auto input = [](int i) {
    Tensor t = Tensor::empty({64, 64}, DType::f32);
    ThreadPool serial(1);
    random::fill_normal(serial, random::Key{static_cast<std::uint64_t>(i)}, t);
    return t;
  };
  std::vector<Tensor> alone, together(4);
  for (int i = 0; i < 4; ++i) alone.push_back(plan.run({{"x", input(i)}}, {})["y"]);
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&, i] {
      together[static_cast<std::size_t>(i)] = plan.run({{"x", input(i)}}, {}, {.pool = &pool})["y"];
    });
  }
  for (std::thread& t : threads) t.join();
  for (std::size_t i = 0; i < 4; ++i) EXPECT_EQ(max_abs_difference(alone[i], together[i]), 0) << i;
}

TEST(Plan, CanBeCancelledAndReportsProgress) {
  Builder b;
  Value x = b.input("x", f32({4}));
  for (int i = 0; i < 5; ++i) x = sin(x);
  b.output("y", x);
  const Plan plan = compile(std::move(b).finish(), fetch(value("y")));
  std::atomic<bool> cancel = false;
  int seen = 0;
  const auto progress = [&](int done, int total) {
    EXPECT_EQ(total, 5);
    seen = done;
    cancel = done == 3;
  };
  EXPECT_ERROR(InterruptedError, "cancelled",
               plan.run({{"x", numbers({4})}}, {}, {.cancel = &cancel, .progress = progress}));
  EXPECT_EQ(seen, 3);
}

TEST(Plan, UpdatesLeavesInPlace) {
  Builder b;
  const Value w = b.parameter("w", f32({3})), x = b.input("x", f32({3}));
  b.output("y", w * x);
  b.output("w.next", w - 0.5 * x);
  const Plan plan = compile(std::move(b).finish(), fetch(value("y")), {{"w", "w.next"}});
  EXPECT_EQ(plan.stats().update_copies, 0);
  const Tensor w0 = numbers({3});
  const Results r = plan.run({{"x", Tensor::full({3}, DType::f32, 2)}}, {{"w", w0}});
  EXPECT_EQ(r["y"].to_vector<float>(), (std::vector<float>{0, 2, 4}));  // of the old weights
  EXPECT_EQ(w0.to_vector<float>(), (std::vector<float>{-1, 0, 1}));
}

TEST(Plan, CopiesAnUpdateWhenTheOldValueIsReadLater) {
  Builder b;
  const Value w = b.parameter("w", f32({3}));
  const Value next = w * 2.0;
  b.output("w.next", next);
  b.output("y", exp(next * 0.0) + w);  // reads w after next is known
  b.output("old", w);
  const Graph g = std::move(b).finish();
  for (const Fetch& f : {fetch(value("y")), fetch(value("old"))}) {
    const Plan plan = compile(g, f, {{"w", "w.next"}});
    EXPECT_EQ(plan.stats().update_copies, 1);
    const Tensor w0 = numbers({3});
    const Results r = plan.run({}, {{"w", w0}});
    EXPECT_EQ(w0.to_vector<float>(), (std::vector<float>{0, 2, 4}));
    if (r.contains("y")) {
      EXPECT_EQ(r["y"].to_vector<float>(), (std::vector<float>{1, 2, 3}));
    } else {
      EXPECT_EQ(r["old"].to_vector<float>(), (std::vector<float>{0, 1, 2}));
    }
  }
}

// A step may write over the leaf that it reads only where it reads it element by element.
TEST(Plan, AnUpdateOfABroadcastLeafReadsTheOldValues) {
  Builder b;
  const Value w = b.parameter("w", f32({4, 4})), x = b.input("x", f32({4, 4}));
  b.output("w.next", slice(w, 0, 0, 1) + x);
  const Plan plan = compile(std::move(b).finish(), fetch(value("w.next")), {{"w", "w.next"}});
  const Tensor w0 = Tensor::full({4, 4}, DType::f32, 1);
  plan.run({{"x", Tensor::full({4, 4}, DType::f32, 1)}}, {{"w", w0}});
  EXPECT_EQ(w0.to_vector<float>(), std::vector<float>(16, 2));
}

// Every update is of the values before the run: names, and so the order of updates, do not matter.
TEST(Plan, UpdatesReadTheOldValuesOfEachOther) {
  const auto vectors = [](const Parameters& p) {
    return std::pair(p.at("a").to_vector<float>(), p.at("w").to_vector<float>());
  };
  using V = std::vector<float>;
  for (const bool other_name : {false, true}) {
    const std::string w_name = other_name ? "A" : "w";
    Builder b;
    const Value w = b.parameter(w_name, f32({2, 2})), a = b.parameter("a", f32({2, 2}));
    b.output("same", identity(w));
    b.output("turned", permute(w, {1, 0}));
    b.output("a.turned", permute(a, {1, 0}));
    b.output("more", w + 1.0);
    const Graph g = std::move(b).finish();
    const auto run = [&](const Updates& updates) {
      Parameters p = {{w_name, Tensor::of<float>({2, 2}, {1, 2, 3, 4})},
                      {"a", Tensor::of<float>({2, 2}, {5, 6, 7, 8})}};
      compile(g, fetch(value("more")), updates).run({}, p);
      p["w"] = p[w_name];
      return vectors(p);
    };
    EXPECT_EQ(run({{"a", "same"}, {w_name, "more"}}), std::pair(V({1, 2, 3, 4}), V({2, 3, 4, 5})));
    EXPECT_EQ(run({{"a", "turned"}, {w_name, "a.turned"}}),
              std::pair(V({1, 3, 2, 4}), V({5, 7, 6, 8})));
    EXPECT_EQ(run({{w_name, "turned"}}), std::pair(V({5, 6, 7, 8}), V({1, 3, 2, 4})));
    EXPECT_EQ(run({{"a", "more"}, {w_name, "more"}}), std::pair(V({2, 3, 4, 5}), V({2, 3, 4, 5})));
  }
}

TEST(Plan, ReadOnlyTensorsAreNotUpdated) {
  Builder b;
  const Value w = b.parameter("w", f32({3}));
  b.output("w.next", w * 2.0);
  const Plan plan = compile(std::move(b).finish(), fetch(value("w.next")), {{"w", "w.next"}});
  const Tensor mapped = numbers({3}).as_read_only();
  EXPECT_ERROR(GraphError, "the parameter 'w' is updated by this plan, but its memory is read-only",
               plan.run({}, {{"w", mapped}}));
  EXPECT_TRUE(mapped.slice(0, 0, 2).is_read_only());
  EXPECT_FALSE(mapped.clone().is_read_only());
  plan.run({}, {{"w", mapped.clone()}});
}

// What is half done cannot be undone: such a run is stopped before it begins, or not at all.
// A weight and its row of the optimiser's state lie in the same memory: right only while no step
// reads one after the other was updated.
TEST(Plan, LeavesThatShareMemoryAreNotReadAfterTheirUpdate) {
  const auto plan = [](bool late) {
    Builder b;
    const Value w = b.parameter("w", f32({4})), v = b.parameter("v", f32({4}));
    const Value early = exp(w), next = v * 2.0;
    b.output("v.next", next);
    b.output("y", late ? exp(next * 0.0) + w : early);
    return compile(std::move(b).finish(), fetch(value("y")), {{"v", "v.next"}});
  };
  const Tensor both = Tensor::full({8}, DType::f32, 1);
  const Tensor low = both.slice(0, 0, 4), over = both.slice(0, 2, 6), high = both.slice(0, 4, 8);
  const auto run = [&](bool late, const Tensor& w) { plan(late).run({}, {{"w", w}, {"v", high}}); };
  EXPECT_NO_THROW(run(true, low));
  EXPECT_NO_THROW(run(false, high));
  EXPECT_ERROR(GraphError, "share memory, and this plan updates 'v'", run(true, high));
  EXPECT_ERROR(GraphError, "share memory", run(true, over));

  Builder b;
  b.output("w.next", b.parameter("w", f32({4})) * 3.0);
  b.output("v.next", b.parameter("v", f32({4})) * 2.0);
  const Plan two = compile(std::move(b).finish(), fetch(), {{"w", "w.next"}, {"v", "v.next"}});
  EXPECT_NO_THROW(two.run({}, {{"w", low}, {"v", high}}));
  EXPECT_ERROR(GraphError, "share memory", two.run({}, {{"w", over}, {"v", high}}));
}

TEST(Plan, ARunThatUpdatesIsNotCancelledInTheMiddle) {
  Builder b;
  const Value w = b.parameter("w", f32({4})), v = b.parameter("v", f32({4}));
  b.output("w.next", w + 1.0);
  b.output("v.next", exp(v) + 1.0);
  const Plan plan =
      compile(std::move(b).finish(), fetch(value("v.next")), {{"w", "w.next"}, {"v", "v.next"}});
  const Parameters p = {{"w", Tensor::zeros({4}, DType::f32)},
                        {"v", Tensor::zeros({4}, DType::f32)}};
  std::atomic<bool> cancel = false;
  plan.run({}, p, {.cancel = &cancel, .progress = [&](int, int) { cancel = true; }});
  EXPECT_EQ(p.at("w").to_vector<float>(), std::vector<float>(4, 1));
  EXPECT_EQ(p.at("v").to_vector<float>(), std::vector<float>(4, 2));
  EXPECT_ERROR(InterruptedError, "cancelled", plan.run({}, p, {.cancel = &cancel}));
  EXPECT_EQ(p.at("w").to_vector<float>(), std::vector<float>(4, 1));
}

TEST(Plan, SlicesOfOneTensorAreDifferentConstants) {
  const Tensor t = Tensor::of<float>({4}, {1, 2, 3, 4});
  const auto graph = [&](const Tensor& first, const Tensor& second) {
    Builder b;
    b.output("y", b.constant(first) + b.constant(second));
    return std::move(b).finish();
  };
  const Graph g = graph(t.slice(0, 0, 2), t.slice(0, 2, 4));
  EXPECT_EQ(compile(g, fetch(value("y"))).run({}, {})["y"].to_vector<float>(),
            (std::vector<float>{4, 6}));
  PlanCache plans;
  plans.get(g, fetch(value("y")));
  const Graph other = graph(t.slice(0, 2, 4), t.slice(0, 2, 4));
  EXPECT_EQ(plans.get(other, fetch(value("y"))).run({}, {})["y"].to_vector<float>(),
            (std::vector<float>{6, 8}));
  EXPECT_EQ(plans.hits(), 0);
}

// The same nodes, with and without a row table: what comes back is of another shape.
TEST(Plan, CachedPlansKeepTheirRowTable) {
  const auto graph = [&](bool with_table) {
    Builder b;
    const Value x = b.input("x", f32({4, 1}));
    const Value sequence = b.input("sequence", {DType::i32, {4}}),
                position = b.input("position", {DType::i32, {4}}),
                keys = b.input("keys", {DType::i32, {2, 2}});
    if (with_table) b.rows(sequence, position, keys);
    b.output("y", b.site("y", x * 2.0, {Axis::row, Axis::feature}));
    return std::move(b).finish();
  };
  const Feeds feeds = {{"x", Tensor::full({4, 1}, DType::f32, 1)},
                       {"sequence", Tensor::of<std::int32_t>({4}, {0, 0, 1, 1})},
                       {"position", Tensor::of<std::int32_t>({4}, {0, 1, 0, 1})},
                       {"keys", Tensor::of<std::int32_t>({2, 2}, {0, 1, 2, 3})}};
  PlanCache plans;
  for (const bool with_table : {true, false, true}) {
    const Results r = plans.get(graph(with_table), fetch(sites("y"))).run(feeds, {});
    EXPECT_EQ(r["y"].shape(), with_table ? Shape({2, 2, 1}) : Shape({4, 1}));
  }
  Feeds wrong = feeds;
  for (const int sequence : {-1, 2, 1 << 30}) {
    wrong["sequence"] = Tensor::of<std::int32_t>({4}, {0, 0, 1, sequence});
    EXPECT_ERROR(GraphError, "'sequence' says that row 3 belongs to sequence",
                 plans.get(graph(true), fetch(sites("y"))).run(wrong, {}));
  }
}

TEST(Plan, UpdatesAreChecked) {
  Builder b;
  const Value w = b.parameter("w", f32({3})), v = b.parameter("v", f32({3}));
  b.output("sum", sum(w));
  b.output("v", v);
  const Graph g = std::move(b).finish();
  EXPECT_ERROR(GraphError, "there is no input or parameter 'u' to update",
               compile(g, fetch(value("sum")), {{"u", "sum"}}));
  EXPECT_ERROR(GraphError, "'w' is f32[3]; it cannot be updated by 'sum', a f32[]",
               compile(g, fetch(value("sum")), {{"w", "sum"}}));
  EXPECT_ERROR(GraphError, "'w' cannot be updated by another leaf",
               compile(g, fetch(value("sum")), {{"w", "v"}}));
}

// An elementwise step may write over an input that dies there, but not over one that is fetched,
// read later, or seen twice.
TEST(Plan, WritesOverWhatIsNotNeededAgain) {
  Builder b;
  const Value x = b.input("x", f32({2, 2}));
  const Value a = x * 2.0;
  const Value t = exp(a * 0.0) + a;  // a is read twice
  b.output("a", a);
  b.output("y", (t + transpose(t)) * 3.0);
  const Graph g = std::move(b).finish();
  const Feeds feeds = {{"x", numbers({2, 2})}};
  const Results both = compile(g, fetch(value("a"), value("y"))).run(feeds, {});
  EXPECT_EQ(both["a"].to_vector<float>(), (std::vector<float>{0, 2, 4, 6}));
  EXPECT_EQ(both["y"].to_vector<float>(), (std::vector<float>{6, 24, 24, 42}));
  const Plan alone = compile(g, fetch(value("y")));
  EXPECT_GT(alone.stats().in_place, 0);
  EXPECT_EQ(alone.run(feeds, {})["y"].to_vector<float>(), (std::vector<float>{6, 24, 24, 42}));
}

TEST(Plan, NamesTheOpThatMadeNaN) {
  Builder b;
  const auto scope = b.scope("mine");
  const Value x = b.input("x", f32({2}));
  const Value y = log(x - 1.0);  // x = 0 gives log(-1)
  b.output("y", exp(y) * 2.0);
  const Plan plan = compile(std::move(b).finish(), fetch(value("y")));
  EXPECT_ERROR(NumericError,
               "NaN first appeared in op 'log' at 'log in mine' (built at plan_test.cpp:",
               plan.run({{"x", numbers({2})}}, {}));
  EXPECT_TRUE(has_nan(plan.run({{"x", numbers({2})}}, {}, {.find_nan = false})["y"]));
  EXPECT_ERROR(NumericError, "the input 'x' holds NaN",
               plan.run({{"x", Tensor::full({2}, DType::f32, NAN)}}, {}));
}

TEST(Plan, NamesTheGradientThatMadeNaN) {
  Builder b;
  const auto scope = b.scope("mine");
  const Value x = b.input("x", f32({1}));
  b.output("y", sum(sqrt(x) * 0.0));  // d sqrt at 0 is infinite, times 0
  const Graph g = gradient(std::move(b).finish(), "y", leaves("x"));
  const Plan plan = compile(g, fetch(grad(leaves("x"))));
  EXPECT_ERROR(NumericError, "grad(mine)", plan.run({{"x", numbers({1})}}, {}));
  EXPECT_ERROR(NumericError, "plan_test.cpp:", plan.run({{"x", numbers({1})}}, {}));
}

}  // namespace
}  // namespace vitrine
