// Sweeps of models that nobody planned for, against one edited run after the other.
#include "autograd/sweep/sweep.h"

#include <fmt/format.h>
#include <gmock/gmock.h>

#include "autograd/sweep/grid.h"
#include "autograd/transform/gradient.h"
#include "tests/autograd/ops/samples.h"
#include "tests/autograd/small_transformer.h"
#include "tests/autograd/sweep/check.h"
#include "tests/tensor/expect_error.h"

namespace vitrine {
namespace {

using test::below;
using test::edited;
using test::expect_equal_to_one_by_one;
using test::Made;
using test::message_of;
using test::normal;
using test::options_of;
using test::Rng;
using test::small_transformer;
using test::SmallTransformer;
using test::some;
using ::testing::HasSubstr;

// A model of the user's own, with axes of its own and without row tables: a mixer over positions,
// a gate, a softmax over positions, pieces that are cut out, reordered and joined, and a pooled
// head. Which parts it has is drawn.
Made users_model(Rng& rng) {
  constexpr std::int64_t kBatch = 2, kPos = 4, kWidth = 6;
  Made m;
  Builder b;
  const auto fed = [&](const std::string& name, const Shape& shape) {
    m.feeds[name] = normal(name, shape).value;
    return b.input(name, {DType::f64, shape});
  };
  const auto weight = [&](const std::string& name, const Shape& shape) {
    m.parameters[name] = normal(name, shape, 0.5).value;
    return b.parameter(name, {DType::f64, shape});
  };
  const Axes stream = {Axis::batch, Axis::pos, Axis::feature};
  Value x = b.site("mine.in", fed("x", {kBatch, kPos, kWidth}), stream);
  for (int l = 0; l < 3; ++l) {
    const std::string at = fmt::format("mine.{}.", l);
    switch (below(rng, 6)) {
      case 0: {  // positions mixed by a learnt matrix
        const Value w = weight(at + "mix", {kPos, kPos});
        x = x + permute(matmul(permute(x, {0, 2, 1}), w), {0, 2, 1});
        break;
      }
      case 1:  // a gate
        x = b.site(
                at + "gate",
                sigmoid(linear(x, weight(at + "w", {kWidth, kWidth}), weight(at + "b", {kWidth}))),
                stream) *
            x;
        break;
      case 2: {  // weights over positions, by a score each
        const Value scores = matmul(x, weight(at + "score", {kWidth, 1}));
        const Value weights = b.site(at + "weights", softmax(permute(scores, {0, 2, 1})),
                                     {Axis::batch, Axis::other, Axis::key});
        x = x + matmul(weights, x);
        break;
      }
      case 3:  // halves that change places
        x = concat({slice(x, 1, 2, kPos), slice(x, 1, 0, 2)}, 1) + relu(x);
        break;
      case 4: {  // flat rows, and back
        const Value flat = reshape(x, {kBatch * kPos, kWidth});
        const Value y = gelu_tanh(matmul(flat, weight(at + "wide", {kWidth, 9})));
        const Value named = b.site(at + "flat", y, {Axis::other, Axis::feature});
        x = x + reshape(matmul(named, weight(at + "narrow", {9, kWidth})), x.shape());
        break;
      }
      default:  // centred over the batch
        x = x - mean(x, {0}, true);
        break;
    }
    x = b.site(at + "out", x, stream);
  }
  const Value pooled = b.site("mine.pooled", max(x, {1}), {Axis::batch, Axis::feature});
  b.output("pooled", pooled);
  b.output("score", mean(square(pooled)));
  b.output("first", slice(slice(pooled, 0, 0, 1), 1, 2, 3));
  m.graph = std::move(b).finish();
  m.outputs = {"pooled", "score", "first"};
  return m;
}

Edit random_edit(Rng& rng, const Graph& g) {
  std::vector<const SiteEntry*> sites;
  for (const SiteEntry& s : g.sites()) {
    const bool delicate = s.name.ends_with("hook_scale") || s.name.ends_with("attn_scores");
    if (!delicate) sites.push_back(&s);
  }
  const SiteEntry& s = *sites[static_cast<std::size_t>(below(rng, std::ssize(sites)))];
  Where where;
  for (std::size_t a = 0; a < s.axes.size(); ++a) {
    const std::int64_t n = s.type.shape[static_cast<int>(a)];
    if (s.axes[a] == Axis::row) where.prompt = some(rng, 2), where.pos = some(rng, 3);
    if (s.axes[a] == Axis::batch) where.prompt = some(rng, n);
    if (s.axes[a] == Axis::pos) where.pos = some(rng, n);
    if (s.axes[a] == Axis::head) where.head = some(rng, n);
    if (s.axes[a] == Axis::key) where.key = some(rng, n);
    if (s.axes[a] == Axis::feature && below(rng, 3) == 0) where.feature = some(rng, n);
  }
  const std::int64_t width = s.type.shape.back();
  const std::string name = fmt::format("value {}", below(rng, 5));
  switch (below(rng, 5)) {
    case 0:
      return zero(Site{s.name}, where);
    case 1:
      return scale(Site{s.name}, 0.3, where);
    case 2:
      return add(Site{s.name}, normal(name, {width}).value, 0.5, where);
    case 3:
      return project_out(Site{s.name}, normal(name, {width}).value, where);
    default:
      return replace(Site{s.name}, normal(name, s.type.shape).value, where);
  }
}

std::vector<Interventions> random_worlds(Rng& rng, const Graph& g, int count) {
  std::vector<Interventions> worlds;
  for (int w = 0; w < count; ++w) {
    Interventions what{random_edit(rng, g)};
    for (std::int64_t more = below(rng, 3); more > 0; --more)
      what = what.then({random_edit(rng, g)});
    worlds.push_back(std::move(what));
  }
  return worlds;
}

class RandomSweep : public ::testing::TestWithParam<int> {};
INSTANTIATE_TEST_SUITE_P(Seeds, RandomSweep, ::testing::Range(0, 60));

TEST_P(RandomSweep, OfAUsersModel) {
  Rng rng(static_cast<unsigned>(GetParam()));
  const Made m = users_model(rng);
  expect_equal_to_one_by_one(m, random_worlds(rng, m.graph, 10), options_of(GetParam()));
}

TEST_P(RandomSweep, OfATransformerAndItsGradients) {
  Rng rng(static_cast<unsigned>(GetParam()));
  const SmallTransformer small = small_transformer();
  Made m(small, {"total", "out"});
  if (GetParam() % 2 == 0) {
    const std::string of = GetParam() % 4 == 0 ? "resid_pre" : "mlp.hook_post";
    m.graph = gradient(m.graph, "total", sites(of));
    m.outputs.push_back(grad_name(of));
  }
  expect_equal_to_one_by_one(m, random_worlds(rng, m.graph, 10), options_of(GetParam()));
}

TEST_P(RandomSweep, OfAModernTransformerAndItsGradients) {
  Rng rng(static_cast<unsigned>(GetParam()));
  Made m(test::small_modern_transformer(), {"total", "out"});
  if (GetParam() % 2 == 0) {
    const std::string of = GetParam() % 4 == 0 ? "resid_pre" : "rot_k";
    m.graph = gradient(m.graph, "total", sites(of));
    m.outputs.push_back(grad_name(of));
  }
  expect_equal_to_one_by_one(m, random_worlds(rng, m.graph, 10), options_of(GetParam()));
}

// ---- facts ------------------------------------------------------------------------------------
TEST(Sweep, WhatCannotReachTheOutputHasExactlyNoEffectAndIsNotRun) {
  const SmallTransformer m = small_transformer();
  Builder b(m.graph);
  b.output("early", b.at(Site{"resid_mid"}));
  const Value first = slice(b.output("out"), 0, 1, 2);  // position 1 of the first prompt
  b.output("second", first);
  const Graph g = std::move(b).finish();
  const std::vector<Interventions> late = {{zero(Site{"mlp_out"})}, {scale(Site{"resid_post"}, 3)}};
  const Swept s = sweep(g, m.feeds, m.parameters, late, {"early"});
  EXPECT_EQ(s.stats().passes, 0);
  EXPECT_EQ(s.stats().without_effect, 2);
  for (std::int64_t w = 0; w < 2; ++w)
    EXPECT_EQ(max_abs_difference(s["early"].select(0, w), s.base("early")), 0);
  // A later position, and another prompt, cannot reach an earlier position.
  const std::vector<Interventions> others = {
      {zero(Site{"resid_pre"}, {.prompt = {0}, .pos = {2}})},
      {zero(Site{"k_input"}, {.prompt = {1}})},
      {zero(Site{"resid_pre"}, {.prompt = {0}, .pos = {0}})}};
  const Swept t = sweep(g, m.feeds, m.parameters, others, {"second"});
  EXPECT_EQ(t.stats().without_effect, 2);
  EXPECT_FALSE(t.has_effect(0));
  EXPECT_FALSE(t.has_effect(1));
  EXPECT_TRUE(t.has_effect(2));
  EXPECT_NE(max_abs_difference(t["second"].select(0, 2), t.base("second")), 0);
}

// Patching in what is there already: the run is not made, or made with the same bits.
TEST(Sweep, SelfPatchingChangesNoBit) {
  const SmallTransformer m = small_transformer();
  const Results own = m.run(fetch(sites("resid_pre,q_input,attn.hook_pattern,mlp_out")));
  std::vector<Interventions> worlds;
  for (const char* site : {"resid_pre", "q_input", "attn.hook_pattern", "mlp_out"}) {
    for (std::int64_t p = 0; p < 3; ++p)
      worlds.push_back({replace(Site{site}, own.raw(site), {.pos = {p}})});
  }
  for (const bool skip : {true, false}) {
    const Swept s = sweep(m.graph, m.feeds, m.parameters, worlds, {"out"}, {.by_difference = skip});
    EXPECT_EQ(s.stats().passes, skip ? 0 : 1);
    for (std::int64_t w = 0; w < std::ssize(worlds); ++w)
      EXPECT_EQ(max_abs_difference(s["out"].select(0, w), s.base("out")), 0) << w;
  }
  // The same in a single edited run, with the mask on and off.
  for (const Interventions& what : worlds) {
    const Graph g = intervene(m.graph, what);
    Feeds on = with_interventions(g, what, m.feeds), off = on;
    off["edit.0.where"] = Tensor::zeros(on["edit.0.where"].shape(), DType::boolean);
    EXPECT_EQ(max_abs_difference(m.run(g, fetch(value("out")), on).raw("out"),
                                 m.run(g, fetch(value("out")), off).raw("out")),
              0);
  }
}

// A cached plan keeps its arena: those of many passes would together be more than a pass may have.
TEST(Sweep, PassesOfASplitSweepAreNotCached) {
  const SmallTransformer m = small_transformer();
  std::vector<Interventions> worlds;
  for (const std::int64_t p : {0, 1, 2}) {
    for (const std::int64_t h : {0, 1})
      worlds.push_back({zero(Site{"attn.hook_pattern"}, {.pos = {p}, .head = {h}})});
  }
  const auto swept = [&](PlanCache& plans, std::int64_t memory) {
    return sweep(m.graph, m.feeds, m.parameters, worlds, {"out"},
                 {.plans = &plans, .memory = memory});
  };
  PlanCache whole, split;
  const Swept one = swept(whole, 1 << 30), many = swept(split, 1);
  EXPECT_EQ(one.stats().passes, 1);
  EXPECT_EQ(many.stats().passes, 6);
  EXPECT_EQ(split.size(), whole.size());
  EXPECT_LE(max_abs_difference(one["out"], many["out"]), 1e-12);
  const std::int64_t hits = whole.hits();
  swept(whole, 1 << 30);
  EXPECT_GT(whole.hits(), hits) << "one pass is found again";
}

TEST(Sweep, OrderOfDisjointEditsDoesNotMatter) {
  const SmallTransformer m = small_transformer();
  const Edit a = zero(Site{"attn.hook_pattern"}, {.pos = {1}, .head = {0}}),
             b = scale(Site{"attn.hook_pattern"}, 2, {.pos = {1}, .head = {1}}),
             c = zero(Site{"mlp.hook_post"}, {.feature = {0, 2}});
  const std::vector<Interventions> worlds = {
      {a, b, c}, {c, b, a}, Interventions{c}.then({a}).then({b}), Interventions{b}.then({a, c})};
  const Swept s = sweep(m.graph, m.feeds, m.parameters, worlds, {"out"});
  for (std::int64_t w = 1; w < 4; ++w)
    EXPECT_EQ(max_abs_difference(s["out"].select(0, w), s["out"].select(0, 0)), 0);
}

// Edits made to the whole model first: a sweep inside a steered run.
TEST(Sweep, InsideAnEditedModel) {
  const SmallTransformer m = small_transformer();
  const Interventions steer = {add(Site{"resid_pre"}, normal("direction", {4}).value, 2)};
  const Graph g = intervene(m.graph, steer);
  const Feeds feeds = with_interventions(g, steer, m.feeds);
  const std::vector<Interventions> worlds = {{zero(Site{"attn.hook_pattern"}, {.head = {1}})},
                                             {zero(Site{"resid_pre"}, {.pos = {1}})}};
  const Swept s = sweep(g, feeds, m.parameters, worlds, {"out"});
  for (std::size_t w = 0; w < 2; ++w) {
    const Interventions both = steer.then(worlds[w]);
    const Graph one = intervene(m.graph, both);
    EXPECT_LE(
        max_abs_difference(
            s["out"].select(0, static_cast<std::int64_t>(w)),
            m.run(one, fetch(value("out")), with_interventions(one, both, m.feeds)).raw("out")),
        1e-13);
  }
}

// An index that the edits change picks other rows in each world.
TEST(Sweep, RowsPickedByAComputedIndex) {
  Builder b;
  const Value x = b.site("x", b.input("in", {DType::f64, {4, 3}}), {Axis::pos, Axis::feature});
  const Value y = b.site("y", relu(x), {Axis::pos, Axis::feature});
  const Value index = argmax(transpose(x));  // for each feature the position where it is largest
  b.output("picked", gather_rows(y, index));
  b.output("fixed", gather_rows(y, b.constant(Tensor::of<std::int32_t>({3}, {2, -1, 0}))));
  Made m;
  m.graph = std::move(b).finish();
  m.feeds = {{"in", normal("in", {4, 3}).value}};
  m.outputs = {"picked", "fixed"};
  std::vector<Interventions> worlds;
  for (std::int64_t p = 0; p < 4; ++p) {
    worlds.push_back({scale(Site{"x"}, 5, {.pos = {p}})});
    worlds.push_back({add(Site{"y"}, normal("v", {3}).value, 1, {.pos = {p}})});
    worlds.push_back(worlds[worlds.size() - 2].then(worlds.back()));
  }
  expect_equal_to_one_by_one(m, worlds, {});
}

TEST(Sweep, MistakesNameTheWorld) {
  const SmallTransformer m = small_transformer();
  const auto message = [&](const Interventions& what) {
    const std::vector<Interventions> worlds = {{zero(Site{"mlp_out"})}, what};
    return message_of<Error>([&] { sweep(m.graph, m.feeds, m.parameters, worlds, {"out"}); });
  };
  EXPECT_THAT(message({zero(Site{"mlp_out"}, {.pos = {7}})}),
              HasSubstr("world 1: mlp_out[pos 7] = 0: pos 7 is outside 0 to 2"));
  EXPECT_THAT(message({zero(Site{"mlp_out"}, {.head = {0}})}),
              HasSubstr("world 1: mlp_out[head 0] = 0: the site has no axis for 'head'"));
  EXPECT_THAT(message({replace(Site{"mlp_out"}, Tensor::zeros({5}, DType::f64))}),
              HasSubstr("world 1: mlp_out = a given value: a value [5] does not fit the site"));
  EXPECT_THAT(message({zero(Site{"mlp_out"}), scale(Site{"mlp_out"}, 2)}),
              HasSubstr("change the same element; say which comes first with then()"));
  EXPECT_THAT(message({zero(Site{"mlp"})}), HasSubstr("world 1: "));
  const std::vector<Interventions> none;
  EXPECT_THAT(message_of<Error>([&] { sweep(m.graph, m.feeds, m.parameters, none, {"nothing"}); }),
              HasSubstr("nothing"));
  EXPECT_EQ(sweep(m.graph, m.feeds, m.parameters, none, {"total"}).stats().worlds, 0);
  std::atomic<bool> cancel = true;
  const std::vector<Interventions> one = {{zero(Site{"resid_pre"})}};
  EXPECT_THROW(sweep(m.graph, m.feeds, m.parameters, one, {"out"}, {.cancel = &cancel}),
               InterruptedError);
}

// ---- grids ------------------------------------------------------------------------------------
TEST(Grid, HasAWorldForEachSiteAndPlaceAndNamesThem) {
  Rng rng(4);
  const Made m = users_model(rng);
  const Grid g = grid(m.graph, sites("mine.in,mine.*.out"), {Axis::pos, Axis::batch}, zeros());
  EXPECT_EQ(g.axes, (std::vector<std::string>{"site", "pos", "prompt"}));
  EXPECT_EQ(to_string(g.shape), "[4, 4, 2]");
  ASSERT_EQ(g.worlds.size(), 32U);
  EXPECT_EQ(g.worlds[8 + 2 * 3 + 1].to_text(), "mine.0.out[prompt 1; pos 3] = 0\n");
  const GridValues v =
      label(g, sweep(m.graph, m.feeds, m.parameters, g.worlds, {"score"})["score"]);
  EXPECT_NEAR(v.at({{"site", 1}, {"pos", 3}, {"prompt", 1}}),
              edited(m, g.worlds[15]).scalar("score"), 1e-11);
  EXPECT_ERROR(GraphError, "there is no axis 'layer'; there are site, pos, prompt",
               v.at({{"layer", 1}}));
  EXPECT_ERROR(GraphError, "the place along 'prompt' is missing", v.at({{"site", 0}, {"pos", 0}}));
  EXPECT_ERROR(GraphError, "pos 4 is outside 0 to 3",
               v.at({{"site", 0}, {"pos", 4}, {"prompt", 0}}));
  EXPECT_ERROR(GraphError, "mine.in has no head axis",
               grid(m.graph, sites("mine.in"), {Axis::head}, zeros()));
  EXPECT_ERROR(GraphError, "not along 'row'",
               grid(m.graph, sites("mine.in"), {Axis::row}, zeros()));
}

TEST(Grid, CountsThePlacesOfPackedRowsAndPatterns) {
  const SmallTransformer m = small_transformer();
  const Grid g = grid(m.graph, sites("attn.hook_pattern"), {Axis::head, Axis::pos, Axis::key},
                      from(m.run(fetch(sites("attn.hook_pattern"))), "itself"));
  EXPECT_EQ(to_string(g.shape), "[1, 2, 3, 3]");
  EXPECT_EQ(g.worlds[9 + 3 + 2].to_text(), "attn.hook_pattern[pos 1; head 1; key 2] = itself\n");
  const Swept s = sweep(m.graph, m.feeds, m.parameters, g.worlds, {"total"});
  EXPECT_EQ(s.stats().passes, 0);  // what is put in is there already
  EXPECT_EQ(label(g, s["total"]).at({{"site", 0}, {"head", 1}, {"pos", 2}, {"key", 0}}),
            s.base("total").item<double>());
}

}  // namespace
}  // namespace vitrine
