// Models of every family are diagnosed clean; one with a leak, NaN or weights that are too large is
// not.
#include "nn/training/model_diagnosis.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "autograd/ops/op_table.h"
#include "nn/training/initial_weights.h"
#include "nn/training/training_settings.h"
#include "tests/support.h"
#include "tests/tensor/expect_error.h"

namespace vitrine::nn {
namespace {

using ::testing::HasSubstr;
using Severity = Finding::Severity;

std::vector<std::string> names_of(const Diagnosis& d) {
  std::vector<std::string> names;
  for (const Finding& f : d.findings) names.push_back(f.check);
  return names;
}

void expect_clean(const Model& m, bool untrained = false) {
  const Diagnosis d = diagnose(m, {.untrained = untrained});
  EXPECT_TRUE(d.ok()) << to_string(d);
  const auto causality = d.of("causality");
  ASSERT_EQ(causality.size(), 1U) << to_string(d);
  EXPECT_EQ(causality[0].severity, Severity::ok) << to_string(d);
  EXPECT_EQ(causality[0].how, "reach and gradient") << to_string(d);
  for (const char* check : {"nan", "exploding_units", "loss", "tied_weights", "gradient_check"})
    EXPECT_THAT(names_of(d), ::testing::Contains(check)) << to_string(d);
  for (const char* check : {"nan", "loss", "tied_weights", "gradient_check"}) {
    for (const Finding& f : d.of(check)) EXPECT_EQ(f.severity, Severity::ok) << to_string(f);
  }
}

TEST(ModelDiagnosis, EveryFamilyIsClean) {
  for (const char* name : {"families/llama", "families/neox", "families/gemma2", "tiny-gpt2"}) {
    SCOPED_TRACE(name);
    expect_clean(load_model((test::data() / name).string()));
  }
}

TEST(ModelDiagnosis, EveryPresetThatIsSmallIsCleanBeforeTraining) {
  ThreadPool pool(2);
  for (const char* name : {"tiny", "llama-tiny"}) {
    SCOPED_TRACE(name);
    const Config config = preset(name, 300);
    const Model m(config, initial_weights(config, random::Key{1}, pool), std::nullopt);
    expect_clean(m, true);
    EXPECT_TRUE(diagnose_before_training(m, true).ok());
    EXPECT_EQ(names_of(diagnose_before_training(m, true)),
              (std::vector<std::string>{"causality", "tied_weights", "loss"}));
  }
}

// Every family's graph at the sizes of real models, proved without weights: windows included.
TEST(ModelDiagnosis, WindowsAreRight) {
  Config config = preset("llama-tiny", 300);
  config.windows.assign(static_cast<std::size_t>(config.layers), 3);
  config.model_type = "mistral";
  ThreadPool pool(1);
  const Model m(config, initial_weights(config, random::Key{1}, pool), std::nullopt);
  expect_clean(m, true);
}

Model tiny() {
  const Config config = preset("tiny", 300);
  ThreadPool pool(1);
  return {config, initial_weights(config, random::Key{1}, pool), std::nullopt};
}

// Rewrites the rule of every attention, and writes it out as steps if so wanted.
Graph with_offset(const Graph& graph, std::int64_t offset, bool steps) {
  Builder b(graph);
  for (const Node& n : graph.nodes()) {
    if (n.op != &kAttention) continue;
    AttentionRule rule = std::get<AttentionRule>(n.attributes);
    rule.offset = offset;
    std::vector<Value> in;
    for (const NodeId i : n.inputs) in.push_back(b.value(i));
    b.rebuild(n.id, in, rule);
    if (steps) b.expand(n.id);
  }
  return std::move(b).finish();
}

TEST(ModelDiagnosis, AWrongOffsetIsNamedAtTheModelsLine) {
  for (const auto& [offset, steps] : {std::pair{1, false}, {-1, false}, {1, true}, {-1, true}}) {
    SCOPED_TRACE(testing::Message() << offset << " " << steps);
    Model m = tiny();
    m.transform([o = offset, s = steps](const Graph& g) { return with_offset(g, o, s); });
    const Diagnosis d = diagnose(m);
    ASSERT_EQ(d.of("causality").size(), 1U) << to_string(d);
    const Finding f = d.of("causality")[0];
    EXPECT_EQ(f.severity, Severity::problem);
    EXPECT_THAT(f.what,
                HasSubstr(offset == 1 ? "sees the next token" : "excludes the token itself"));
    EXPECT_THAT(f.what, HasSubstr("in 2 ops of this line"));
    EXPECT_THAT(f.where, HasSubstr("gpt2.cpp:"));
    EXPECT_THAT(f.site, HasSubstr("blocks.0.attn."));
    EXPECT_EQ(f.op, steps ? "mask" : "attention");
    EXPECT_EQ(f.how, "reach and gradient");
    const Diagnosis before = diagnose_before_training(m, true);
    EXPECT_FALSE(before.ok());
    EXPECT_ERROR(NumericError, "gpt2.cpp:", require_causal(before));
    EXPECT_ERROR(NumericError, "use offset 0", require_causal(before));
  }
  EXPECT_NO_THROW(require_causal(diagnose_before_training(tiny(), true)));
}

TEST(ModelDiagnosis, NanInAParameterIsNamed) {
  const Config config = preset("tiny", 300);
  ThreadPool pool(1);
  Parameters weights = initial_weights(config, random::Key{1}, pool);
  weights.at("h.1.mlp.c_fc.bias").data<float>()[3] = std::numeric_limits<float>::quiet_NaN();
  const Diagnosis d = diagnose(Model(config, weights, std::nullopt));
  const auto found = d.of("nan");
  ASSERT_EQ(found.size(), 1U) << to_string(d);
  EXPECT_EQ(found[0].severity, Severity::problem);
  EXPECT_THAT(found[0].what, HasSubstr("h.1.mlp.c_fc.bias"));
}

TEST(ModelDiagnosis, InitialWeightsThatAreTooLargeAreNoticed) {
  const Config config = preset("tiny", 300);
  ThreadPool pool(1);
  const Model m(config, initial_weights(config, random::Key{1}, pool, 2.0), std::nullopt);
  const auto found = diagnose_before_training(m, true).of("loss");
  ASSERT_EQ(found.size(), 1U);
  EXPECT_EQ(found[0].severity, Severity::problem);
  EXPECT_THAT(found[0].what, HasSubstr("ln(300) is 5.704"));
  EXPECT_TRUE(diagnose_before_training(m, false).ok());  // nothing is claimed of trained weights
}

}  // namespace
}  // namespace vitrine::nn
