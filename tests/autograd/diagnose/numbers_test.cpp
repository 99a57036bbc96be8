// What a run says of a user's own model: NaN, dead and exploding units, the loss, ties, gradients.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "autograd/diagnose/diagnosis.h"
#include "tests/autograd/diagnose/own_model.h"
#include "tests/autograd/small_transformer.h"

namespace vitrine::test {
namespace {

using ::testing::HasSubstr;
using Severity = Finding::Severity;

OwnModel right_model() {
  return own_model([](Builder&, const Value& scores, int) { return mask(scores, 0, 1); });
}

Finding only(const Diagnosis& d, const char* check) {
  const auto found = d.of(check);
  EXPECT_EQ(found.size(), 1U) << check << "\n" << to_string(d);
  return found.empty() ? Finding{} : found[0];
}

TEST(DiagnosedNumbers, OfARightModelAreClear) {
  const OwnModel m = right_model();
  const Diagnosis d = diagnose(m.graph, m.feeds, m.parameters);
  EXPECT_TRUE(d.ok()) << to_string(d);
  EXPECT_EQ(only(d, "nan").severity, Severity::ok);
  EXPECT_EQ(only(d, "gradient_check").severity, Severity::ok);
  EXPECT_THAT(only(d, "gradient_check").what, HasSubstr("12 entries of 6 parameters agree"));
  EXPECT_EQ(only(d, "loss").severity, Severity::ok);
  EXPECT_THAT(only(d, "tied_weights").what, HasSubstr("are two parameters"));
}

TEST(DiagnosedNumbers, OfRowTablesGroupsAndWindowsAreClear) {
  for (const SmallTransformer& m : {small_transformer(), small_modern_transformer()}) {
    const Diagnosis d =
        diagnose(m.graph, m.feeds, m.parameters,
                 {.tokens = "x", .output = "out", .loss = "total", .vocabulary = 1});
    EXPECT_TRUE(d.ok()) << to_string(d);
    EXPECT_EQ(only(d, "causality").how, "reach and gradient");
    EXPECT_EQ(only(d, "gradient_check").severity, Severity::ok);
  }
}

TEST(DiagnosedNumbers, NanNamesTheParameterOrTheOp) {
  OwnModel m = right_model();
  m.parameters["k.1"] = m.parameters["k.1"].clone();
  m.parameters["k.1"].data<float>()[2] = std::numeric_limits<float>::quiet_NaN();
  Finding f = only(diagnose(m.graph, m.feeds, m.parameters), "nan");
  EXPECT_EQ(f.severity, Severity::problem);
  EXPECT_THAT(f.what, HasSubstr("the parameter 'k.1' holds NaN"));

  const OwnModel roots =
      own_model([](Builder&, const Value& scores, int) { return mask(sqrt(scores), 0, 1); });
  f = only(diagnose(roots.graph, roots.feeds, roots.parameters), "nan");
  EXPECT_EQ(f.severity, Severity::problem);
  EXPECT_THAT(f.what, HasSubstr("op 'sqrt'"));
  EXPECT_THAT(f.what, HasSubstr("numbers_test.cpp"));
}

TEST(DiagnosedNumbers, NanOfGradientsAloneIsFound) {  // sqrt(0) is 0, its slope is not finite
  const OwnModel m = own_model(
      [](Builder&, const Value& scores, int) { return mask(scores + sqrt(scores * 0.0), 0, 1); });
  const Finding f = only(diagnose(m.graph, m.feeds, m.parameters), "nan");
  EXPECT_EQ(f.severity, Severity::problem);
  EXPECT_THAT(f.what, HasSubstr("gradient"));
}

TEST(DiagnosedNumbers, DeadUnitsAreCounted) {
  Builder b;
  const Value x = b.input("x", {DType::f32, {3, 2}});
  const Value bias = b.parameter("bias", {DType::f32, {4}});
  const Value w = b.parameter("w", {DType::f32, {2, 4}});
  b.output("y", relu(matmul(x, w) + bias));
  const Graph g = std::move(b).finish();
  const Feeds feeds = {{"x", Tensor::of({3, 2}, {1.f, 0.f, 0.f, 1.f, 1.f, 1.f})}};
  Parameters p = {{"w", Tensor::full({2, 4}, DType::f32, 1)},
                  {"bias", Tensor::of({4}, {0.f, -9.f, 0.f, 0.f})}};
  Finding f = only(diagnose(g, feeds, p, {.tokens = "x"}), "dead_units");
  EXPECT_EQ(f.severity, Severity::note);
  EXPECT_THAT(f.what, HasSubstr("1 of 4 units of relu are dead"));
  EXPECT_THAT(f.where, HasSubstr("numbers_test.cpp"));
  p["bias"] = Tensor::full({4}, DType::f32, -9);
  f = only(diagnose(g, feeds, p, {.tokens = "x"}), "dead_units");
  EXPECT_EQ(f.severity, Severity::problem);
  p["bias"] = Tensor::zeros({4}, DType::f32);
  EXPECT_EQ(only(diagnose(g, feeds, p, {.tokens = "x"}), "dead_units").severity, Severity::ok);
}

TEST(DiagnosedNumbers, ExplodingUnitsAreNamed) {
  OwnModel m = right_model();
  m.parameters["v.1"] = Tensor::full({kOwnWidth, kOwnWidth}, DType::f32, 3e7);
  const Diagnosis d = diagnose(m.graph, m.feeds, m.parameters);
  const auto found = d.of("exploding_units");
  ASSERT_FALSE(found.empty());
  EXPECT_EQ(found[0].severity, Severity::problem);
  EXPECT_EQ(found[0].site, "layer1.z");
}

TEST(DiagnosedNumbers, GrowthFromLayerToLayerIsNoted) {
  OwnModel m = right_model();
  m.parameters["v.1"] = Tensor::full({kOwnWidth, kOwnWidth}, DType::f32, 1e3);
  const Finding f = only(diagnose(m.graph, m.feeds, m.parameters), "exploding_units");
  EXPECT_EQ(f.severity, Severity::note) << to_string(f);
  EXPECT_THAT(f.what, HasSubstr("grows"));
}

TEST(DiagnosedNumbers, TheLossOfUntrainedWeights) {
  OwnModel m = right_model();
  m.parameters["unembed"] = Tensor::zeros({kOwnWidth, kOwnVocabulary}, DType::f32);
  Finding f = only(diagnose(m.graph, m.feeds, m.parameters, {.untrained = true}), "loss");
  EXPECT_EQ(f.severity, Severity::ok);
  EXPECT_THAT(f.what, HasSubstr("the loss is 2.398 nats, ln(11) is 2.398"));
  m.parameters["unembed"] = Tensor::of<float>({kOwnWidth, kOwnVocabulary}, [] {
    std::vector<float> x;
    for (int i = 0; i < kOwnWidth * kOwnVocabulary; ++i) x.push_back(i % 3 == 0 ? 9.f : -9.f);
    return x;
  }());
  f = only(diagnose(m.graph, m.feeds, m.parameters, {.untrained = true}), "loss");
  EXPECT_EQ(f.severity, Severity::problem);
  EXPECT_EQ(only(diagnose(m.graph, m.feeds, m.parameters), "loss").severity, Severity::ok);
}

// An embedding that is read back, or one that is not though it should be.
Graph embedding(bool tied) {
  Builder b;
  const Value table = b.parameter("embed", {DType::f32, {7, 4}});
  const Value x = gather_rows(table, b.input("tokens", {DType::i32, {3}}));
  const Value back = tied ? table : b.parameter("unembed", {DType::f32, {7, 4}});
  b.output("logits", matmul(x, transpose(back)));
  return std::move(b).finish();
}

TEST(DiagnosedNumbers, Ties) {
  EXPECT_THAT(only(diagnose(embedding(true)), "tied_weights").what, HasSubstr("are one parameter"));
  EXPECT_TRUE(diagnose(embedding(true), {.tied = true}).ok());
  EXPECT_FALSE(diagnose(embedding(true), {.tied = false}).ok());
  EXPECT_TRUE(diagnose(embedding(false), {.tied = false}).ok());
  const Finding f = only(diagnose(embedding(false), {.tied = true}), "tied_weights");
  EXPECT_EQ(f.severity, Severity::problem);
  EXPECT_THAT(f.what, HasSubstr("'embed' and unembedding 'unembed'"));
}

// An op of one's own with a gradient that is wrong: y = 3 x, dx = 2 dy.
const OpDef kWrongSlope = {.name = "wrong_slope",
                           .doc = "y = 3 x, with the gradient of 2 x",
                           .kind = OpKind::activation,
                           .infer = [](const InferCall& c) { return c.in[0]; },
                           .eval =
                               [](const EvalCall& c) {
                                 for (std::int64_t i = 0; i < c.out.numel(); ++i) {
                                   if (c.out.dtype == DType::f64)
                                     c.out.as<double>()[i] = 3 * c.in[0].as<double>()[i];
                                   else c.out.as<float>()[i] = 3 * c.in[0].as<float>()[i];
                                 }
                               },
                           .vjp = [](const VjpCall& c) { return Grads{c.grad * 2.0}; },
                           .reach =
                               [](const ReachCall& c) {
                                 InputReach same;
                                 for (int a = 0; a < c.out.shape.size(); ++a)
                                   same.links.push_back(same_axis(a, a));
                                 return Reach{same};
                               }};

TEST(DiagnosedNumbers, AWrongGradientIsFound) {
  const OwnModel m = own_model([](Builder& b, const Value& scores, int) {
    return mask(b.emit(kWrongSlope, {scores}, NoAttributes{}, SourceLine::here()), 0, 1);
  });
  const Finding f =
      only(diagnose(m.graph, m.feeds, m.parameters, {.checked_parameters = 20}), "gradient_check");
  EXPECT_EQ(f.severity, Severity::problem);
  EXPECT_THAT(f.what, HasSubstr("by differences"));
}

}  // namespace
}  // namespace vitrine::test
