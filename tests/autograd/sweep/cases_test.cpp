// Sweeps of graphs in which something is easily got wrong, against one edited run after the other.
#include <fmt/format.h>
#include <gmock/gmock.h>

#include "autograd/ops/ops.h"
#include "autograd/transform/gradient.h"
#include "autograd/transform/linearise.h"
#include "autograd/transform/rewrite.h"
#include "tensor/error.h"
#include "tests/autograd/ops/samples.h"
#include "tests/autograd/sweep/check.h"
#include "tests/tensor/expect_error.h"

namespace vitrine::test {
namespace {

using ::testing::HasSubstr;

// All ways of saving, and without any of them.
void expect_equal_with_all_options(const Made& m, const std::vector<Interventions>& worlds) {
  for (int off = 0; off < 16; ++off) {
    SCOPED_TRACE(fmt::format("switched off: {:04b}", off));
    expect_equal_to_one_by_one(m, worlds,
                               {.memory = off == 5 ? 1 : 1 << 30,  // one world a pass
                                .by_row = (off & 1) == 0,
                                .by_head = (off & 2) == 0,
                                .by_difference = (off & 4) == 0,
                                .by_demand = (off & 8) == 0});
  }
}

Value f64_input(Made& m, Builder& b, const std::string& name, const Shape& shape) {
  m.feeds[name] = normal(name, shape).value;
  return b.input(name, {DType::f64, shape});
}

// A query that is made to look ahead reads what lies there, edited too, though attention as it was
// never would.
TEST(SweepCases, APatternThatIsOpenedToALaterKey) {
  Made m(small_transformer(), {"first"});
  Builder b(m.graph);
  b.output("first", slice(b.output("out"), 0, 1, 2));  // position 1 of the first prompt
  m.graph = std::move(b).finish();
  const Edit open = replace(Site{"attn.hook_pattern"}, Tensor::full({}, DType::f64, 0.5),
                            {.prompt = {0}, .pos = {1}, .key = {2}});
  const Edit scores = replace(Site{"attn.hook_attn_scores"}, Tensor::full({}, DType::f64, 0.5),
                              {.prompt = {0}, .pos = {1}, .key = {2}});
  const Edit later = add(Site{"resid_pre"}, normal("v", {4}).value, 1, {.prompt = {0}, .pos = {2}});
  const Edit zeroed = zero(Site{"attn.hook_pattern"}, {.head = {0}});
  expect_equal_with_all_options(m,
                                {{later}, {open}, {open, later}, {scores, later}, {zeroed, later}});
}

// Two prompts that share a prefix, whose keys are computed once; and prompts of two lengths.
TEST(SweepCases, KeysOfTwoPromptsAndPromptsOfTwoLengths) {
  for (const auto& keys : {std::vector<std::int32_t>{0, 1, 2, 0, 3, 4},
                           std::vector<std::int32_t>{0, 1, 2, 4, 3, -1}}) {
    Made m(small_transformer(), {"out", "total"});
    m.feeds["sequence"] = Tensor::of<std::int32_t>({6}, {0, 0, 0, 1, 1, 0});
    m.feeds["position"] = Tensor::of<std::int32_t>({6}, {0, 1, 2, 1, 2, 1});
    m.feeds["keys"] = Tensor::of<std::int32_t>({2, 3}, keys);
    std::vector<Interventions> worlds;
    for (const char* site : {"resid_pre", "q_input", "k_input", "v_input", "attn.hook_pattern"}) {
      for (std::int64_t p = 0; p < 3; ++p) worlds.push_back({scale(Site{site}, 2, {.pos = {p}})});
      worlds.push_back({zero(Site{site}, {.prompt = {1}})});
      worlds.push_back(worlds.back().then({scale(Site{"resid_pre"}, 0.5, {.pos = {1}})}));
      if (std::string_view(site) != "resid_pre")
        worlds.push_back({scale(Site{site}, 2, {.head = {1}})});
    }
    expect_equal_with_all_options(m, worlds);
  }
}

// Key heads that two heads share, of some of which the keys change; and what a window hides.
TEST(SweepCases, GroupsOfHeadsAndAWindow) {
  for (const auto& keys : {std::vector<std::int32_t>{0, 1, 2, 0, 3, 4},
                           std::vector<std::int32_t>{0, 1, 2, 4, 3, -1}}) {
    Made m(small_modern_transformer(), {"out", "total"});
    m.feeds["sequence"] = Tensor::of<std::int32_t>({6}, {0, 0, 0, 1, 1, 0});
    m.feeds["position"] = Tensor::of<std::int32_t>({6}, {0, 1, 2, 1, 2, 1});
    m.feeds["keys"] = Tensor::of<std::int32_t>({2, 3}, keys);
    std::vector<Interventions> worlds;
    for (const char* site : {"resid_pre", "q_input", "k_input", "v", "rot_k", "rot_q", "z",
                             "attn.hook_pattern", "attn.hook_attn_scores"}) {
      for (std::int64_t p = 0; p < 3; ++p) worlds.push_back({scale(Site{site}, 2, {.pos = {p}})});
      worlds.push_back({scale(Site{site}, 0.5, {.prompt = {1}})});
      worlds.push_back(worlds.back().then({scale(Site{"rot_k"}, 0.5, {.head = {1}})}));
      if (std::string_view(site) == "resid_pre") continue;
      worlds.push_back({scale(Site{site}, 2, {.head = {1}})});
      worlds.push_back(worlds.back().then({scale(Site{"v"}, 2, {.pos = {1}, .head = {0}})}));
    }
    expect_equal_with_all_options(m, worlds);
  }
}

// A key that lies before every window that is read has no effect, and is not computed.
TEST(SweepCases, WhatLiesBeforeTheWindowHasNoEffect) {
  Made m(small_modern_transformer(), {"last"});
  Builder b(m.graph);
  b.output("last", slice(b.output("out"), 0, 2, 3));  // position 2: sees 1 and 2
  m.graph = std::move(b).finish();
  const std::vector<Interventions> worlds = {{zero(Site{"rot_k"}, {.prompt = {0}, .pos = {0}})},
                                             {zero(Site{"resid_pre"}, {.prompt = {0}, .pos = {0}})},
                                             {zero(Site{"rot_k"}, {.prompt = {0}, .pos = {1}})}};
  expect_equal_with_all_options(m, worlds);
  const Swept s = sweep(m.graph, m.feeds, m.parameters, worlds, m.outputs);
  EXPECT_FALSE(s.has_effect(0));
  EXPECT_FALSE(s.has_effect(1));
  EXPECT_TRUE(s.has_effect(2));
}

// Two views of one tensor begin at the same byte and have the same shape.
TEST(SweepCases, ValuesThatAreViewsOfOneTensor) {
  Made m;
  Builder b;
  b.output("y", square(b.site("x", f64_input(m, b, "in", {3, 3}), {Axis::pos, Axis::feature})));
  m.graph = std::move(b).finish();
  m.outputs = {"y"};
  const Tensor v = normal("v", {3, 3}).value;
  const Tensor transposed = v.transpose(0, 1), first = v.slice(0, 0, 1).broadcast_to({3, 3});
  std::vector<Interventions> worlds;
  for (const Tensor& t : {v, transposed, first, v.slice(0, 1, 2)}) {
    worlds.push_back({replace(Site{"x"}, t, {.pos = {1}})});
    worlds.push_back(Interventions{add(Site{"x"}, t)}.then({project_out(Site{"x"}, t)}));
  }
  expect_equal_with_all_options(m, worlds);
}

// One number for each row and head becomes a value of three axes; two of four heads are read.
TEST(SweepCases, HeadsThatComeOutOfAMatrix) {
  Made m;
  Builder b;
  const Value gate =
      b.site("gate", sigmoid(f64_input(m, b, "in", {3, 4})), {Axis::pos, Axis::head});
  const Value z =
      b.site("z", f64_input(m, b, "z0", {3, 4, 2}), {Axis::pos, Axis::head, Axis::feature});
  b.output("gated", slice(reshape(gate, {3, 4, 1}) * z, 1, 1, 2));
  const Value index =
      b.constant(Tensor::of<std::int32_t>({3, 4}, {0, 1, 2, 0, 1, 2, 0, 1, 2, 0, 1, 2}));
  b.output("spread", slice(unpick(gate, index, 3), 1, 3, 4));
  m.graph = std::move(b).finish();
  m.outputs = {"gated", "spread"};
  std::vector<Interventions> worlds;
  for (std::int64_t p = 0; p < 3; ++p) {
    worlds.push_back({scale(Site{"gate"}, 3, {.pos = {p}})});
    worlds.push_back({scale(Site{"gate"}, 3, {.head = {p}}), zero(Site{"z"}, {.head = {1}})});
  }
  expect_equal_with_all_options(m, worlds);
}

TEST(SweepCases, RowsThatPickNothing) {
  Made m;
  Builder b;
  const Value x = b.site("x", f64_input(m, b, "in", {3, 2}), {Axis::pos, Axis::feature});
  const Value z =
      b.site("z", f64_input(m, b, "in3", {3, 4, 2}), {Axis::pos, Axis::head, Axis::feature});
  const Value index = b.constant(Tensor::of<std::int32_t>({4}, {-1, 2, -1, 0}));
  b.output("x", gather_rows(x, index));
  b.output("z", exp(gather_rows(z, index)));
  b.output("nothing", slice(gather_rows(x, index), 0, 0, 3, 2));
  m.graph = std::move(b).finish();
  m.outputs = {"x", "z", "nothing"};
  Made nothing = m;
  nothing.outputs = {"nothing"};
  expect_equal_with_all_options(nothing, {{scale(Site{"x"}, 2)}});
  expect_equal_with_all_options(m, {{scale(Site{"x"}, 2, {.pos = {2}})},
                                    {scale(Site{"z"}, 2, {.pos = {0}, .head = {1}})},
                                    {zero(Site{"z"}), zero(Site{"x"}, {.pos = {1}})}});
}

// Sites without axes, with one, of integers and truths.
TEST(SweepCases, SitesOfAnyKind) {
  Made m;
  Builder b;
  const Value x = b.site("x", f64_input(m, b, "in", {4}), {Axis::feature});
  const Value s = b.site("s", sum(x), {});
  const Value t = b.site("t", less(x, s), {Axis::feature});
  const Value i = b.site("i", argmax(x), {});
  b.output("picked", gather_rows(x, i));
  b.output("y", select(t, x * s, tanh(x)));
  b.output("i", i);
  b.output("t", t);
  m.graph = std::move(b).finish();
  m.outputs = {"picked", "y", "i", "t"};
  const Tensor direction = normal("d", {4}).value;
  const Interventions project{project_out(Site{"x"}, direction, {.feature = {1, 3}})};
  expect_equal_with_all_options(
      m, {{replace(Site{"s"}, Tensor::full({}, DType::f64, 2))},
          {zero(Site{"s"})},
          {scale(Site{"x"}, -2, {.feature = {1, 2}})},
          project,
          {project_out(Site{"x"}, Tensor::full({1}, DType::f64, 3))},
          Interventions{zero(Site{"x"}, {.feature = {0}})}.then(project).then(project),
          {replace(Site{"i"}, Tensor::of<std::int64_t>({}, {3}))},
          {replace(Site{"t"}, Tensor::of<bool>({4}, std::vector<bool>{true, false, true, true}))},
          {zero(Site{"t"}), zero(Site{"i"})}});
}

// Weights are values like others; so are outputs that nothing computes.
TEST(SweepCases, WeightsAndLeaves) {
  Made m;
  Builder b;
  const auto weight = [&](const std::string& name, const Shape& shape) {
    m.parameters[name] = normal(name, shape).value;
    return b.parameter(name, {DType::f64, shape});
  };
  const Value x = f64_input(m, b, "in", {1, 3, 4});
  const Value gain = b.site("gain", weight("gain", {4}), {Axis::feature});
  const Value w = b.site("w", weight("w", {4, 5}), {Axis::other, Axis::feature});
  const Value normed = layer_norm(x, gain, weight("bias", {4}), 1e-5, "ln");
  b.output("y", linear(normed, w, weight("c", {5})));
  b.output("in", x);
  b.output("gain", gain);
  b.output("two", b.constant(Tensor::full({2}, DType::f64, 2)));
  m.graph = std::move(b).finish();
  m.outputs = {"y", "in", "gain", "two", "y"};
  const std::vector<Interventions> worlds = {
      {},
      {scale(Site{"gain"}, 2, {.feature = {1}})},
      {zero(Site{"w"}, {.feature = {0, 4}})},
      {zero(Site{"ln.hook_normalized"}, {.pos = {1}}), scale(Site{"gain"}, 3)},
      {zero(Site{"ln.hook_normalized"}, {.pos = {1}})}};
  expect_equal_with_all_options(m, worlds);
  expect_equal_to_one_by_one(m, {}, {});
  EXPECT_FALSE(sweep(m.graph, m.feeds, m.parameters, worlds, m.outputs).has_effect(0));
}

// After other changes to the model, and in f32.
TEST(SweepCases, OfAGraphThatHasBeenChanged) {
  Made m(small_transformer(), {"out", "total"});
  m.graph =
      rewrite(m.graph, Site{"mlp.hook_pre"}, [](const Value& x) { return minimum(x, x * 0.5); });
  m.graph = linearise(m.graph, {.norm = Policy::detach, .attention = Policy::detach});
  m.graph = gradient(m.graph, "total", sites("resid_pre,attn.hook_pattern"));
  m.outputs.push_back(grad_name("resid_pre"));
  std::vector<Interventions> worlds;
  for (std::int64_t p = 0; p < 3; ++p) {
    worlds.push_back({zero(Site{"resid_pre"}, {.pos = {p}})});
    worlds.push_back({detach(Site{"resid_mid"}, {.pos = {p}}), scale(Site{"mlp.hook_pre"}, 2)});
    worlds.push_back({scale(Site{"attn.hook_pattern"}, 2, {.pos = {p}, .head = {1}})});
  }
  expect_equal_with_all_options(m, worlds);
}

// Names that a program of a sweep might give to its own sites, and those that it does give.
TEST(SweepCases, NamesThatAreTaken) {
  Made m;
  Builder b;
  const Value x = b.site("x", f64_input(m, b, "in", {3, 2}), {Axis::pos, Axis::feature});
  const Value y = b.site("x#2", tanh(x), {Axis::pos, Axis::feature});
  b.output("y", y);
  b.output("y.0", x);
  m.graph = std::move(b).finish();
  m.outputs = {"y", "y.0"};
  expect_equal_with_all_options(
      m, {{zero(Site{"x"}, {.pos = {0}})}, {scale(Site{"x"}, 2, {.pos = {1}}), zero(Site{"x#2"})}});
  Builder c;
  c.output("y", c.site("x", c.input("sweep.table.0", {DType::f64, {3}}), {Axis::pos}));
  const Graph g = std::move(c).finish();
  const std::vector<Interventions> worlds = {{zero(Site{"x"})}};
  EXPECT_ERROR(GraphError, "names that begin with 'sweep.'",
               sweep(g, {{"sweep.table.0", normal("v", {3}).value}}, {}, worlds, {"y"}));
}

TEST(SweepCases, ADirectionMustHaveAnAxisHereToo) {
  Made m(small_transformer(), {"out"});
  const std::vector<Interventions> worlds = {
      {}, {project_out(Site{"mlp_out"}, Tensor::full({}, DType::f64, 1))}};
  EXPECT_ERROR(ShapeError, "the value must have the site's feature axis",
               sweep(m.graph, m.feeds, m.parameters, worlds, m.outputs));
  // One number may be added to everything.
  expect_equal_with_all_options(m,
                                {{}, {add(Site{"mlp_out"}, Tensor::full({}, DType::f64, 1), 0.5)}});
}

TEST(SweepCases, ADirectionWithoutLengthNamesItsWorld) {
  Made m(small_transformer(), {"out"});
  const std::vector<Interventions> worlds = {
      {}, {project_out(Site{"mlp_out"}, Tensor::zeros({4}, DType::f64), {}, "nothing")}};
  EXPECT_ERROR(NumericError,
               "world 1: mlp_out without its part along nothing: the direction "
               "'nothing' has no length",
               sweep(m.graph, m.feeds, m.parameters, worlds, m.outputs));
}

}  // namespace
}  // namespace vitrine::test
