#include "nn/training/training_step.h"

#include "nn/model/model.h"
#include "tests/support.h"
#include "tests/tensor/expect_error.h"

namespace vitrine::nn {
namespace {

struct Case {
  std::string name;
  std::filesystem::path model, golden;
  bool shared;
};
std::ostream& operator<<(std::ostream& out, const Case& c) { return out << c.name; }

class TrainingGolden : public ::testing::TestWithParam<Case> {};

// Five AdamW steps as PyTorch does them: loss before each and after the last, norm before clipping.
TEST_P(TrainingGolden, FiveSteps) {
  if (GetParam().shared) VITRINE_NEEDS_SHARED("reference/atlas-gpt2");
  const Model model = load_gpt2(GetParam().model.string());
  const SafeTensors want = SafeTensors::open(GetParam().golden / "training.safetensors");
  const Tensor tokens = want.at("tokens");
  std::vector<Tokens> prompts;
  for (std::int64_t i = 0; i < tokens.dim(0); ++i)
    prompts.push_back(tokens.select(0, i).to_vector<int>());
  const auto losses = want.at("loss").to_vector<double>(),
             norms = want.at("grad_norm").to_vector<double>();
  TrainingStep train(model.config(), model.parameters(), {.adamw = {.rate = 1e-3}});
  for (std::size_t i = 0; i < 5; ++i) {
    const auto got = train.step(prompts, model.pool());
    EXPECT_NEAR(got.loss, losses[i], 3e-4) << "step " << i;
    EXPECT_NEAR(got.grad_norm, norms[i], 1e-3 * norms[i]) << "step " << i;
  }
  const Model after(model.config(), train.parameters(), std::nullopt);
  EXPECT_NEAR(loss(after, prompts).mean, losses[5], 3e-4);
}

INSTANTIATE_TEST_SUITE_P(
    Reference, TrainingGolden,
    ::testing::Values(Case{"tiny", test::data() / "tiny-gpt2", test::data() / "tiny-gpt2/golden",
                           false},
                      Case{"atlas", test::shared() / "reference/atlas-gpt2",
                           test::shared() / "reference/atlas-gpt2/golden", true},
                      Case{"atlas_gift", test::shared() / "reference/atlas-gpt2",
                           test::shared() / "reference/atlas-gpt2/golden-gift", true}),
    [](const auto& tested) { return tested.param.name; });

TEST(TrainingStep, WorksInPlaceAndLeavesTheModelAlone) {
  const Model model = load_gpt2((test::data() / "tiny-gpt2").string());
  const std::vector<Tokens> prompts = {{1, 2, 3, 4}, {5, 6}};
  const Tensor before = model.parameters().at("wte.weight").clone();
  TrainingStep train(model.config(), model.parameters());
  // Every state is written in place.
  EXPECT_EQ(train.plan(batch_size(prompts), next_tokens(prompts)).stats().update_copies, 0);
  const Tensor own = train.parameters().at("wte.weight");
  train.step(prompts, model.pool());
  EXPECT_EQ(max_abs_difference(model.parameters().at("wte.weight"), before), 0);
  EXPECT_GT(max_abs_difference(own, before), 0);
}

TEST(TrainingStep, TheBitsDoNotDependOnThreads) {
  const Model model = load_gpt2((test::data() / "tiny-gpt2").string());
  const std::vector<Tokens> prompts = {{1, 2, 3, 4, 5, 6, 7, 8}, {5, 6, 9}};
  TrainingStep a(model.config(), model.parameters()), b(model.config(), model.parameters());
  ThreadPool one(1), three(3);
  for (int i = 0; i < 3; ++i) {
    a.step(prompts, one);
    b.step(prompts, three);
  }
  for (const auto& [name, t] : a.parameters())
    EXPECT_EQ(max_abs_difference(t, b.parameters().at(name)), 0) << name;
}

}  // namespace
}  // namespace vitrine::nn
