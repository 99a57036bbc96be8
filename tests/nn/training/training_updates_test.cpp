// Tests nn/training/training_step.h: accumulation, averages, the state, and that nothing moves when a number
// is not finite.
#include <fmt/format.h>
#include <gmock/gmock.h>

#include <cmath>
#include <limits>

#include "nn/model/checkpoint.h"
#include "nn/training/training_step.h"
#include "tests/nn/training/small_training.h"
#include "tests/support.h"
#include "tests/tensor/expect_error.h"

namespace vitrine::nn {
namespace {

using test::message_of;
using ::testing::AllOf;
using ::testing::HasSubstr;

constexpr int kVocabulary = 40;
constexpr double kRate = 1e-2;

Config config() { return small_config(kVocabulary); }

// Prompts of 12 predictions; other numbers, other tokens (from 0 to 19).
TrainingBatch batch(int number) {
  std::vector<Tokens> prompts = {Tokens(9), Tokens(5)};
  int draw = 0;
  for (Tokens& t : prompts) {
    for (int& id : t)
      id = static_cast<int>(random::below(random::Key{static_cast<std::uint64_t>(number)},
                                          static_cast<std::uint64_t>(draw++), 20));
  }
  return training_batch(prompts);
}

// Batches after each other.
TrainingBatch joined(const std::vector<TrainingBatch>& batches) {
  std::vector<Tokens> prompts;
  for (const TrainingBatch& b : batches) {
    const auto tokens = b.feeds.at("tokens").to_vector<int>();
    prompts.emplace_back(tokens.begin(), tokens.begin() + 9);
    prompts.emplace_back(tokens.begin() + 9, tokens.end());
  }
  return training_batch(prompts);
}

// ---- accumulation -------------------------------------------------------------------------------
TEST(TrainingUpdates, AccumulatedBatchesAreOne) {
  const Parameters weights = lively_weights(config(), 1, DType::f64);
  TrainingStep one(config(), weights, {.ema = 0.5}),
      three(config(), weights, {.accumulate = 3, .ema = 0.5});
  ThreadPool pool(1);
  for (int i = 0; i < 4; ++i) {
    const std::vector<TrainingBatch> batches = {batch(3 * i), batch(3 * i + 1), batch(3 * i + 2)};
    const auto want = one.step({joined(batches)}, pool, kRate),
               got = three.step(batches, pool, kRate);
    EXPECT_NEAR(got.loss, want.loss, 1e-12 * want.loss);
    EXPECT_NEAR(got.grad_norm, want.grad_norm, 1e-12 * want.grad_norm);
    // The clipped norm has 1e-6 added to it, so that all is not equal to the last digit.
    for (const auto& [name, tensor] : one.state())
      test::expect_relative(three.state().at(name), tensor, 1e-9, name);
  }
}

TEST(TrainingUpdates, GradientsAreAveraged) {
  const Parameters weights = lively_weights(config(), 1, DType::f64);
  ThreadPool pool(1);
  const auto moments = [&](int accumulate, const std::vector<TrainingBatch>& batches) {
    TrainingStep train(config(), weights, {.adamw = {.clip = 0}, .accumulate = accumulate});
    train.step(batches, pool, kRate);
    Parameters first;  // (1 - beta1) gradient
    for (const auto& [name, shape] : parameter_shapes(config()))
      first[name] = train.state().at("adamw." + name).select(0, 1).clone();
    return first;
  };
  const Parameters a = moments(1, {batch(1)}), b = moments(1, {batch(2)}),
                   both = moments(2, {batch(1), batch(2)});
  for (const auto& [name, m] : both) {
    Tensor mean = a.at(name).clone();
    for (std::int64_t i = 0; i < mean.numel(); ++i)
      mean.data<double>()[i] = (mean.data<double>()[i] + b.at(name).data<double>()[i]) / 2;
    test::expect_relative(m, mean, 1e-12, name);
  }
}

TEST(TrainingUpdates, ClippingLimitsTheGradient) {
  const Parameters weights = lively_weights(config(), 1, DType::f64);
  ThreadPool pool(1);
  for (const double clip : {0.0, 1e-3, 1e3}) {
    TrainingStep train(config(), weights, {.adamw = {.beta1 = 0.5, .clip = clip}});
    const double norm = train.step({batch(1)}, pool, kRate).grad_norm;
    double squares = 0;  // of the first moments, half of the clipped gradients
    for (const auto& [name, state] : train.state()) {
      for (const double m : state.select(0, 1).to_vector<double>()) squares += m * m;
    }
    const double want = clip == 1e-3 ? clip : norm;
    EXPECT_NEAR(2 * std::sqrt(squares), want, 1e-5 * want) << clip;
  }
}

// ---- average ------------------------------------------------------------------------------------
TEST(TrainingUpdates, TheAverageIsThatOfALoop) {
  for (const int accumulate : {1, 2}) {
    TrainingStep train(config(), lively_weights(config(), 1),
                       {.accumulate = accumulate, .ema = 0.8});
    ThreadPool pool(1);
    std::map<std::string, std::vector<double>> want;
    for (const auto& [name, w] : train.parameters()) want[name] = w.to_vector<double>();
    for (int i = 0; i < 8; ++i) {
      std::vector<TrainingBatch> batches;
      for (int j = 0; j < accumulate; ++j) batches.push_back(batch(i + 100 * j));
      train.step(batches, pool, kRate);
      for (auto& [name, average] : want) {
        const auto w = train.parameters().at(name).to_vector<double>();
        for (std::size_t k = 0; k < w.size(); ++k) average[k] = 0.8 * average[k] + 0.2 * w[k];
        test::expect_close(train.averaged().at(name),
                           Tensor::of(train.averaged().at(name).shape(), average), 1e-6, name);
      }
    }
    EXPECT_GT(
        max_abs_difference(train.averaged().at("wte.weight"), train.parameters().at("wte.weight")),
        1e-3);
  }
  TrainingStep without(config(), lively_weights(config(), 1));
  EXPECT_TRUE(without.averaged().empty());
}

// ---- numbers that are not finite ----------------------------------------------------------------
struct Poison {
  std::string name;
  std::string parameter;
  std::int64_t element;
  float value;
  std::string message;
};
std::ostream& operator<<(std::ostream& out, const Poison& p) { return out << p.name; }

class NotFinite : public ::testing::TestWithParam<std::tuple<Poison, int>> {};

constexpr float kNan = std::numeric_limits<float>::quiet_NaN(),
                kInf = std::numeric_limits<float>::infinity();

// Token 30 occurs in the last batch alone, and the unembedding has weights of its own.
TEST_P(NotFinite, MovesNothing) {
  const auto& [poison, accumulate] = GetParam();
  Config c = config();
  c.tied = false;
  const TrainingRules rules{.accumulate = accumulate, .ema = 0.9};
  const Parameters weights = lively_weights(c, 2);
  TrainingStep train(c, weights, rules), twin(c, weights, rules);
  ThreadPool pool(2);
  std::vector<TrainingBatch> batches;
  for (int i = 1; i < accumulate; ++i) batches.push_back(batch(i));
  batches.push_back(training_batch({{1, 2, 30, 4, 5, 6, 7, 8, 9}, {3, 3, 3, 3, 3}}));
  for (int i = 0; i < 3; ++i) {
    train.step(batches, pool, kRate);
    twin.step(batches, pool, kRate);
  }

  float& weight = train.parameters().at(poison.parameter).data<float>()[poison.element];
  const float healthy = weight;
  weight = poison.value;
  train.averaged().at("wpe.weight").data<float>()[0] = -0.0f;
  twin.averaged().at("wpe.weight").data<float>()[0] = -0.0f;
  const Parameters before = copy_of(train.state());
  const std::string message = message_of<NumericError>([&] { train.step(batches, pool, kRate); });
  EXPECT_THAT(message, AllOf(HasSubstr("step 4: the loss is "),
                             HasSubstr("no weight has been changed"), HasSubstr(poison.message)));
  expect_same_bits(train.state(), before);
  EXPECT_EQ(train.steps(), 3);

  // When the weight is well again, so is everything.
  weight = healthy;
  for (int i = 0; i < 2; ++i) {
    const auto got = train.step(batches, pool, kRate), want = twin.step(batches, pool, kRate);
    EXPECT_EQ(got.loss, want.loss);
    EXPECT_EQ(got.grad_norm, want.grad_norm);
  }
  expect_same_bits(train.state(), twin.state());
}

INSTANTIATE_TEST_SUITE_P(
    Weights, NotFinite,
    ::testing::Combine(::testing::Values(Poison{"nan_in_the_mlp", "h.1.mlp.c_fc.weight", 7, kNan,
                                                "the parameter 'h.1.mlp.c_fc.weight' holds NaN"},
                                         Poison{"inf_in_the_mlp", "h.0.mlp.c_fc.weight", 7, kInf,
                                                "NaN first appeared in op"},
                                         Poison{"nan_for_one_token", "wte.weight", 30 * 16, kNan,
                                                "the parameter 'wte.weight' holds NaN"},
                                         Poison{"nan_in_the_unembedding", "lm_head.weight", 3, kNan,
                                                "the parameter 'lm_head.weight' holds NaN"},
                                         Poison{"infinite_loss", "lm_head.weight", 20 * 16, 3e38f,
                                                "NaN first appeared in op"},
                                         // The loss is finite, the square of the gradient is not.
                                         Poison{
                                             "gradient_overflows", "ln_f.weight", 5, 1e25f,
                                             "the largest gradient is one of 'lm_head.weight', "}),
                       ::testing::Values(1, 2)),
    [](const auto& tested) {
      return fmt::format("{}_{}", std::get<0>(tested.param).name, std::get<1>(tested.param));
    });

// ---- threads, state -----------------------------------------------------------------------------
std::vector<TrainingBatch> pair_of_batches(int i) { return {batch(2 * i), batch(2 * i + 1)}; }
constexpr TrainingRules kPairs{.accumulate = 2, .ema = 0.9};

TEST(TrainingUpdates, TheBitsDoNotDependOnThreads) {
  TrainingStep a(config(), lively_weights(config(), 1), kPairs),
      b(config(), lively_weights(config(), 1), kPairs);
  ThreadPool one(1), three(3);
  for (int i = 0; i < 4; ++i) {
    const auto x = a.step(pair_of_batches(i), one, kRate),
               y = b.step(pair_of_batches(i), three, kRate);
    EXPECT_EQ(x.loss, y.loss);
    EXPECT_EQ(x.grad_norm, y.grad_norm);
  }
  expect_same_bits(a.state(), b.state());
}

TEST(TrainingUpdates, GoesOnFromAState) {
  TrainingStep train(config(), lively_weights(config(), 1), kPairs),
      other(config(), lively_weights(config(), 2), kPairs);
  ThreadPool pool(1);
  for (int i = 0; i < 3; ++i) train.step(pair_of_batches(i), pool, kRate);
  other.step(pair_of_batches(7), pool, kRate);
  other.restore(copy_of(train.state()), train.steps());
  EXPECT_EQ(other.steps(), 3);
  for (int i = 3; i < 6; ++i) {
    train.step(pair_of_batches(i), pool, kRate);
    other.step(pair_of_batches(i), pool, kRate);
  }
  expect_same_bits(train.state(), other.state());
  expect_same_bits(train.parameters(), other.parameters());
  expect_same_bits(train.averaged(), other.averaged());
}

TEST(TrainingUpdates, RefusesAStateThatIsNotItsOwn) {
  TrainingStep train(config(), lively_weights(config(), 1), kPairs);
  const Parameters state = copy_of(train.state());
  Parameters other;
  for (const auto& [name, tensor] : state)
    other[name] = Tensor::full(tensor.shape(), DType::f32, 7);
  const auto spoil = [&](const std::string& name, const Tensor& by, const std::string& message) {
    Parameters spoilt = other;
    spoilt.erase(name);
    if (by.defined()) spoilt[name] = by;
    EXPECT_THAT(message_of<CheckpointError>([&] { train.restore(spoilt, 5); }),
                AllOf(HasSubstr("'" + name + "' must be f32"), HasSubstr(message)));
    expect_same_bits(train.state(), state);
    EXPECT_EQ(train.steps(), 0);
  };
  spoil("adamw.wpe.weight", {}, "but is not there");
  spoil("average.wte.weight", {}, "but is not there");
  spoil("adamw.wte.weight", Tensor::zeros({3, 1}, DType::f32), "but is f32[3, 1]");
  spoil("average.ln_f.bias", Tensor::zeros({1, 16}, DType::f64), "but is f64[1, 16]");
}

TEST(TrainingUpdates, RefusesWhatCannotBe) {
  const Parameters weights = lively_weights(config(), 1);
  EXPECT_ERROR(Error, "at least 1 batch, not 0",
               TrainingStep(config(), weights, {.accumulate = 0}));
  for (const double ema : {-0.1, 1.0, std::nan("")})
    EXPECT_ERROR(Error, "from 0 to less than 1", TrainingStep(config(), weights, {.ema = ema}));
  Parameters spoilt = weights;
  spoilt["ln_f.bias"] = spoilt["ln_f.bias"].to(DType::f64);
  EXPECT_ERROR(CheckpointError, "'ln_f.bias' must be f32[16], but is f64[16]",
               TrainingStep(config(), spoilt));
  spoilt.erase("wte.weight");
  EXPECT_ERROR(CheckpointError, "'wte.weight' must be f32[40, 16], but is not there",
               TrainingStep(config(), spoilt));
  TrainingStep train(config(), weights, kPairs);
  ThreadPool pool(1);
  EXPECT_ERROR(Error, "a step takes 2 batches, not 1", train.step({batch(1)}, pool, kRate));
}

TEST(TrainingUpdates, EveryStateIsWrittenInPlace) {
  for (const int accumulate : {1, 2}) {
    TrainingStep train(config(), lively_weights(config(), 1),
                       {.accumulate = accumulate, .ema = 0.9});
    const TrainingBatch b = batch(1);
    EXPECT_EQ(train.plan(b.size, b.predicted).stats().update_copies, 0) << accumulate;
  }
}

}  // namespace
}  // namespace vitrine::nn
