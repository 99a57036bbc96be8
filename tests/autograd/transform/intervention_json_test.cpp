// Interventions as JSON: what is written comes back, and what is wrong is named.
#include "autograd/transform/intervention_json.h"

#include <gmock/gmock.h>

#include <bit>
#include <limits>

#include "tests/tensor/expect_error.h"

namespace vitrine {
namespace {

const Site kS{"blocks.2.hook_resid_post"}, kZ{"blocks.3.attn.hook_z"};
constexpr double kInfinity = std::numeric_limits<double>::infinity();

void expect_same(const Tensor& a, const Tensor& b) {
  ASSERT_EQ(a.defined(), b.defined());
  if (!a.defined()) return;
  ASSERT_EQ(a.dtype(), b.dtype());
  ASSERT_EQ(a.shape(), b.shape());
  const std::vector<double> x = a.to_vector<double>(), y = b.to_vector<double>();
  for (std::size_t i = 0; i < x.size(); ++i) {
    if (x[i] == x[i])
      EXPECT_EQ(std::bit_cast<std::uint64_t>(x[i]), std::bit_cast<std::uint64_t>(y[i]));
    else EXPECT_NE(y[i], y[i]);
  }
}
void expect_same(const Edit& a, const Edit& b) {
  EXPECT_EQ(a.site, b.site);
  EXPECT_EQ(a.action, b.action);
  EXPECT_EQ(a.where, b.where);
  EXPECT_EQ(a.from, b.from);
  EXPECT_EQ(a.factor, b.factor);
  EXPECT_EQ(a.origin, b.origin);
  EXPECT_EQ(a.permutation, b.permutation);
  expect_same(a.value, b.value);
}
void expect_round_trip(const Interventions& what) {
  const std::string json = to_json(what);
  const Interventions back = interventions_from_json(json);
  ASSERT_EQ(back.stages().size(), what.stages().size());
  for (std::size_t s = 0; s < what.stages().size(); ++s) {
    ASSERT_EQ(back.stages()[s].size(), what.stages()[s].size());
    for (std::size_t i = 0; i < what.stages()[s].size(); ++i)
      expect_same(back.stages()[s][i], what.stages()[s][i]);
  }
  EXPECT_EQ(back.to_text(), what.to_text());
  EXPECT_EQ(to_json(back), json);
}

TEST(InterventionJson, EveryActionComesBack) {
  const Tensor d = Tensor::of<double>({3}, {1.0 / 3, -0.0, 1e-310});
  Edit many = zero(kZ, {.prompt = {0, 2}, .pos = {1}, .head = {3}, .key = {4}, .feature = {5, 6}});
  many.where.push_back({.pos = {9}});
  Edit resampled = replace(kS, d, {}, "clean");
  resampled.origin = Edit::Origin::resampled;
  resampled.permutation = {2, 0, 1};
  Edit mean = replace(kS, d, {.pos = {3}}, "the corpus");
  mean.origin = Edit::Origin::mean;
  expect_round_trip(Interventions{replace(kS, d, {.pos = {4}}, "caf\u00e9 \"\n"), many, mean}
                        .then({add(kS, d, 0.1), project_out(kS, d), scale(kZ, -2.5)})
                        .then({detach(kZ), resampled}));
  expect_round_trip({});
  expect_round_trip({scale(kS, kInfinity)});
}

TEST(InterventionJson, NumbersComeBackBitByBit) {
  const float smallest = std::numeric_limits<float>::denorm_min();
  expect_round_trip({replace(
      kS, Tensor::of<float>({2, 3}, {0.1F, -0.0F, smallest, 3.4e38F, 16777217.F, -1.F / 3}))});
  expect_round_trip(
      {replace(kS, Tensor::of<double>({6}, {0.1, 1e308, 4.9e-324, -kInfinity, kInfinity,
                                            std::numeric_limits<double>::quiet_NaN()}))});
  for (const DType t : {DType::f16, DType::bf16})
    expect_round_trip({replace(kS, Tensor::of<double>({3}, {0.1, -65504, 6e-8}).to(t))});
  expect_round_trip({replace(kS, Tensor::of<std::int64_t>({2}, {INT64_MIN, INT64_MAX}))});
  expect_round_trip({replace(kS, Tensor::of<std::int32_t>({}, {-7}))});
  expect_round_trip({replace(kS, Tensor::zeros({2}, DType::boolean))});
}

// What the documentation shows can be read.
TEST(InterventionJson, CanBeWrittenByHand) {
  const Interventions what = interventions_from_json(R"({"version": 1, "stages": [[
    {"site": "blocks.2.hook_resid_post", "action": "replace", "where": [{"pos": [4]}],
     "value": {"dtype": "f32", "shape": [2], "data": [0.5, -1]},
     "origin": "given", "from": "clean"},
    {"site": "blocks.3.attn.hook_z", "action": "scale", "factor": 0.5}]]})");
  EXPECT_EQ(what.to_text(),
            "blocks.2.hook_resid_post[pos 4] = clean\nblocks.3.attn.hook_z *= 0.5\n");
  EXPECT_EQ(what.stages()[0][0].value.to_vector<float>(), (std::vector<float>{0.5F, -1}));
}

// One edit as the only one.
std::string alone(const std::string& edit) {
  return R"({"version": 1, "stages": [[)" + edit + "]]}";
}
std::string valued(const std::string& value, const std::string& more = R"("origin": "given")") {
  return alone(R"({"site": "s", "action": "replace", "from": "x", "value": )" + value + ", " +
               more + "}");
}

TEST(InterventionJson, MistakesAreNamedWithTheirPlace) {
  const std::pair<std::string, const char*> wrong[] = {
      {"", "not valid JSON"},
      {R"({"version": 1, "stages": [)", "was it cut short?"},
      {"[]", "interventions: expected an object, found an empty list"},
      {R"({"stages": []})",
       "interventions: version: expected a whole number from 0 to 1000000, found no such field"},
      {R"({"version": 2, "stages": []})", "version: expected 1, which this program reads, found 2"},
      {R"({"version": 1, "version": 1, "stages": []})", "\"version\" occurs twice"},
      {R"({"version": 1, "stages": [], "hooks": []})",
       "hooks: this field is not known, so it cannot be honoured; there may be stages or version"},
      {R"({"version": 1, "stages": [{}]})", "stages[0]: expected a list, found an empty object"},
      {alone("3"), "stages[0][0]: expected an object, found 3"},
      {alone(R"({"action": "zero"})"), "stages[0][0].site: expected a text, found no such field"},
      {alone(R"({"site": 3, "action": "zero"})"), "stages[0][0].site: expected a text, found 3"},
      {alone(R"({"site": "s", "action": "delete"})"),
       "stages[0][0].action: expected replace, zero, add, project_out, scale or detach, found "
       "\"delete\""},
      {alone(R"({"site": "s", "action": "zero", "sites": 1})"),
       "stages[0][0].sites: this field is not known, so it cannot be honoured (did you mean "
       "site?)"},
      {alone(R"({"site": "s", "action": "zero", "factor": 1})"),
       "stages[0][0].factor: 'zero' has none; remove it"},
      {alone(R"({"site": "s", "action": "scale"})"),
       "stages[0][0].factor: expected a number, \"inf\", \"-inf\" or \"nan\", found no such field"},
      {alone(R"({"site": "s", "action": "scale", "factor": "two"})"),
       "factor: expected a number, \"inf\", \"-inf\" or \"nan\", found \"two\""},
      {alone(R"({"site": "s", "action": "zero", "where": []})"),
       "stages[0][0].where: expected selections, found an empty list; leave it out"},
      {alone(R"({"site": "s", "action": "zero", "where": [{"pos": []}]})"),
       "stages[0][0].where[0].pos: expected indices, found an empty list; leave it out"},
      {alone(R"({"site": "s", "action": "zero", "where": [{"pos": [0, -1]}]})"),
       "stages[0][0].where[0].pos[1]: expected a whole number, 0 or more, found -1"},
      {alone(R"({"site": "s", "action": "zero", "where": [{"pos": [18446744073709551615]}]})"),
       "pos[0]: expected a whole number, 0 or more, found 18446744073709551615"},
      {alone(R"({"site": "s", "action": "zero", "where": [{"pos": [1.5]}]})"),
       "pos[0]: expected a whole number, 0 or more, found 1.5"},
      {alone(R"({"site": "s", "action": "zero", "where": [{"row": [1]}]})"),
       "where[0].row: this field is not known"},
      {valued(R"({"dtype": "f32", "shape": [2], "data": [1]})"),
       "stages[0][0].value.data: 1 numbers do not fill the shape [2]"},
      {valued(R"({"dtype": "f32", "shape": [4294967296, 4294967296], "data": []})"),
       "do not fill the shape"},
      {valued(R"({"dtype": "f32", "shape": [0], "data": []})"), "an axis of size 0"},
      {valued(R"({"dtype": "f32", "shape": [1,1,1,1,1,1,1,1,1], "data": [1]})"),
       "value.shape: expected the sizes of at most 8 axes, found a list of 9 items"},
      {valued(R"({"dtype": "f8", "shape": [1], "data": [1]})"),
       "value.dtype: expected f32, f64, f16, bf16, i32, i64 or bool, found \"f8\""},
      {valued(R"({"dtype": "f32", "shape": [1], "data": [true]})"), "data[0]: expected a number"},
      {valued(R"({"dtype": "f32", "shape": [1], "data": [1e300]})"),
       "data[0]: expected a number that f32 can hold, found 1e+300; it is too large"},
      {valued(R"({"dtype": "i32", "shape": [1], "data": [2147483648]})"),
       "data[0]: expected a whole number from -2147483648 to 2147483647, found 2147483648"},
      {valued(R"({"dtype": "bool", "shape": [1], "data": [1]})"),
       "data[0]: expected true or false"},
      {valued(R"({"dtype": "f32", "shape": [1], "data": [1]})", R"("origin": "resampled")"),
       "stages[0][0].permutation: expected a list, found no such field"},
      {valued(R"({"dtype": "f32", "shape": [1], "data": [1]})",
              R"("origin": "resampled", "permutation": [0, 0])"),
       "permutation: expected each of 0 to 1 once"},
      {valued(R"({"dtype": "f32", "shape": [1], "data": [1]})",
              R"("origin": "mean", "permutation": [0])"),
       "permutation: only a resampled value has one"}};
  for (const auto& [json, message] : wrong) {
    SCOPED_TRACE(json);
    EXPECT_ERROR(FileError, message, interventions_from_json(json));
  }
}

TEST(InterventionJson, WhatCannotBeWrittenIsRefused) {
  Edit bare = replace(kS, Tensor());
  EXPECT_ERROR(GraphError, "'replace' needs a value", to_json({bare}));
  EXPECT_ERROR(GraphError, "not UTF-8", to_json({zero(Site{"\xff"})}));
}

// Anything cut short is an error, never another experiment.
TEST(InterventionJson, NoPrefixIsAccepted) {
  const std::string json = to_json({replace(kS, Tensor::zeros({2}, DType::f32), {.pos = {1}})});
  for (std::size_t n = 0; n < json.size(); ++n)
    EXPECT_THROW(interventions_from_json(json.substr(0, n)), FileError) << n;
}

}  // namespace
}  // namespace vitrine
