// Attribution patching and integrated gradients against TransformerLens and PyTorch, in both
// directions; attribution beside exact patching.
#include <cmath>

#include "interp/attribution.h"
#include "interp/integrated_gradients.h"
#include "tests/interp/golden_case.h"

namespace vitrine::interp {
namespace {

class AttributionGolden : public test::GoldenTest {
 protected:
  // The scores of one site in every layer: [layer, ...].
  static Tensor stacked(const Attribution& a, const std::string& ending) {
    std::vector<double> values;
    Shape shape{0};
    for (const SiteScores& s : a.sites) {
      if (!s.site.name.ends_with("." + ending)) continue;
      const auto x = s.values.to_vector<double>();
      values.insert(values.end(), x.begin(), x.end());
      ++shape[0];
      if (shape.size() == 1)
        for (int i = 0; i < s.values.rank(); ++i) shape.push_back(s.values.dim(i));
    }
    return Tensor::of(shape, values);
  }
};

// Within 1e-4 of the largest score, which are sums over many elements.
TEST_P(AttributionGolden, EveryNodeInBothDirections) {
  for (const Direction direction : {Direction::denoise, Direction::noise}) {
    SCOPED_TRACE(name_of(direction));
    const SafeTensors golden = open(fmt::format("attribution_{}", name_of(direction)));
    const Attribution a = attribute(model(), pair, {.direction = direction});
    int compared = 0;
    for (const std::string& name : golden.names()) {
      if (!name.starts_with("node/")) continue;
      test::expect_close(stacked(a, name.substr(5)), golden.at(name).to(DType::f64), 1e-4, name);
      ++compared;
    }
    EXPECT_EQ(compared, 6);
    const SafeTensors patching = open("patching");
    EXPECT_NEAR(a.clean, patching.at("metric/clean").item<double>(), 1e-4);
    EXPECT_NEAR(a.corrupt, patching.at("metric/corrupt").item<double>(), 1e-4);
  }
}

// A gauge rewrites weights, not activations' effects on the metric: what is put into the stream and
// the neurons scores the same.
TEST_P(AttributionGolden, TheStreamScoresTheSameInTheProcessedGauge) {
  const Attribution raw = attribute(model(), pair),
                    processed = attribute(model(nn::Gauge::processed()), pair);
  for (const char* site : {"hook_resid_pre", "hook_resid_post", "hook_mlp_out", "mlp.hook_post"})
    test::expect_close(stacked(processed, site), stacked(raw, site), 1e-4, site);
}

TEST_P(AttributionGolden, ByPositionAddsUp) {
  const Attribution sums = attribute(model(), pair, {.sites = {"*.hook_z,*.mlp.hook_post"}}),
                    each = attribute(model(), pair,
                                     {.sites = {"*.hook_z,*.mlp.hook_post"}, .by_position = true});
  ASSERT_EQ(sums.sites.size(), each.sites.size());
  for (std::size_t s = 0; s < sums.sites.size(); ++s) {
    const auto total = sums.sites[s].values.to_vector<double>();
    const Tensor values = each.sites[s].values;
    EXPECT_EQ(values.dim(0), std::ssize(pair.clean));
    EXPECT_EQ(each.sites[s].axes.size(), sums.sites[s].axes.size() + 1);
    for (std::size_t i = 0; i < total.size(); ++i) {
      double sum = 0;
      for (std::int64_t p = 0; p < values.dim(0); ++p)
        sum += values.at<double>({p, static_cast<std::int64_t>(i)});
      EXPECT_NEAR(sum, total[i], 1e-4 * std::max(1.0, std::abs(total[i])));
    }
  }
}

TEST_P(AttributionGolden, EverySiteHasFiniteScores) {
  for (const Method method : {Method::attribution_patching, Method::grad_x_act}) {
    const Attribution a = attribute(model(), pair, {.method = method, .sites = {"*"}});
    EXPECT_GT(a.sites.size(), 60u);
    for (const SiteScores& s : a.sites) {
      for (const double x : s.values.to_vector<double>())
        ASSERT_TRUE(std::isfinite(x)) << s.site.name;
    }
  }
}

// Before the first layer the prompts differ in their tokens alone; there the whole effect is one
// patch away. In every case the exact change is what patching gives, and not the score.
TEST_P(AttributionGolden, TheStrongestAreVerified) {
  for (const Direction direction : {Direction::denoise, Direction::noise}) {
    const Attribution a =
        attribute(model(), pair, {.sites = {"*.hook_resid_pre"}, .direction = direction});
    const auto verified = verify_top(model(), pair, a, 6);
    ASSERT_FALSE(verified.empty());
    const PatchSweep sweep =
        patch_sweep(model(), pair, {.site = "resid_pre", .direction = direction});
    double last = std::numeric_limits<double>::infinity();
    for (const Verified& v : verified) {
      int layer = -1;
      ASSERT_EQ(std::sscanf(v.node.site.name.c_str(), "blocks.%d.", &layer), 1);
      EXPECT_NEAR(v.exact.value(), sweep.values.at<double>({layer, v.node.place.pos}) - a.base(),
                  1e-4);
      EXPECT_LE(std::abs(v.node.score), last);
      last = std::abs(v.node.score);
    }
  }
}

// Sixteen midpoints, the clean run being the base.
TEST_P(AttributionGolden, IntegratedGradients) {
  const SafeTensors golden = open("attribution_noise");
  const Integrated ig =
      integrated_gradients(model(), pair, {.steps = 16, .direction = Direction::noise});
  test::expect_close(ig.scores.values, golden.at("ig/blocks.0.hook_resid_pre").to(DType::f64), 1e-4,
                     "ig");
  const auto target = golden.at("ig/target").to_vector<double>();
  EXPECT_NEAR(ig.at_base, target[0], 1e-4);
  EXPECT_NEAR(ig.at_other, target[1], 1e-4);
  EXPECT_NEAR(ig.clean, target[0], 1e-4);
}

TEST_P(AttributionGolden, IntegratedGradientsAreComplete) {
  for (const Direction direction : {Direction::denoise, Direction::noise}) {
    for (const char* site :
         {"blocks.0.hook_resid_pre", "blocks.1.hook_resid_mid", "blocks.1.attn.hook_z",
          "blocks.2.mlp.hook_post", "blocks.1.attn.hook_attn_scores"}) {
      const auto error = [&](int steps) {
        return integrated_gradients(model(), pair,
                                    {.site = {site}, .steps = steps, .direction = direction})
            .completeness_error();
      };
      EXPECT_LT(error(16), 0.01) << site << " " << name_of(direction);
      EXPECT_LT(error(64), 0.001) << site << " " << name_of(direction);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Models, AttributionGolden, test::golden_cases(),
                         [](const auto& tested) { return tested.param.name; });

}  // namespace
}  // namespace vitrine::interp
