// Cross-layer transcoders: their losses beside plain f64 formulas, gradients beside finite differences of these, training,
// folders.
#include <gmock/gmock.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "sae/set_evaluation.h"
#include "sae/trainer.h"
#include "tensor/error.h"
#include "tests/sae/small_sae.h"
#include "tests/support.h"
#include "tests/tensor/expect_error.h"
#include "tests/tensor/temporary_folder.h"

namespace vitrine::test {
namespace {

using sae::Kind;

void expect_same_bits(const Tensor& a, const Tensor& b) {
  ASSERT_EQ(a.shape(), b.shape());
  const Tensor left = a.contiguous(), right = b.contiguous();
  EXPECT_EQ(std::memcmp(left.view().data, right.view().data, left.bytes()), 0);
}

constexpr std::int64_t kLayers = 3, kInputs = 5, kOutputs = 5, kFeatures = 12, kRows = 16;

sae::SaeTrainingRules rules_of(Kind kind) {
  sae::SaeTrainingRules r;
  r.kind = kind;
  r.transcoder = true;
  r.layers = kLayers;
  r.d_in = kInputs;
  r.d_out = kOutputs;
  r.d_sae = kFeatures;
  r.k = 3;
  r.rescale_by_decoder_norm = false;
  r.sparsity = 0.02;
  r.penalty = sae::Penalty::tanh;
  r.aux = 0;
  r.batch = kRows;
  r.clip = 0;
  return r;
}

// In f64, by loops: h, f, sum_l |y_l - y'_l|^2 / sum |y_l - mean y_l|^2, and the penalty of the kind.
class Plain {
 public:
  Plain(const sae::SaeTrainingRules& rules, const Parameters& weights, const sae::Batch& batch)
      : r_(rules) {
    for (const auto& [name, tensor] : weights) w[name] = tensor.to_vector<double>();
    x_ = batch.x.to_vector<double>();
    y_ = batch.y.to_vector<double>();
  }

  double loss() const {
    std::vector<double> given(y_.size(), 0.0);
    double penalty = 0;
    for (std::int64_t l = 0; l < kLayers; ++l) {
      const std::vector<double> z = features(l);
      penalty += penalty_of(l, z);
      for (std::int64_t n = 0; n < kRows; ++n) {
        for (std::int64_t to = l; to < kLayers; ++to) {
          for (std::int64_t c = 0; c < kOutputs; ++c) {
            double sum = to == l ? at(l, "b_dec", c) : 0;
            for (std::int64_t j = 0; j < kFeatures; ++j)
              sum += z[index(n * kFeatures + j)] *
                     at(l, "W_dec", j * (kLayers - l) * kOutputs + (to - l) * kOutputs + c);
            given[index((n * kLayers + to) * kOutputs + c)] += sum;
          }
        }
      }
    }
    double total = penalty;
    for (std::int64_t l = 0; l < kLayers; ++l) total += normalised_error(l, given);
    return total;
  }

  // [rows, features] of one layer.
  std::vector<double> features(std::int64_t l) const {
    std::vector<double> z;
    for (std::int64_t n = 0; n < kRows; ++n) {
      for (std::int64_t j = 0; j < kFeatures; ++j) {
        double h = at(l, "b_enc", j);
        for (std::int64_t i = 0; i < kInputs; ++i)
          h += x_[index((n * kLayers + l) * kInputs + i)] * at(l, "W_enc", j * kInputs + i);
        const bool on = r_.kind != Kind::jumprelu || h > at(l, "threshold", j);
        z.push_back(on && (r_.kind == Kind::jumprelu || h > 0) ? h : 0);
      }
    }
    if (!r_.competes()) return z;
    const std::int64_t group = r_.kind == Kind::topk ? kFeatures : kFeatures * kRows;
    const std::int64_t most = static_cast<std::int64_t>(r_.k) * group / kFeatures;
    for (auto begin = z.begin(); begin != z.end(); begin += group) {
      std::vector<double> sorted(begin, begin + group);
      std::sort(sorted.rbegin(), sorted.rend());
      for (auto it = begin; it != begin + group; ++it)
        *it = *it >= sorted[index(most - 1)] ? *it : 0;
    }
    return z;
  }

  std::map<std::string, std::vector<double>> w;

 private:
  static std::size_t index(std::int64_t i) { return static_cast<std::size_t>(i); }
  double at(std::int64_t l, const char* name, std::int64_t i) const {
    return w.at(sae::weight_name(r_, l, name))[index(i)];
  }
  double penalty_of(std::int64_t l, const std::vector<double>& z) const {
    if (r_.competes()) return 0;
    double sum = 0;
    for (std::int64_t j = 0; j < kFeatures; ++j) {
      double squares = 0;
      const std::int64_t width = (kLayers - l) * kOutputs;
      for (std::int64_t c = 0; c < width; ++c)
        squares += std::pow(at(l, "W_dec", j * width + c), 2);
      for (std::int64_t n = 0; n < kRows; ++n) {
        const double size = z[index(n * kFeatures + j)] * std::sqrt(squares);
        sum += r_.kind == Kind::jumprelu ? std::tanh(r_.tanh_scale * size) : size;
      }
    }
    return r_.sparsity * sum / kRows;
  }
  double normalised_error(std::int64_t l, const std::vector<double>& given) const {
    double error = 0, variance = 0;
    for (std::int64_t c = 0; c < kOutputs; ++c) {
      double mean = 0;
      for (std::int64_t n = 0; n < kRows; ++n)
        mean += y_[index((n * kLayers + l) * kOutputs + c)] / kRows;
      for (std::int64_t n = 0; n < kRows; ++n) {
        const std::size_t i = index((n * kLayers + l) * kOutputs + c);
        error += std::pow(given[i] - y_[i], 2);
        variance += std::pow(y_[i] - mean, 2);
      }
    }
    return error / variance;
  }

  sae::SaeTrainingRules r_;
  std::vector<double> x_, y_;
};

Parameters drawn_weights(const sae::SaeTrainingRules& rules) {
  Parameters w;
  for (const auto& [name, shape] : sae::trained_shapes(rules)) {
    w[name] = draw(name, shape, 0.5);
    if (!name.ends_with("threshold")) continue;
    for (std::int64_t j = 0; j < kFeatures; ++j)
      w[name].data<float>()[j] = std::abs(w[name].data<float>()[j]);
  }
  return w;
}
sae::Batch drawn_batch() {
  return {draw("x", {kRows, kLayers * kInputs}), draw("y", {kRows, kLayers * kOutputs})};
}

class CrossLayerLoss : public ::testing::TestWithParam<Kind> {};
INSTANTIATE_TEST_SUITE_P(Kinds, CrossLayerLoss,
                         ::testing::Values(Kind::standard, Kind::jumprelu, Kind::topk,
                                           Kind::batchtopk),
                         [](const auto& tested) {
                           return std::string(sae::name_of(tested.param));
                         });

TEST_P(CrossLayerLoss, IsThatOfThePlainFormulas) {
  const sae::SaeTrainingRules rules = rules_of(GetParam());
  const Parameters weights = drawn_weights(rules);
  ThreadPool pool(2);
  const auto found = sae::SaeTrainingStep(rules, weights).gradients(drawn_batch(), pool);
  const Plain plain(rules, weights, drawn_batch());
  EXPECT_NEAR(found.outcome.loss, plain.loss(), 1e-5 * plain.loss());
  double active = 0;
  for (std::int64_t l = 0; l < kLayers; ++l) {
    const std::vector<double> z = plain.features(l);
    active += static_cast<double>(std::ranges::count_if(z, [](double v) { return v != 0; }));
    for (std::int64_t i = 0; i < std::ssize(z); ++i)
      ASSERT_NEAR(
          found.features
              .data<float>()[i / kFeatures * kLayers * kFeatures + l * kFeatures + i % kFeatures],
          z[static_cast<std::size_t>(i)], 1e-5);
  }
  EXPECT_NEAR(found.outcome.l0, active / kRows, 1e-9);
}

TEST_P(CrossLayerLoss, HasTheGradientsOfFiniteDifferences) {
  const sae::SaeTrainingRules rules = rules_of(GetParam());
  const Parameters weights = drawn_weights(rules);
  ThreadPool pool(2);
  const auto found = sae::SaeTrainingStep(rules, weights).gradients(drawn_batch(), pool);
  Plain plain(rules, weights, drawn_batch());
  for (const auto& [name, tensor] : found.gradients) {
    if (name.ends_with("threshold"))
      continue;  // a straight-through estimator: no derivative of the loss
    std::vector<double>& w = plain.w.at(name);
    for (std::size_t i = 0; i < w.size(); i += 7) {
      const double before = w[i];
      constexpr double kStep = 1e-5;
      w[i] = before + kStep;
      const double above = plain.loss();
      w[i] = before - kStep;
      const double below = plain.loss();
      w[i] = before;
      EXPECT_NEAR(tensor.data<float>()[i], (above - below) / (2 * kStep), 2e-5)
          << name << "[" << i << "]";
    }
  }
}

TEST_P(CrossLayerLoss, IsTheSameByATableAsDensely) {
  const sae::SaeTrainingRules rules = rules_of(GetParam());
  if (rules.competes()) return;  // these have a table always
  ThreadPool pool(2);
  sae::SaeTrainingStep step(rules, drawn_weights(rules));
  const auto dense = step.gradients(drawn_batch(), pool);
  step.fix_view(kFeatures);
  const auto table = step.gradients(drawn_batch(), pool);
  EXPECT_NEAR(dense.outcome.loss, table.outcome.loss, 1e-6);
  for (const auto& [name, tensor] : dense.gradients)
    expect_close(table.gradients.at(name), tensor, 1e-5, name);
}

TEST(CrossLayer, AThresholdHasTheStraightThroughGradient) {
  sae::SaeTrainingRules rules = rules_of(Kind::jumprelu);
  rules.penalty = sae::Penalty::step;
  rules.bandwidth = 0.5;
  ThreadPool pool(2);
  const auto found =
      sae::SaeTrainingStep(rules, drawn_weights(rules)).gradients(drawn_batch(), pool);
  double largest = 0;
  for (std::int64_t l = 0; l < kLayers; ++l) {
    for (const float g :
         found.gradients.at(sae::weight_name(rules, l, "threshold")).to_vector<float>())
      largest = std::max(largest, std::abs(static_cast<double>(g)));
  }
  EXPECT_GT(largest, 1e-3);
}

// Rows of three layers: each output is made of the inputs of its own layer and of earlier ones.
class LayersSource : public sae::ActivationSource {
 public:
  LayersSource() {
    for (int l = 0; l < kLayers; ++l) columns_.push_back({"in." + std::to_string(l), kInputs});
    for (int l = 0; l < kLayers; ++l) columns_.push_back({"out." + std::to_string(l), kOutputs});
    map_ = draw("map", {kLayers * kInputs, kOutputs}, 0.5);
  }
  const std::vector<Column>& columns() const override { return columns_; }
  std::int64_t rows() const override { return 1 << 20; }
  std::int64_t items() const override { return 1 << 20; }
  std::string fingerprint() const override { return "layers"; }
  std::vector<Tensor> read(sae::SourcePlace& place) override {
    constexpr std::int64_t kTogether = 500;
    std::vector<Tensor> out;
    for (int l = 0; l < kLayers; ++l)
      out.push_back(
          draw("x" + std::to_string(place.item) + "." + std::to_string(l), {kTogether, kInputs}));
    for (int l = 0; l < kLayers; ++l) {
      Tensor y = Tensor::zeros({kTogether, kOutputs}, DType::f32);
      for (std::int64_t n = 0; n < kTogether; ++n) {
        for (int from = 0; from <= l; ++from) {
          for (std::int64_t i = 0; i < kInputs; ++i) {
            const float x =
                std::max(0.F, out[static_cast<std::size_t>(from)].data<float>()[n * kInputs + i]);
            for (std::int64_t c = 0; c < kOutputs; ++c)
              y.data<float>()[n * kOutputs + c] +=
                  x * map_.data<float>()[(from * kInputs + i) * kOutputs + c];
          }
        }
      }
      out.push_back(y);
    }
    place.item += kTogether;
    return out;
  }

 private:
  std::vector<Column> columns_;
  Tensor map_;
};

sae::TrainSettings settings_for(Kind kind, std::int64_t steps) {
  sae::SaeTrainingRules r = rules_of(kind);
  r.d_sae = 40;
  r.k = 6;
  r.batch = 250;
  r.sparsity = 0.001;
  r.clip = 1;
  r.aux = 1;
  r.normalise = sae::Normalisation::expected_average_only_in;
  r.schedule = {nn::Schedule::Shape::constant, 1e-2, 0, steps, 1};
  sae::TrainSettings s;
  s.jobs = {{"", r, {"in.0", "in.1", "in.2"}, {"out.0", "out.1", "out.2"}}};
  s.steps = steps;
  s.buffer.rows = 4000;
  return s;
}

class CrossLayerTraining : public ::testing::TestWithParam<Kind> {};
INSTANTIATE_TEST_SUITE_P(Kinds, CrossLayerTraining,
                         ::testing::Values(Kind::standard, Kind::jumprelu, Kind::topk,
                                           Kind::batchtopk),
                         [](const auto& tested) {
                           return std::string(sae::name_of(tested.param));
                         });

TEST_P(CrossLayerTraining, ExplainsWhatEarlierLayersCauseAndIsReadBack) {
  LayersSource source;
  const TemporaryFolder folder;
  sae::SaeTrainer t = sae::SaeTrainer::begin(settings_for(GetParam(), 250), source, folder.path());
  ThreadPool pool(2);
  sae::StepOutcome last;
  while (!t.done()) last = t.step(pool)[0];
  ASSERT_EQ(last.explained_layers.size(), 3U);
  // The last output is mostly made of earlier layers' inputs, which a transcoder of its own layer does not see.
  EXPECT_GT(last.explained_layers[2], 0.8);
  t.save();
  const sae::TranscoderSet made = t.finished_layers(0), read = sae::load_transcoders(folder.path());
  EXPECT_TRUE(read.cross_layer);
  EXPECT_EQ(read.activation, made.activation);
  EXPECT_EQ(read.k, made.k);
  EXPECT_EQ(read.inputs, made.inputs);
  EXPECT_EQ(read.outputs, made.outputs);
  ASSERT_EQ(read.layers.size(), 3U);
  for (std::size_t l = 0; l < 3; ++l) {
    expect_same_bits(read.layers[l].w_enc, made.layers[l].w_enc);
    expect_same_bits(read.layers[l].b_dec, made.layers[l].b_dec);
    ASSERT_EQ(read.layers[l].w_dec.size(), 3 - l);
    for (std::size_t to = 0; to < 3 - l; ++to)
      expect_same_bits(read.layers[l].w_dec[to], made.layers[l].w_dec[to]);
  }
  // What was read explains the rows as they come from the source, without the scales of training.
  sae::SourcePlace place;
  const std::vector<Tensor> rows = source.read(place);
  std::vector<double> error(3, 0), squares(3, 0);
  std::vector<Tensor> a;
  for (std::size_t l = 0; l < 3; ++l)
    a.push_back(activations(read, l, pre_activations(read, l, rows[l], pool)));
  for (std::size_t l = 0; l < 3; ++l) {
    for (std::int64_t n = 0; n < 200; ++n) {
      for (std::int64_t c = 0; c < kOutputs; ++c) {
        double y = read.layers[l].b_dec.data<float>()[c];
        for (std::size_t from = 0; from <= l; ++from) {
          for (std::int64_t j = 0; j < 40; ++j)
            y += static_cast<double>(a[from].data<float>()[n * 40 + j]) *
                 read.layers[from].w_dec[l - from].data<float>()[j * kOutputs + c];
        }
        const double target = rows[3 + l].data<float>()[n * kOutputs + c];
        error[l] += (y - target) * (y - target);
        squares[l] += (target - read.layers[l].b_dec.data<float>()[c]) *
                      (target - read.layers[l].b_dec.data<float>()[c]);
      }
    }
    EXPECT_LT(error[l] / squares[l], 0.25) << "layer " << l;
  }
}

TEST_P(CrossLayerTraining, GoesOnToTheSameBits) {
  LayersSource source;
  const TemporaryFolder whole, cut;
  ThreadPool one(1), two(2);
  sae::SaeTrainer t = sae::SaeTrainer::begin(settings_for(GetParam(), 12), source, whole.path());
  while (!t.done()) t.step(one);
  sae::SaeTrainer::begin(settings_for(GetParam(), 12), source, cut.path());
  for (int part = 0; part < 3; ++part) {
    sae::SaeTrainer resumed = sae::SaeTrainer::resume(source, cut.path());
    for (int i = 0; i < 4; ++i) resumed.step(two);
    resumed.save();
  }
  const sae::SaeTrainer again = sae::SaeTrainer::resume(source, cut.path());
  for (const auto& [name, tensor] : t.jobs()[0].state())
    expect_same_bits(again.jobs()[0].state().at(name), tensor);
}

TEST(CrossLayer, RulesThatCannotBeAreRefused) {
  sae::SaeTrainingRules r = rules_of(Kind::gated);
  EXPECT_ERROR(Error,
               "a cross-layer transcoder is standard, topk, batchtopk or jumprelu, not gated",
               check_rules(r));
  r = rules_of(Kind::standard);
  r.transcoder = false;
  EXPECT_ERROR(Error, "3 layers, but only a transcoder can be of several", check_rules(r));
  LayersSource source;
  const TemporaryFolder folder;
  sae::TrainSettings s = settings_for(Kind::topk, 10);
  s.jobs[0].targets.pop_back();
  EXPECT_ERROR(Error, "reads 3 activations and gives 2",
               sae::SaeTrainer::begin(s, source, folder.path()));
}

}  // namespace
}  // namespace vitrine::test
