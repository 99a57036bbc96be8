// Masks of a user's own model: each wrong one is named at its line, each right one is cleared.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>

#include "autograd/diagnose/diagnosis.h"
#include "autograd/diagnose/planted.h"
#include "tensor/error.h"
#include "tests/autograd/diagnose/own_model.h"

namespace vitrine::test {
namespace {

using ::testing::EndsWith;
using ::testing::HasSubstr;
using Severity = Finding::Severity;

constexpr float kInfinity = std::numeric_limits<float>::infinity();

// A model, and the line that is to be named.
struct Case {
  OwnModel model;
  int line = 0;
};

Diagnosis run_of(const OwnModel& m) {
  return diagnose(m.graph, m.feeds, m.parameters, {.loss = "loss"});
}

void expect_clear(const OwnModel& m, const char* how = "reach and gradient") {
  const Diagnosis still = diagnose(m.graph), run = run_of(m);
  EXPECT_TRUE(run.ok()) << to_string(run);
  EXPECT_TRUE(still.ok()) << to_string(still);
  const auto found = run.of("causality");
  ASSERT_FALSE(found.empty());
  for (const Finding& f : found) EXPECT_EQ(f.severity, Severity::ok) << to_string(f);
  EXPECT_EQ(found.back().how, how) << to_string(run);
  EXPECT_TRUE(run.of("attends_to_nothing").empty());
}

// The one problem of causality, which names `line` of this file.
Finding expect_named(const Diagnosis& d, int line, const std::string& what) {
  const auto found = d.of("causality");
  EXPECT_EQ(found.size(), 1U) << to_string(d);
  if (found.empty()) return {};
  EXPECT_EQ(found[0].severity, Severity::problem);
  EXPECT_THAT(found[0].file, EndsWith("causality_test.cpp"));
  EXPECT_EQ(found[0].line, line) << to_string(d);
  EXPECT_THAT(found[0].what, HasSubstr(what));
  EXPECT_THAT(found[0].where, HasSubstr(fmt::format("causality_test.cpp:{}", line)));
  EXPECT_FALSE(found[0].remedy.empty());
  return found[0];
}

Case with_op(std::int64_t offset, std::int64_t window = 0, int wrong_layer = -1) {
  Case c;
  c.model = own_model([&](Builder&, const Value& scores, int layer) {
    const std::int64_t own = wrong_layer < 0 || wrong_layer == layer ? offset : 0;
    c.line = __LINE__ + 1;
    return mask(scores, Value(), {.query_axis = 0, .key_axis = 1, .offset = own, .window = window});
  });
  return c;
}

TEST(DiagnosedCausality, AnOpThatIsRightIsProved) {
  expect_clear(with_op(0).model);
  expect_clear(with_op(0, 2).model);  // a window
  expect_clear(with_op(0, 1).model);
}

TEST(DiagnosedCausality, AnOpThatSeesTheNextTokenIsNamed) {
  const Case c = with_op(1);
  const Finding still = expect_named(diagnose(c.model.graph), c.line, "sees the next token");
  EXPECT_EQ(still.how, "reach");
  const Finding run = expect_named(run_of(c.model), c.line, "sees the next token");
  EXPECT_EQ(run.how, "reach and gradient");
  EXPECT_EQ(run.op, "mask");
  EXPECT_EQ(run.scope, "layer0");
  EXPECT_EQ(run.site, "layer0.z");
  EXPECT_THAT(run.remedy, HasSubstr("use offset 0 in the place of 1"));
}

TEST(DiagnosedCausality, OneLayerOfTwoIsNamed) {
  for (const int layer : {0, 1}) {
    const Case c = with_op(1, 0, layer);
    EXPECT_EQ(expect_named(run_of(c.model), c.line, "sees the next token").scope,
              fmt::format("layer{}", layer));
  }
}

TEST(DiagnosedCausality, AnOpThatExcludesTheTokenItselfIsNamed) {
  const Case c = with_op(-1);
  const Diagnosis d = run_of(c.model);
  const Finding f = expect_named(d, c.line, "excludes the token itself");
  EXPECT_EQ(f.how, "reach and gradient");
  EXPECT_THAT(f.remedy, HasSubstr("use offset 0 in the place of -1"));
  const auto empty = d.of("attends_to_nothing");
  ASSERT_EQ(empty.size(), 1U);
  EXPECT_EQ(empty[0].line, c.line);
}

Case with_constant(std::int64_t offset, float hidden, bool selected = false) {
  Case c;
  c.model = own_model([&](Builder& b, const Value& scores, int) {
    const Tensor numbers =
        mask_numbers([&](auto q, auto k) { return k <= q + offset; }, selected ? 1 : hidden);
    if (selected) {
      const Tensor truth = numbers.to(DType::boolean);  // true where hidden
      c.line = __LINE__ + 1;
      return select(b.constant(truth), b.scalar(hidden, DType::f32), scores);
    }
    c.line = __LINE__ + 1;
    const Value constant = b.constant(numbers);
    return scores + constant;
  });
  return c;
}

TEST(DiagnosedCausality, ConstantsAreRead) {
  for (const float hidden : {-kInfinity, -1e9F, -1e4F}) {
    for (const bool selected : {false, true}) {
      SCOPED_TRACE(fmt::format("{} {}", hidden, selected));
      expect_clear(with_constant(0, hidden, selected).model);
      const Case leak = with_constant(1, hidden, selected);
      EXPECT_EQ(expect_named(diagnose(leak.model.graph), leak.line, "sees the next token").how,
                "values");
      EXPECT_EQ(expect_named(run_of(leak.model), leak.line, "sees the next token").how,
                "values and gradient");
      const Case late = with_constant(-1, hidden, selected);
      expect_named(run_of(late.model), late.line, "excludes the token itself");
      EXPECT_FALSE(diagnose(late.model.graph).of("attends_to_nothing").empty());
    }
  }
}

TEST(DiagnosedCausality, AConstantWindowIsRight) {
  expect_clear(own_model([](Builder& b, const Value& scores, int) {
    return scores + b.constant(mask_numbers([](auto q, auto k) { return k <= q && k > q - 2; }));
  }));
}

TEST(DiagnosedCausality, ADiagonalWithHolesIsNamed) {
  int line = 0;
  const OwnModel m = own_model([&](Builder& b, const Value& scores, int) {
    const Tensor numbers =
        mask_numbers([](auto q, auto k) { return k <= q && !(q == 2 && k == 2); });
    line = __LINE__ + 1;
    return scores + b.constant(numbers);
  });
  expect_named(diagnose(m.graph), line, "excludes the token itself in 1 rows, the first of them 2");
}

TEST(DiagnosedCausality, PaddingOnTheLeftIsNoAlarm) {  // its rows see nothing, and nobody sees them
  const OwnModel m = own_model([](Builder& b, const Value& scores, int) {
    return scores +
           b.constant(mask_numbers([](auto q, auto k) { return k <= q && k >= 2; }, -kInfinity));
  });
  const Diagnosis d = diagnose(m.graph);
  EXPECT_TRUE(d.ok()) << to_string(d);
  const auto empty = d.of("attends_to_nothing");
  ASSERT_EQ(empty.size(), 1U);
  EXPECT_EQ(empty[0].severity, Severity::note);
  EXPECT_THAT(empty[0].what, HasSubstr("2 rows may attend to nothing, the first of them 0"));
}

// A row that is hidden from itself by a finite number weighs later keys, too.
TEST(DiagnosedCausality, AFiniteMaskWithAnEmptyRowIsAProblem) {
  const OwnModel m = own_model([](Builder& b, const Value& scores, int) {
    return scores + b.constant(mask_numbers([](auto q, auto k) { return k <= q && q != 3; }));
  });
  const auto empty = diagnose(m.graph).of("attends_to_nothing");
  ASSERT_EQ(empty.size(), 1U);
  EXPECT_EQ(empty[0].severity, Severity::problem);
}

// A fed mask, and what is given for it.
Case with_input(std::int64_t offset, bool given) {
  Case c;
  c.model = own_model([&](Builder& b, const Value& scores, int) {
    c.line = __LINE__ + 1;
    return scores + b.input("my_mask", {DType::f32, {kOwnTokens, kOwnTokens}});
  });
  if (given)
    c.model.feeds["my_mask"] = mask_numbers([&](auto q, auto k) { return k <= q + offset; });
  return c;
}

TEST(DiagnosedCausality, AMaskThatIsFedIsNotProvableFromTheGraph) {
  const Case c = with_input(0, true);
  const auto still = diagnose(c.model.graph).of("causality");
  ASSERT_FALSE(still.empty());
  EXPECT_EQ(still[0].severity, Severity::note);
  EXPECT_THAT(still[0].what, HasSubstr("not provable from the graph"));
  EXPECT_THAT(still[0].what, HasSubstr("'my_mask'"));
  EXPECT_EQ(still[0].line, c.line);
}

TEST(DiagnosedCausality, AMaskThatIsFedIsReadWhereItIsGiven) {
  const Diagnosis right = run_of(with_input(0, true).model);
  EXPECT_TRUE(right.ok()) << to_string(right);
  EXPECT_EQ(right.of("causality").back().severity, Severity::ok);
  const Case leak = with_input(1, true), late = with_input(-1, true);
  const Finding f = expect_named(run_of(leak.model), leak.line, "sees the next token");
  EXPECT_THAT(f.what, HasSubstr("'my_mask'"));
  EXPECT_EQ(f.how, "values and gradient");
  expect_named(run_of(late.model), late.line, "excludes the token itself");
  const Diagnosis missing = run_of(with_input(1, false).model);
  ASSERT_EQ(missing.of("run").size(), 1U);
  EXPECT_THAT(missing.of("run")[0].what, HasSubstr("'my_mask'"));
}

TEST(DiagnosedCausality, NoMaskAtAllIsNamedAtTheSoftmax) {
  const OwnModel m = own_model([](Builder&, const Value& scores, int) { return scores; });
  const auto found = run_of(m).of("causality");
  ASSERT_EQ(found.size(), 1U) << to_string(run_of(m));
  EXPECT_EQ(found[0].severity, Severity::problem);
  EXPECT_THAT(found[0].file, EndsWith("own_model.cpp"));
  EXPECT_EQ(found[0].op, "softmax");
  EXPECT_EQ(found[0].how, "reach and gradient");
  EXPECT_TRUE(diagnose(m.graph, {.causal = false}).ok());
}

// Batches and heads: [batch, tokens] tokens, merged for the products, split again for attention.
OwnModel batched_model(const MaskScores& mask_scores) {
  constexpr std::int64_t kBatch = 2, kHeads = 2, kHead = kOwnWidth / kHeads;
  OwnModel m = own_model([](Builder&, const Value& s, int) { return mask(s, 0, 1); });
  Builder b;
  const auto weight = [&](const std::string& name) {
    return b.parameter(name, {DType::f32, m.parameters.at(name).shape()});
  };
  const Value tokens = b.input("tokens", {DType::i32, {kBatch, kOwnTokens}});
  Value x = gather_rows(weight("embed"), tokens) + weight("places");  // [batch, tokens, d]
  for (int layer = 0; layer < 2; ++layer) {
    const Value flat = reshape(x, {kBatch * kOwnTokens, kOwnWidth});
    const auto heads = [&](const char* part) {
      const Value y = matmul(flat, weight(fmt::format("{}.{}", part, layer)));
      return permute(reshape(y, {kBatch, kOwnTokens, kHeads, kHead}), {0, 2, 1, 3});
    };
    const Value scores = mask_scores(b, matmul(heads("q"), transpose(heads("k"))), layer);
    const Value z = permute(matmul(softmax(scores), heads("v")), {0, 2, 1, 3});
    x = x + reshape(z, {kBatch, kOwnTokens, kOwnWidth});
  }
  b.output("logits", matmul(reshape(x, {kBatch * kOwnTokens, kOwnWidth}), weight("unembed")));
  m.graph = std::move(b).finish();
  m.feeds = {{"tokens", Tensor::of<std::int32_t>({kBatch, kOwnTokens},
                                                 {3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8})}};
  return m;
}

TEST(DiagnosedCausality, OfBatchesAndHeads) {
  for (const std::int64_t offset : {0, 1, -1}) {
    for (const bool constant : {false, true}) {
      SCOPED_TRACE(fmt::format("offset {} constant {}", offset, constant));
      int line = 0;
      const OwnModel m = batched_model([&](Builder& b, const Value& scores, int) {
        const Tensor numbers = mask_numbers([&](auto q, auto k) { return k <= q + offset; });
        const Tensor four = numbers.reshape({1, 1, kOwnTokens, kOwnTokens});
        line = __LINE__ + 1;
        return constant ? scores + b.constant(four) : mask(scores, -2, -1, offset);
      });
      const Diagnosis d = diagnose(m.graph, m.feeds, m.parameters);
      if (offset == 0) {
        EXPECT_EQ(d.of("causality").back().how, "reach and gradient") << to_string(d);
        EXPECT_TRUE(d.ok()) << to_string(d);
      } else {
        expect_named(d, line, offset == 1 ? "sees the next token" : "excludes the token itself");
      }
    }
  }
}

// Zeros at the end of a new model hide nothing and prove nothing.
TEST(DiagnosedCausality, WeightsThatBeginAtZeroAreNoAlarm) {
  OwnModel m = with_op(0).model;
  m.parameters["unembed"] = Tensor::zeros({kOwnWidth, kOwnVocabulary}, DType::f32);
  const auto found = run_of(m).of("causality");
  ASSERT_EQ(found.size(), 1U);
  EXPECT_EQ(found[0].severity, Severity::ok);
  EXPECT_THAT(found[0].what, HasSubstr("say nothing"));
}

// A window and causality stated by two ops; scaled and biased after the mask.
TEST(DiagnosedCausality, MasksAddUpAndOutliveArithmetic) {
  expect_clear(own_model([](Builder& b, const Value& scores, int) {
    const Value causal = mask(scores, 0, 1);
    const Value window =
        mask(causal, Value(), {.query_axis = 0, .key_axis = 1, .offset = 9, .window = 3});
    const Value bias = b.parameter("places", {DType::f32, {kOwnTokens, kOwnWidth}});
    return window * 0.5 + sum(bias) * 0.1;
  }));
}

// What GPT-2's first code did: scores * mask - 1e10 * (1 - mask).
TEST(DiagnosedCausality, AMaskThatIsComputedFromAConstantIsRead) {
  for (const std::int64_t offset : {0, 1}) {
    int line = 0;
    const OwnModel m = own_model([&](Builder& b, const Value& scores, int) {
      const Tensor numbers = mask_numbers([&](auto q, auto k) { return k > q + offset; }, 1);
      line = __LINE__ + 1;
      const Value seen = b.constant(numbers);
      return scores * seen - 1e10 * (1.0 - seen);
    });
    if (offset == 0) expect_clear(m);
    else expect_named(diagnose(m.graph), line, "sees the next token");
  }
}

// Rows that are shifted or averaged leak too, and no mask is to blame.
TEST(DiagnosedCausality, AShiftOfRowsIsNamed) {
  int line = 0;
  const OwnModel m =
      own_model([](Builder&, const Value& scores, int) { return mask(scores, 0, 1); });
  Builder b(m.graph);
  const Value logits = b.output("logits");
  line = __LINE__ + 1;
  const Value moved = slice(logits, 0, 1, kOwnTokens);
  b.output("logits", concat({moved, slice(logits, 0, 0, 1)}, 0));
  const Graph g = std::move(b).finish();
  const auto found = diagnose(g, m.feeds, m.parameters, {.loss = "loss"}).of("causality");
  ASSERT_EQ(found.size(), 1U);
  EXPECT_EQ(found[0].severity, Severity::problem);
  EXPECT_EQ(found[0].line, line);
}

// The mean of all rows, added to each.
TEST(DiagnosedCausality, AMeanOfAllRowsIsNamed) {
  const OwnModel m = with_op(0).model;
  Builder b(m.graph);
  const Value logits = b.output("logits");
  const int line = __LINE__ + 1;
  b.output("logits", logits - mean(logits, {0}, true));
  const Graph g = std::move(b).finish();
  for (const Diagnosis& d : {diagnose(g), diagnose(g, m.feeds, m.parameters, {.loss = "loss"})}) {
    const auto found = d.of("causality");
    ASSERT_EQ(found.size(), 1U) << to_string(d);
    EXPECT_EQ(found[0].severity, Severity::problem);
    EXPECT_EQ(found[0].line, line);
  }
}

// One prediction for a whole prompt may read all of it.
TEST(DiagnosedCausality, AnOutputWithoutRowsIsNotAsked) {
  const OwnModel m = with_op(0).model;
  Builder b(m.graph);
  b.output("class", mean(b.output("logits"), {0}));
  const Graph g = std::move(b).finish();
  const Diagnosis d = diagnose(g, m.feeds, m.parameters, {.output = "class", .loss = "loss"});
  EXPECT_TRUE(d.ok()) << to_string(d);
}

// A right model into which a fault is planted: a mask op and a fused attention alike say so at their line.
TEST(DiagnosedCausality, APlantedShiftIsNamed) {
  const auto [model, line] = with_op(0);
  EXPECT_TRUE(diagnose(with_masks_shifted(model.graph, 0)).ok());
  for (const int by : {-1, 1}) {
    const Diagnosis d = diagnose(with_masks_shifted(model.graph, by), model.feeds, model.parameters,
                                 {.loss = "loss"});
    const auto found = d.of("causality");
    ASSERT_FALSE(found.empty()) << to_string(d);
    EXPECT_EQ(found[0].severity, Severity::problem);
    EXPECT_THAT(found[0].what,
                HasSubstr(by > 0 ? "sees the next token" : "excludes the token itself"));
    EXPECT_EQ(found[0].line, line);
  }
  Builder b;
  b.output("y", b.input("x", {DType::f32, {3, 2}}) * 2.0);
  EXPECT_THROW(with_masks_shifted(std::move(b).finish(), 1), GraphError);
}

TEST(DiagnosedCausality, SaysWhenItIsNotClearWhereTheTokensAre) {
  Builder b;
  const Value x = b.input("x", {DType::f32, {3, 2}}), y = b.input("y", {DType::f32, {3, 2}});
  b.output("z", x + y);
  const Graph g = std::move(b).finish();
  EXPECT_THROW(diagnose(g), GraphError);
  EXPECT_TRUE(diagnose(g, {.tokens = "x"}).ok());
}

}  // namespace
}  // namespace vitrine::test
