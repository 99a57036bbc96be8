// Dropout and activation checkpointing in training steps: less memory, the same bits; masks by step.
#include "nn/model/model.h"
#include "nn/training/training_step.h"
#include "tests/support.h"

namespace vitrine::nn {
namespace {

Config deep(int layers) {
  Config c;
  c.layers = layers;
  c.heads = 4;
  c.d_model = 64;
  c.d_mlp = 256;
  c.context = 64;
  c.vocabulary = 97;
  return c;
}

TEST(TrainingRules, RecomputingGivesTheSameBitsAlsoWithDropout) {
  const Model model = load_gpt2((test::data() / "tiny-gpt2").string());
  const TrainingBatch batch = training_batch({{1, 2, 3, 4, 5, 6, 7}, {9, 8, 7}, {4, 4, 4, 4}});
  for (const double rate : {0.0, 0.2}) {
    TrainingRules rules{.dropout = {rate, rate, rate}};
    TrainingStep kept(model.config(), model.parameters(), rules);
    rules.recompute = true;
    TrainingStep again(model.config(), model.parameters(), rules);
    for (int i = 0; i < 4; ++i) {
      const auto a = kept.step({batch}, model.pool(), 1e-2, 5),
                 b = again.step({batch}, model.pool(), 1e-2, 5);
      EXPECT_EQ(a.loss, b.loss);
      EXPECT_EQ(a.grad_norm, b.grad_norm);
    }
    for (const auto& [name, tensor] : kept.parameters())
      EXPECT_EQ(max_abs_difference(tensor, again.parameters().at(name)), 0) << name;
  }
}

// Of a deep model most of the arena goes, for at most one more forward pass: a third of the work.
TEST(TrainingRules, RecomputingSavesMemory) {
  const BatchSize size{512, 8, 64};
  const auto stats = [&](int layers, bool recompute) {
    return compile_training_step(deep(layers), size, 504, {.recompute = recompute}).stats();
  };
  const Plan::Stats kept = stats(12, false), again = stats(12, true);
  EXPECT_LT(again.arena_bytes, 0.4 * kept.arena_bytes);
  EXPECT_GT(again.flops, kept.flops);
  EXPECT_LT(again.flops, 1.34 * kept.flops);
  // What is kept grows by the stream of a block, not by all that is in it.
  const auto growth = [&](bool recompute) {
    return (stats(24, recompute).arena_bytes - stats(12, recompute).arena_bytes) / 12;
  };
  const std::int64_t stream = 512 * 64 * 4;
  EXPECT_LE(growth(true), 2 * stream);
  EXPECT_GT(growth(false), 6 * stream);
}

// The same masks for the same seed and step, others for others; none when nothing is left out.
TEST(TrainingRules, DropoutIsDrawnFromSeedAndStep) {
  const Model model = load_gpt2((test::data() / "tiny-gpt2").string());
  const TrainingBatch batch = training_batch({{1, 2, 3, 4, 5, 6, 7}, {9, 8, 7}});
  const auto losses = [&](double rate, std::uint64_t seed, ThreadPool& pool) {
    TrainingStep step(model.config(), model.parameters(), {.dropout = {rate, 0, rate}});
    std::vector<double> all;
    for (int i = 0; i < 3; ++i) all.push_back(step.step({batch}, pool, 0, seed).loss);
    return all;
  };
  ThreadPool one(1), three(3);
  const std::vector<double> a = losses(0.3, 1, one);
  EXPECT_EQ(a, losses(0.3, 1, three));
  EXPECT_NE(a, losses(0.3, 2, one));
  EXPECT_NE(a[0], a[1]);  // the rate is 0: only the masks differ
  const std::vector<double> plain = losses(0, 1, one);
  EXPECT_EQ(plain[0], plain[1]);
}

}  // namespace
}  // namespace vitrine::nn
