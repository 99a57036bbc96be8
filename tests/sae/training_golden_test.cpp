// SAELens's numbers: losses, first gradients, and the weights after four steps of Adam.
#include <gtest/gtest.h>

#include "sae/training_step.h"
#include "tests/support.h"

namespace vitrine::test {
namespace {

struct Case {
  std::string name;
  sae::SaeTrainingRules rules;
  std::int64_t capacity = -1;  // fixed; -1: as the step chooses
};

void PrintTo(const Case& c, std::ostream* out) { *out << c.name << " " << c.capacity; }

sae::SaeTrainingRules rules_of(sae::Kind kind, double sparsity) {
  sae::SaeTrainingRules r;
  r.kind = kind;
  r.d_in = 48;
  r.d_sae = 192;
  r.k = 8;
  r.batch = 128;
  r.clip = 0;
  r.sparsity = sparsity;
  if (kind == sae::Kind::matryoshka) r.widths = {48, 96, 192};
  return r;
}

class SaeTrainingGolden : public ::testing::TestWithParam<Case> {};
INSTANTIATE_TEST_SUITE_P(
    Kinds, SaeTrainingGolden,
    ::testing::Values(Case{"standard", rules_of(sae::Kind::standard, 0.5)},
                      Case{"standard", rules_of(sae::Kind::standard, 0.5), 0},
                      Case{"standard", rules_of(sae::Kind::standard, 0.5), 180},
                      Case{"topk", rules_of(sae::Kind::topk, 0)},
                      Case{"batchtopk", rules_of(sae::Kind::batchtopk, 0)},
                      Case{"batchtopk", rules_of(sae::Kind::batchtopk, 0), 192},
                      Case{"matryoshka_batchtopk", rules_of(sae::Kind::matryoshka, 0)},
                      Case{"jumprelu", rules_of(sae::Kind::jumprelu, 0.3)},
                      Case{"jumprelu", rules_of(sae::Kind::jumprelu, 0.3), 180},
                      Case{"gated", rules_of(sae::Kind::gated, 0.5)},
                      Case{"gated", rules_of(sae::Kind::gated, 0.5), 180}),
    [](const auto& tested) {
      const Case& c = tested.param;
      return c.name + (c.capacity < 0    ? ""
                       : c.capacity == 0 ? "_dense"
                                         : "_sparse_" + std::to_string(c.capacity));
    });

Tensor from_saelens(const std::string& name, const Tensor& t) {
  return name == "W_enc" ? t.transpose(0, 1).contiguous() : t.contiguous();
}

void expect_training(const Case& c, const SafeTensors& golden) {
  Parameters weights;
  for (const auto& [name, shape] : sae::trained_shapes(c.rules))
    weights[name] = from_saelens(name, golden.at("before/" + name));
  sae::SaeTrainingStep step(c.rules, weights);
  if (c.capacity >= 0) step.fix_view(c.capacity);
  ThreadPool pool;
  const Tensor dead = golden.contains("dead_mask") ? golden.at("dead_mask").to(DType::boolean)
                                                   : Tensor::zeros({c.rules.d_sae}, DType::boolean);
  const auto batch = [&](int i) { return sae::Batch{golden.at("x").select(0, i).contiguous()}; };

  const auto first = step.gradients(batch(0), pool, &dead);
  for (const auto& [name, gradient] : first.gradients) {
    const std::string key = "grad0/" + name;
    ASSERT_TRUE(golden.contains(key)) << key;
    expect_relative(gradient, from_saelens(name, golden.at(key)), 1e-4, key);
  }
  expect_close(first.features, golden.at("feature_acts0"), 1e-5, "feature_acts0");
  expect_close(first.reconstruction, golden.at("sae_out0"), 1e-5, "sae_out0");

  for (int i = 0; i < 4; ++i) {
    const sae::StepOutcome o = step.step(batch(i), pool, 1e-3, &dead);
    if (c.capacity >= 0) {
      EXPECT_EQ(o.capacity, c.capacity);
    }
    const auto at = [&](const std::string& name) {
      return golden.at("loss/" + name).to_vector<double>()[static_cast<std::size_t>(i)];
    };
    EXPECT_NEAR(o.loss, at("loss"), 1e-4 * at("loss"));
    std::size_t parts = 0;
    for (const std::string& name : golden.names())
      parts += name.starts_with("loss/") && name != "loss/loss" ? 1 : 0;
    EXPECT_EQ(o.parts.size(), parts);
    for (const auto& [name, value] : o.parts) EXPECT_NEAR(value, at(name), 1e-4 * at(name)) << name;
  }
  for (const auto& [name, weight] : step.weights())
    expect_close(weight, from_saelens(name, golden.at("after/" + name)), 1e-4, "after/" + name);
}

TEST_P(SaeTrainingGolden, LossesGradientsAndWeightsAreThoseOfSaeLens) {
  VITRINE_NEEDS_SHARED("reference/sae");
  const Case& c = GetParam();
  expect_training(
      c, SafeTensors::open(shared() / "reference/sae" / (c.name + ".training.safetensors")));
}

// Gradients flow through the residual from step to step; what is picked carries none. The numbers
// are those of make_saelens_golden.py.
TEST(SaeTrainingGoldenPursuit, LossesGradientsAndWeightsAreThoseOfSaeLens) {
  sae::SaeTrainingRules r = rules_of(sae::Kind::matching_pursuit, 0);
  r.d_in = 24;
  r.d_sae = 64;
  r.batch = 32;
  r.residual_threshold = 0.3;
  expect_training({"matching_pursuit", r},
                  SafeTensors::open(data() / "sae/matching_pursuit/training.safetensors"));
}

// The threshold of a finished batchtopk SAE, and all that is folded, are those of the folder that
// SAELens saved.
TEST(SaeTrainingGoldenFolder, FinishedSaesAreThoseThatSaeLensSaved) {
  VITRINE_NEEDS_SHARED("reference/sae");
  for (const Case& c : {Case{"standard", rules_of(sae::Kind::standard, 0.5)},
                        Case{"topk", rules_of(sae::Kind::topk, 0)},
                        Case{"batchtopk", rules_of(sae::Kind::batchtopk, 0)},
                        Case{"matryoshka_batchtopk", rules_of(sae::Kind::matryoshka, 0)},
                        Case{"jumprelu", rules_of(sae::Kind::jumprelu, 0.3)},
                        Case{"gated", rules_of(sae::Kind::gated, 0.5)}}) {
    SCOPED_TRACE(c.name);
    const auto folder = shared() / "reference/sae";
    const SafeTensors golden = SafeTensors::open(folder / (c.name + ".training.safetensors"));
    Parameters weights;
    for (const auto& [name, shape] : sae::trained_shapes(c.rules))
      weights[name] = from_saelens(name, golden.at("before/" + name));
    sae::SaeTrainingStep step(c.rules, weights);
    ThreadPool pool;
    const Tensor dead = golden.at("dead_mask").to(DType::boolean);
    for (int i = 0; i < 4; ++i)
      step.step({golden.at("x").select(0, i).contiguous()}, pool, 1e-3, &dead);
    const sae::Sae sae = step.finished();
    const SafeTensors saved = SafeTensors::open(folder / c.name / "sae_weights.safetensors");
    EXPECT_EQ(saved.names().size(), sae.weights.size());
    for (const auto& [name, weight] : sae.weights) expect_close(weight, saved.at(name), 1e-4, name);
  }
}

}  // namespace
}  // namespace vitrine::test
