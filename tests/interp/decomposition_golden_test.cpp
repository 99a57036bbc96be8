// The logit lens and direct logit attribution against TransformerLens, in both gauges.
#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>

#include "interp/decomposition.h"
#include "interp/lens.h"
#include "tensor/random.h"
#include "tests/interp/golden_case.h"

namespace vitrine::interp {
namespace {

constexpr double kTolerance = 1e-4;
const nn::Gauge kGauges[] = {nn::Gauge::raw(), nn::Gauge::processed()};

class DecompositionGolden : public test::GoldenTest {
 protected:
  // Of the last position, after each layer: what the golden file has.
  static std::vector<double> after_layers(const Tensor& lens) {
    std::vector<double> values;
    for (std::int64_t l = 1; l < lens.dim(0); ++l)
      values.push_back(lens.at<double>({l, lens.dim(1) - 1}));
    return values;
  }
  static void expect_near(const std::vector<double>& mine, const Tensor& golden,
                          const std::string& name) {
    const auto want = golden.to_vector<double>();
    ASSERT_EQ(mine.size(), want.size()) << name;
    double largest = 1;
    for (const double x : want) largest = std::max(largest, std::abs(x));
    for (std::size_t i = 0; i < mine.size(); ++i)
      EXPECT_NEAR(mine[i], want[i], kTolerance * largest / 10) << name << " " << i;
  }
};

TEST_P(DecompositionGolden, Lens) {
  const SafeTensors golden = open("decomposition");
  for (const nn::Gauge& gauge : kGauges) {
    const std::string tag = nn::name_of(gauge);
    SCOPED_TRACE(tag);
    const Lens lens = logit_lens(model(gauge), pair.clean, pair.answer);
    expect_near(after_layers(lens.raw), golden.at(tag + "/lens_no_ln"), "raw");
    expect_near(after_layers(lens.ln), golden.at(tag + "/lens_ln"), "ln");
    // The last one is the model's logit.
    const Tensor logits = golden.at(tag + "/logits");
    EXPECT_NEAR(after_layers(lens.ln).back(),
                logits.to_vector<double>()[static_cast<std::size_t>(pair.answer)], kTolerance);
  }
}

TEST_P(DecompositionGolden, EveryComponent) {
  const SafeTensors golden = open("decomposition");
  std::ifstream file(GetParam().golden / "components.json");
  const auto names = nlohmann::json::parse(file).get<std::vector<std::string>>();
  for (const nn::Gauge& gauge : kGauges) {
    const std::string tag = nn::name_of(gauge);
    SCOPED_TRACE(tag);
    const Decomposition d = decompose(model(gauge), pair.clean, {.answer = pair.answer});
    const auto want = golden.at(tag + "/component_logit").to_vector<double>();
    ASSERT_EQ(names.size(), want.size());
    std::map<std::string, double> mine;
    for (const Part& p : d.parts)
      mine[p.kind == Part::Kind::attn_bias ? "bias" : p.name()] += p.value;
    double largest = 1;
    for (const double x : want) largest = std::max(largest, std::abs(x));
    for (std::size_t i = 0; i < names.size(); ++i) {
      ASSERT_TRUE(mine.contains(names[i])) << names[i];
      EXPECT_NEAR(mine.at(names[i]), want[i], kTolerance * largest / 10) << names[i];
    }
    const double logit =
        golden.at(tag + "/logits").to_vector<double>()[static_cast<std::size_t>(pair.answer)];
    EXPECT_NEAR(d.logit, logit, kTolerance);
    EXPECT_NEAR(d.total(), logit, kTolerance);
  }
}

// The parts add up, at every position, for logits and differences, on prompts of any tokens.
TEST_P(DecompositionGolden, CloseOnRandomPrompts) {
  const random::Key key{11};
  for (const nn::Gauge& gauge : kGauges) {
    const nn::Model& m = model(gauge);
    double worst = 0;
    for (std::uint64_t i = 0; i < 20; ++i) {
      const random::Key draw = key.fold(i);
      nn::Tokens prompt;
      const std::int64_t length = 1 + random::below(draw, 0, std::min(m.config().context, 40));
      for (std::int64_t t = 0; t < length; ++t)
        prompt.push_back(static_cast<int>(
            random::below(draw, static_cast<std::uint64_t>(1 + t), m.config().vocabulary)));
      DecomposeSpec spec{.answer =
                             static_cast<int>(random::below(draw, 100, m.config().vocabulary))};
      if (i % 2 == 1)
        spec.wrong = static_cast<int>(random::below(draw, 101, m.config().vocabulary));
      spec.position = random::below(draw, 102, length);
      const Decomposition d = decompose(m, prompt, spec);
      EXPECT_TRUE(d.closes()) << nn::name_of(gauge) << " " << i << ": " << d.residual();
      worst = std::max(worst, std::abs(d.residual()) / std::max(1.0, d.magnitude()));
      // Neurons and their bias are what the MLP wrote.
      const std::int64_t neurons = d.neurons.dim(1);
      for (const Part& p : d.parts) {
        if (p.kind != Part::Kind::mlp) continue;
        double sum = d.mlp_biases.at<double>({p.layer}), size = std::abs(sum);
        for (std::int64_t n = 0; n < neurons; ++n) {
          sum += d.neurons.at<double>({p.layer, n});
          size += std::abs(d.neurons.at<double>({p.layer, n}));
        }
        EXPECT_NEAR(sum, p.value, 1e-5 * std::max(1.0, size)) << p.name();
      }
    }
    RecordProperty(nn::name_of(gauge), fmt::format("{:.2e}", worst));
  }
}

INSTANTIATE_TEST_SUITE_P(Models, DecompositionGolden, test::golden_cases(),
                         [](const auto& tested) { return tested.param.name; });

}  // namespace
}  // namespace vitrine::interp
