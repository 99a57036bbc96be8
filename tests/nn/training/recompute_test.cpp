// Activation checkpointing of a training step of GPT-2, with dropout.
#include "autograd/transform/recompute.h"

#include <gtest/gtest.h>

#include "autograd/ops/ops.h"
#include "autograd/transform/gradient.h"
#include "nn/model/checkpoint.h"
#include "nn/model/metrics.h"
#include "nn/model/model.h"
#include "nn/training/dropout.h"
#include "tests/support.h"

namespace vitrine::nn {
namespace {

// Few rows and many take other products: `many` prompts of unlike lengths.
std::vector<Tokens> some_prompts(int many) {
  std::vector<Tokens> prompts;
  for (int i = 0; i < many; ++i) {
    prompts.emplace_back();
    for (int k = 0; k < 3 + i % 6; ++k) prompts.back().push_back(1 + (7 * i + 3 * k) % 11);
  }
  return prompts;
}

// The loss, all gradients, and one step of AdamW on each parameter: state.NAME.
Graph training_graph(const Config& config, const BatchSize& size, const Dropout& rates, bool less) {
  Graph g = gradient(with_dropout(build_model(config, size), config, rates),
                     training_loss(size.rows - size.sequences), leaves("*"));
  if (less) g = recompute(g, sites("blocks.*.hook_resid_pre"));
  Builder b(g);
  const Value settings = b.input("settings", {DType::f64, {3}}), clip = b.scalar(1, DType::f32);
  for (const auto& [name, shape] : parameter_shapes(config)) {
    const Value state = b.parameter("state." + name, {DType::f32, {3, numel(shape)}});
    b.output("next." + name, adamw(state, b.output(grad_name(name)), clip, settings, {}));
  }
  return std::move(b).finish();
}
Plan training_plan(const Config& config, const BatchSize& size, const Dropout& rates, bool less) {
  Updates updates;
  for (const auto& [name, shape] : parameter_shapes(config))
    updates["state." + name] = "next." + name;
  return compile(training_graph(config, size, rates, less), fetch(value("loss")), updates);
}

void expect_same_training(const Dropout& rates, int many) {
  const std::vector<Tokens> prompts = some_prompts(many);
  const Model model = load_gpt2((test::data() / "tiny-gpt2").string());
  const BatchSize size = batch_size(prompts);
  struct Side {
    std::vector<double> losses;
    Parameters state;
    Results gradients;
    std::int64_t flops;
  } sides[2];
  for (const bool less : {false, true}) {
    Side& side = sides[less];
    Parameters bound;
    for (const auto& [name, shape] : parameter_shapes(model.config())) {
      const Tensor state = Tensor::zeros({3, numel(shape)}, DType::f32);
      const Tensor w = model.parameters().at(name).contiguous();
      std::copy_n(w.view().data, w.bytes(), state.view().data);
      side.state["state." + name] = bound["state." + name] = state;
      bound[name] = state.select(0, 0).reshape(shape);
    }
    const Graph g = training_graph(model.config(), size, rates, less);
    Feeds feeds = batch_feeds(prompts);
    if (rates.any()) feeds["dropout.key"] = Tensor::of<std::int64_t>({2}, {3, 1});
    side.gradients = compile(g, fetch(grad(leaves("*")))).run(feeds, bound);
    const Plan plan = training_plan(model.config(), size, rates, less);
    side.flops = plan.stats().flops;
    for (int step = 1; step <= 3; ++step) {
      if (rates.any()) feeds["dropout.key"] = Tensor::of<std::int64_t>({2}, {3, step});
      feeds["settings"] = Tensor::of<double>({3}, {1e-2, 0.1, 0.05});
      side.losses.push_back(plan.run(feeds, bound).scalar("loss"));
    }
  }
  EXPECT_LT(sides[0].flops, sides[1].flops);
  EXPECT_EQ(sides[0].losses, sides[1].losses);
  EXPECT_NE(sides[0].losses[0], sides[0].losses[1]);
  for (const std::string& name : sides[0].gradients.names())
    EXPECT_EQ(max_abs_difference(sides[0].gradients.raw(name), sides[1].gradients.raw(name)), 0)
        << name;
  for (const auto& [name, t] : sides[0].state)
    EXPECT_EQ(max_abs_difference(t, sides[1].state.at(name)), 0) << name;
}

TEST(RecomputedTraining, HasTheBitsOfTraining) {
  for (const int many : {2, 50}) expect_same_training({}, many);
}
TEST(RecomputedTraining, DrawsTheSameMasksAgain) {
  for (const int many : {2, 50}) {
    expect_same_training({.embedding = 0.1, .residual = 0.2}, many);
    expect_same_training({.embedding = 0.1, .attention = 0.2, .residual = 0.2}, many);
  }
}

// Only compiled: what a step would need.
TEST(RecomputedTraining, NeedsLessMemoryForLessThanAForwardPassMore) {
  struct Case {
    Config config;
    BatchSize size;
    double share;  // of the arena that is left, at most
  };
  Config small, gpt2;
  small.layers = 4, small.heads = 4, small.d_model = 256, small.d_mlp = 1024, small.context = 256;
  for (const Case& c :
       {Case{small, {16 * 128, 16, 128}, 1}, Case{gpt2, {4 * 1024, 4, 1024}, 0.5}}) {
    for (const Dropout& rates : {Dropout{}, Dropout{.embedding = 0.1, .residual = 0.1}}) {
      const Plan::Stats plain = training_plan(c.config, c.size, rates, false).stats(),
                        less = training_plan(c.config, c.size, rates, true).stats();
      const std::int64_t forward =
          compile(build_model(c.config, c.size), fetch(value("logits"))).stats().flops;
      RecordProperty(fmt::format("layers_{}", c.config.layers),
                     fmt::format("{} -> {} bytes, {} -> {} flops", plain.arena_bytes,
                                 less.arena_bytes, plain.flops, less.flops));
      EXPECT_LT(static_cast<double>(less.arena_bytes),
                c.share * static_cast<double>(plain.arena_bytes));
      EXPECT_LE(less.flops, plain.flops + forward);
      EXPECT_EQ(less.update_copies, 0);
    }
  }
}

}  // namespace
}  // namespace vitrine::nn
