// Stored weights: graphs say f32, plans read the bytes of the file, and the numbers are those of
// the same weights widened.
#include <gtest/gtest.h>

#include <functional>
#include <string>

#include "autograd/compile/plan.h"
#include "autograd/ops/ops.h"
#include "autograd/sweep/sweep.h"
#include "autograd/transform/gradient.h"
#include "autograd/transform/intervention.h"
#include "autograd/transform/store.h"
#include "tensor/error.h"
#include "tensor/random.h"
#include "tests/tensor/expect_error.h"
#include "tests/tensor/random_stored.h"

namespace vitrine {
namespace {

using test::kStored;
using test::random_stored;

constexpr std::int64_t kRows = 6, kWidth = 256, kVocabulary = 60;

Parameters parameters(DType dtype) {
  Parameters p;
  std::uint32_t seed = 0;
  for (const auto& [name, rows] :
       {std::pair("embed", kVocabulary), {"q", kWidth}, {"o", kWidth}, {"in", kWidth}})
    p[name] = random_stored({rows, kWidth}, dtype, ++seed);
  return p;
}
Parameters widened(const Parameters& stored) {
  Parameters wide;
  for (const auto& [name, tensor] : stored) wide[name] = tensor.to(DType::f32);
  return wide;
}
Feeds feeds() { return {{"tokens", Tensor::of<std::int32_t>({kRows}, {3, 59, 0, 7, 3, 30})}}; }

// Embedding, a projection into heads and out of them, an MLP, the embedding again: every way in
// which a model reads a weight. `dtype` is that of the leaves.
Graph model(DType dtype) {
  Builder b;
  const auto weight = [&](const char* name, std::int64_t rows) {
    return widen(b.parameter(name, {dtype, {rows, kWidth}}));
  };
  const auto vector = [&](double value) {
    return b.constant(Tensor::full({kWidth}, DType::f32, value));
  };
  const Value table = weight("embed", kVocabulary);
  Value x = gather_rows(table, b.input("tokens", {DType::i32, {kRows}}));
  x = b.site("embedded", x * b.scalar(1e-2, DType::f32), {Axis::row, Axis::feature});
  const NormedInput input{layer_norm(x, vector(1), vector(0), 1e-5, "ln"), x, vector(1), vector(0),
                          1e-5};
  const Value z = heads_in(input, transpose(weight("q", kWidth)), vector(.5), 4, "copies");
  x = x + heads_out(z, transpose(weight("o", kWidth)), vector(0), "result");
  x = b.site("middle", x, {Axis::pos, Axis::feature});
  x = gelu_tanh(linear(layer_norm(x, vector(1), vector(0), 1e-5, "ln2"),
                       transpose(weight("in", kWidth)), vector(.1)));
  const Value logits = b.site("logits", matmul(x, transpose(table)), {Axis::row, Axis::feature});
  b.output("difference", sum(slice(logits, 1, 7, 8) - slice(logits, 1, 4, 5)));
  b.output("picked",
           pick(logits, b.constant(Tensor::of<std::int32_t>({kRows}, {1, 2, 3, 4, 5, 6}))));
  b.output("energy", sum(square(logits * b.scalar(1e-3, DType::f32))));
  return std::move(b).finish();
}

// Compiles and runs the model with stored leaves and with the same weights widened, and expects the
// same bits.
Plan::Stats expect_same(DType dtype, const std::function<Graph(const Graph&)>& edit,
                        const Fetch& wanted) {
  const Parameters stored = parameters(dtype);
  const Plan plan = compile(edit(model(dtype)), wanted),
             wide = compile(edit(model(DType::f32)), wanted);
  ThreadPool pool(2);
  const Results got = plan.run(feeds(), stored, {.pool = &pool});
  const Results want = wide.run(feeds(), widened(stored), {.pool = &pool});
  EXPECT_FALSE(want.names().empty());
  for (const std::string& name : want.names()) {
    EXPECT_GT(max_abs(want.raw(name)), 0) << name;
    EXPECT_EQ(max_abs_difference(got.raw(name), want.raw(name)), 0)
        << name_of(dtype) << " " << name;
  }
  EXPECT_EQ(plan.stats().arena_bytes, wide.stats().arena_bytes) << "no f32 copy of a weight";
  return plan.stats();
}
Graph unchanged(const Graph& g) { return g; }

TEST(Stored, ProductsAndGathersReadWeightsAsTheyAreStored) {
  for (const DType dtype : kStored) {
    const Plan::Stats stats =
        expect_same(dtype, unchanged, fetch(sites("logits"), sites("middle"), value("energy")));
    EXPECT_EQ(stats.stored, 4) << name_of(dtype);
    EXPECT_EQ(stats.widened, 0) << name_of(dtype);
    const std::int64_t elements = (kVocabulary + 3 * kWidth) * kWidth;
    EXPECT_EQ(stats.parameter_bytes, bytes_of(dtype, elements));
  }
}

TEST(Stored, OnlyTheColumnsThatAreReadAreComputed) {
  for (const DType dtype : kStored) {
    const Plan::Stats stats =
        expect_same(dtype, unchanged, fetch(value("difference"), value("picked")));
    EXPECT_EQ(stats.narrowed_columns, 1) << name_of(dtype);
    EXPECT_EQ(stats.widened, 0) << name_of(dtype);
  }
}

TEST(Stored, ExpandedHeadsReadThemToo) {
  for (const DType dtype : kStored) {
    const Plan::Stats stats = expect_same(dtype, unchanged, fetch(sites("copies,result,logits")));
    EXPECT_EQ(stats.widened, 0) << name_of(dtype);
  }
}

TEST(Stored, GradientsFlowThroughThem) {
  for (const DType dtype : kStored) {
    const auto differentiated = [](const Graph& g) {
      return gradient(g, "energy", sites("embedded,middle"));
    };
    const Plan::Stats stats =
        expect_same(dtype, differentiated, fetch(value("energy"), grad(sites("*"))));
    EXPECT_EQ(stats.stored, 4) << name_of(dtype);
    EXPECT_EQ(stats.widened, 0) << name_of(dtype);
  }
}

TEST(Stored, TheLossOverAVocabularyReadsThem) {
  for (const DType dtype : kStored) {
    const Parameters stored = parameters(dtype);
    const auto results = [&](DType leaf, const Parameters& p) {
      Builder b;
      const Value x = b.site("x", b.constant(Tensor::full({3, kWidth}, DType::f32, .01)),
                             {Axis::row, Axis::feature});
      const Value w = widen(b.parameter("embed", {leaf, {kVocabulary, kWidth}}));
      b.output("loss", sum(linear_cross_entropy(
                           x, w, b.constant(Tensor::of<std::int32_t>({3}, {1, 59, 0})))));
      const Plan plan = compile(gradient(std::move(b).finish(), "loss", sites("x")),
                                fetch(value("loss"), grad(sites("x"))));
      EXPECT_EQ(plan.stats().widened, 0) << name_of(dtype);
      return plan.run({}, p);
    };
    const Results got = results(dtype, stored), want = results(DType::f32, widened(stored));
    for (const std::string& name : want.names())
      EXPECT_EQ(max_abs_difference(got.raw(name), want.raw(name)), 0)
          << name_of(dtype) << " " << name;
  }
}

TEST(Stored, AGraphWhoseLeavesAreStoredAsTheWeightsAre) {
  const Parameters stored = parameters(DType::q5_k);
  const Graph plain = model(DType::f32), g = store_as(plain, stored);
  EXPECT_EQ(g.node(g.leaf("q")).type, (Type{DType::q5_k, {kWidth, kWidth}}));
  EXPECT_EQ(g.site_names(), plain.site_names());
  EXPECT_EQ(store_as(plain, widened(stored)).hash(), plain.hash());
  const Plan plan = compile(g, fetch(value("energy")));
  EXPECT_EQ(plan.stats().stored, 4);
  EXPECT_EQ(plan.stats().widened, 0);
  EXPECT_EQ(max_abs_difference(
                plan.run(feeds(), stored).raw("energy"),
                compile(plain, fetch(value("energy"))).run(feeds(), widened(stored)).raw("energy")),
            0);
  Builder b;
  b.output("y", sum(b.parameter("q", {DType::f64, {kWidth, kWidth}})));
  EXPECT_ERROR(GraphError, "the parameter 'q' is f64[256, 256] in the graph, and stored as q5_k",
               store_as(std::move(b).finish(), stored));
}

TEST(Stored, NoGradientFlowsIntoThem) {
  EXPECT_ERROR(GraphError, "there is no gradient of 'q', which is stored as q4_k",
               gradient(model(DType::q4_k), "energy", leaves("q")));
  EXPECT_ERROR(GraphError, "stored as f16", gradient(model(DType::f16), "energy", leaves("*")));
}

TEST(Stored, SweepsReadThem) {
  for (const DType dtype : {DType::bf16, DType::q4_1, DType::q6_k}) {
    std::vector<Interventions> worlds;
    for (int row = 0; row < kRows; ++row) worlds.push_back({zero(Site{"middle"}, {.pos = {row}})});
    const Parameters stored = parameters(dtype);
    const auto swept = [&](DType leaves, const Parameters& p) {
      return sweep(model(leaves), feeds(), p, worlds, {"difference", "energy"});
    };
    const Swept got = swept(dtype, stored), want = swept(DType::f32, widened(stored));
    for (const char* name : {"difference", "energy"})
      EXPECT_EQ(max_abs_difference(got[name], want[name]), 0) << name_of(dtype) << " " << name;
  }
}

TEST(Stored, WhatIsReadOtherwiseIsWidenedInFull) {
  Builder b;
  const Value x = b.input("x", {DType::f32, {3, kWidth}});
  const Value used = b.parameter("used", {DType::q8_0, {kWidth, kWidth}}),
              added = b.parameter("added", {DType::q4_0, {3, kWidth}}),
              both = b.parameter("both", {DType::f16, {kWidth, kWidth}});
  const Value wide = widen(both);
  const Value y = matmul(x + widen(added), transpose(widen(used)));
  b.output("y", matmul(y, wide) + mean(wide, {0}));
  const Plan plan = compile(std::move(b).finish(), fetch(value("y")));
  EXPECT_EQ(plan.stats().stored, 2);   // used, both
  EXPECT_EQ(plan.stats().widened, 2);  // added, both
  const std::string text = plan.explain();
  EXPECT_NE(text.find("2 weights are read as they are stored (f16, q4_0, q8_0)"), std::string::npos)
      << text;
  EXPECT_NE(text.find("2 stored weights are widened in full in each run"), std::string::npos)
      << text;
  EXPECT_NE(text.find("added, both"), std::string::npos) << text;

  const Parameters p{{"used", random_stored({kWidth, kWidth}, DType::q8_0, 1)},
                     {"added", random_stored({3, kWidth}, DType::q4_0, 2)},
                     {"both", random_stored({kWidth, kWidth}, DType::f16, 3)}};
  Builder f;
  const auto leaf = [&](const char* name) {
    return f.input(name, {DType::f32, p.at(name).shape()});
  };
  const Value again =
      matmul(f.input("x", {DType::f32, {3, kWidth}}) + leaf("added"), transpose(leaf("used")));
  f.output("y", matmul(again, leaf("both")) + mean(leaf("both"), {0}));
  const Tensor data = Tensor::full({3, kWidth}, DType::f32, .25);
  Feeds wide_feeds = widened(p);
  wide_feeds["x"] = data;
  const Results got = plan.run({{"x", data}}, p),
                want = compile(std::move(f).finish(), fetch(value("y"))).run(wide_feeds, {});
  EXPECT_EQ(max_abs_difference(got.raw("y"), want.raw("y")), 0);
}

TEST(Stored, PartsOfWeightsAndConstants) {
  for (const DType dtype : kStored) {
    const Tensor w = random_stored({40, kWidth}, dtype, 1),
                 x = Tensor::full({2, kWidth}, DType::f32, .5);
    const auto y = [&](bool stored, bool slice_first) {
      Builder b;
      const Value leaf = b.constant(stored ? w : w.to(DType::f32));
      const Value part = slice_first ? widen(slice(leaf, 0, 5, 30)) : slice(widen(leaf), 0, 5, 30);
      b.output("y", matmul(b.constant(x), transpose(part)));
      b.output("wide", widen(leaf));
      return compile(std::move(b).finish(), fetch(value("y"), value("wide"))).run({}, {});
    };
    const Results want = y(false, true);
    for (const bool slice_first : {true, false}) {
      const Results got = y(true, slice_first);
      for (const char* name : {"y", "wide"})
        EXPECT_EQ(max_abs_difference(got.raw(name), want.raw(name)), 0) << name_of(dtype);
    }
  }
}

TEST(Stored, BlocksAreRefusedByNameWhereNothingReadsThem) {
  Builder b;
  const Value w = b.parameter("w", {DType::q5_1, {4, 64}}),
              f = b.parameter("f", {DType::f16, {4, 64}});
  EXPECT_ERROR(ShapeError, "input 0 is stored as q5_1, in blocks of 32 elements: widen() it",
               concat({w, w}, 0));
  EXPECT_ERROR(ShapeError, "stored as q5_1",
               matmul(b.input("x", {DType::f32, {2, 64}}), transpose(w)));
  EXPECT_ERROR(ShapeError, "the input is stored as f16, which nothing computes with", relu(f));
  EXPECT_ERROR(ShapeError, "stored as q5_1", equal(w, w));
}

}  // namespace
}  // namespace vitrine
