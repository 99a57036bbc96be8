// Models whose weights stay as their file has them give the numbers of the same weights widened.
#include <gtest/gtest.h>

#include "nn/model/model.h"
#include "nn/model/sampling.h"
#include "nn/model/weights.h"
#include "tensor/files/file.h"
#include "tensor/random.h"
#include "tests/tensor/expect_error.h"
#include "tests/tensor/temporary_folder.h"

namespace vitrine::nn {
namespace {

using vitrine::test::TemporaryFolder;

// A GPT-2 of two layers, saved in `stored`.
struct SavedGpt2 {
  TemporaryFolder folder;

  explicit SavedGpt2(DType stored) {
    write_text(
        folder / "config.json",
        R"({"model_type": "gpt2", "n_layer": 2, "n_head": 2, "n_embd": 24, "vocab_size": 61, "n_positions": 16})");
    const Config config = load_config(folder.path());
    ThreadPool pool(1);
    Parameters parameters;
    for (const auto& [name, shape] : parameter_shapes(config)) {
      parameters[name] = Tensor::empty(shape, DType::f32);
      random::fill_normal(pool, random::Key{2}.fold(name), parameters[name], 0, .3);
    }
    save_checkpoint(folder.path(), config, parameters, stored);
  }
  Model load(Weights weights, const Gauge& gauge = {}, DType dtype = DType::f32) const {
    return load_model(folder.path().string(),
                      {.dtype = dtype, .weights = weights, .threads = 2, .gauge = gauge});
  }
};

const std::vector<Tokens> kPrompts = {{3, 60, 7, 7, 0}, {1, 2}};

TEST(StoredWeights, MatricesStayMappedAndVectorsAreWidened) {
  for (const DType stored : {DType::f16, DType::bf16}) {
    const SavedGpt2 saved(stored);
    const Model model = saved.load(Weights::stored), wide = saved.load(Weights::widened),
                exact = saved.load(Weights::stored, {}, DType::f64);
    for (const auto& [name, tensor] : model.parameters()) {
      EXPECT_EQ(tensor.dtype(), tensor.rank() > 1 ? stored : DType::f32) << name;
      EXPECT_EQ(tensor.is_read_only(), tensor.rank() > 1) << name;
    }
    for (const auto& [name, tensor] : wide.parameters())
      EXPECT_EQ(tensor.dtype(), DType::f32) << name;
    for (const auto& [name, tensor] : exact.parameters())
      EXPECT_EQ(tensor.dtype(), DType::f64) << name;
  }
}

TEST(StoredWeights, EverySiteHasTheBitsOfTheWidenedWeights) {
  for (const DType stored : {DType::f16, DType::bf16}) {
    const SavedGpt2 saved(stored);
    const Model as_stored = saved.load(Weights::stored), wide = saved.load(Weights::widened);
    for (const char* what : {"blocks.*.hook_resid_post", "*"}) {
      const nn::Run got = as_stored.run(kPrompts, sites(what)),
                    want = wide.run(kPrompts, sites(what));
      EXPECT_FALSE(want.results.names().empty());
      for (const std::string& name : want.results.names()) {
        EXPECT_EQ(max_abs_difference(got.results.raw(name), want.results.raw(name)), 0)
            << name_of(stored) << " " << name;
      }
    }
    const Plan plan = compile(as_stored.build({5, 1, 5}), fetch(value("logits")));
    EXPECT_EQ(plan.stats().stored, 2 + 2 * 4);
    EXPECT_EQ(plan.stats().widened, 0);
  }
}

TEST(StoredWeights, GaugesAndReadingWeightsWiden) {
  const SavedGpt2 saved(DType::f16);
  const Model as_stored = saved.load(Weights::stored, Gauge::processed()),
              wide = saved.load(Weights::widened, Gauge::processed());
  EXPECT_EQ(max_abs_difference(as_stored.run(kPrompts).results.raw("logits"),
                               wide.run(kPrompts).results.raw("logits")),
            0);
  const Parameters got = weights(saved.load(Weights::stored), "*"),
                   want = weights(saved.load(Weights::widened), "*");
  ASSERT_EQ(got.size(), want.size());
  for (const auto& [name, tensor] : want) {
    EXPECT_EQ(got.at(name).dtype(), DType::f32) << name;
    EXPECT_EQ(max_abs_difference(got.at(name), tensor), 0) << name;
  }
}

TEST(StoredWeights, TheLossIsTheSame) {
  const SavedGpt2 saved(DType::bf16);
  EXPECT_EQ(loss(saved.load(Weights::stored), kPrompts).mean,
            loss(saved.load(Weights::widened), kPrompts).mean);
}

}  // namespace
}  // namespace vitrine::nn
