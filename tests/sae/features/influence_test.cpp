// Influence of features on later features, beside a model that is small enough to solve by hand.
#include "sae/features/influence.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "nn/model/checkpoint.h"
#include "nn/model/weights.h"
#include "sae/folder.h"
#include "tensor/error.h"
#include "tests/sae/small_sae.h"
#include "tests/support.h"
#include "tests/tensor/expect_error.h"

namespace vitrine::test {
namespace {

using Vector = std::vector<double>;

// One layer, one head, width 6; queries and keys are 0, so every token attends to all up to itself
// alike.
class ByHand : public ::testing::Test {
 protected:
  static constexpr int kWidth = 6;
  ByHand() : model_(make()) {
    source_ = small_sae({.d_in = kWidth, .d_sae = 10});
    source_.config.hook_name = "blocks.0.hook_resid_pre";
    target_ = small_sae({.d_in = kWidth, .d_sae = 7});
    target_.config.hook_name = "blocks.0.hook_attn_out";
    for (auto& [name, tensor] : target_.weights)
      if (name == "b_enc") tensor = draw("more", {7}, 0.5);
  }

  static nn::Model make() {
    nn::Config c;
    c.layers = 1;
    c.heads = 1;
    c.d_model = kWidth;
    c.d_mlp = 8;
    c.context = 8;
    c.vocabulary = 5;
    Parameters p;
    for (const auto& [name, shape] : nn::parameter_shapes(c)) p[name] = draw(name, shape, 0.5);
    const Tensor w = p["h.0.attn.c_attn.weight"], b = p["h.0.attn.c_attn.bias"];
    for (int i = 0; i < kWidth; ++i) {
      for (int j = 0; j < 2 * kWidth; ++j) w.data<float>()[i * 3 * kWidth + j] = 0;
    }
    for (int j = 0; j < 2 * kWidth; ++j) b.data<float>()[j] = 0;
    return {c, p, std::nullopt, {.threads = 1}};
  }

  double weight(const char* name, int i, int j = -1) const {
    const Tensor& t = model_.parameters().at(name);
    return t.data<float>()[j < 0 ? i : i * t.dim(1) + j];
  }
  static double of(const sae::Sae& s, const char* name, std::int64_t i, std::int64_t j = -1) {
    const Tensor& t = s.weights.at(name);
    return t.data<float>()[j < 0 ? i : i * t.dim(1) + j];
  }

  Vector stream(int p) const {
    Vector x;
    for (int i = 0; i < kWidth; ++i)
      x.push_back(weight("wte.weight", prompt_[static_cast<std::size_t>(p)], i) +
                  weight("wpe.weight", p, i));
    return x;
  }
  double feature(int p, std::int64_t j) const {
    const Vector x = stream(p);
    double h = of(source_, "b_enc", j);
    for (int i = 0; i < kWidth; ++i)
      h += (x[static_cast<std::size_t>(i)] - of(source_, "b_dec", i)) * of(source_, "W_enc", i, j);
    return std::max(0.0, h);
  }
  struct Normal {
    Vector n;
    double s;
  };
  static Normal normal(const Vector& x) {
    double mean = 0, var = 0;
    for (const double v : x) mean += v / kWidth;
    for (const double v : x) var += (v - mean) * (v - mean) / kWidth;
    Normal out{x, std::sqrt(var + 1e-5)};
    for (double& v : out.n) v = (v - mean) / out.s;
    return out;
  }
  // What target t's pre-activation reads of a normalised vector, without biases.
  double read(const Vector& n, std::int64_t t, bool with_bias) const {
    double h = 0;
    for (int e = 0; e < kWidth; ++e) {
      double v = with_bias ? weight("h.0.attn.c_attn.bias", 2 * kWidth + e) : 0;
      for (int i = 0; i < kWidth; ++i) {
        const double y = n[static_cast<std::size_t>(i)] * weight("h.0.ln_1.weight", i) +
                         (with_bias ? weight("h.0.ln_1.bias", i) : 0);
        v += y * weight("h.0.attn.c_attn.weight", i, 2 * kWidth + e);
      }
      double o = 0;
      for (int i = 0; i < kWidth; ++i)
        o += weight("h.0.attn.c_proj.weight", e, i) * of(target_, "W_enc", i, t);
      h += v * o;
    }
    return h;
  }
  // h of target t at q, with feature j at p taken away (p < 0: nothing), the LayerNorm's scale
  // recomputed or held.
  double pre(std::int64_t t, int q, int p, std::int64_t j, bool hold) const {
    double h = of(target_, "b_enc", t);
    for (int i = 0; i < kWidth; ++i)
      h += (weight("h.0.attn.c_proj.bias", i) - of(target_, "b_dec", i)) *
           of(target_, "W_enc", i, t);
    for (int k = 0; k <= q; ++k) {
      const Vector x = stream(k);
      Vector y = x;
      if (k == p) {
        for (int i = 0; i < kWidth; ++i)
          y[static_cast<std::size_t>(i)] -= feature(p, j) * of(source_, "W_dec", j, i);
      }
      Normal n = normal(y);
      if (hold) {
        const double by = n.s / normal(x).s;
        for (double& v : n.n) v *= by;
      }
      h += read(n.n, t, true) / (q + 1);
    }
    return h;
  }
  double first_order(std::int64_t t, int q, int p, std::int64_t j, bool through_scale) const {
    if (p > q) return 0;
    const Normal n = normal(stream(p));
    double mean = 0, along = 0;
    Vector d;
    for (int i = 0; i < kWidth; ++i) {
      d.push_back(of(source_, "W_dec", j, i));
      mean += d.back() / kWidth;
      along += d.back() * n.n[static_cast<std::size_t>(i)] / kWidth;
    }
    for (int i = 0; i < kWidth; ++i) {
      const auto k = static_cast<std::size_t>(i);
      d[k] = (d[k] - mean - (through_scale ? n.n[k] * along : 0)) / n.s;
    }
    return feature(p, j) * read(d, t, false) / (q + 1);
  }

  nn::Model model_;
  sae::Sae source_, target_;
  const nn::Tokens prompt_ = {3, 0, 4, 1};
};

TEST_F(ByHand, FirstOrderAndExactEffectsAreTheHands) {
  for (const Policy norm : {Policy::recompute, Policy::detach, Policy::hold}) {
    for (const Policy attention : {Policy::recompute, Policy::detach, Policy::hold}) {
      sae::InfluenceSpec spec{.targets = 100, .causes = 100, .verify = 100};
      spec.policies.norm = norm;
      spec.policies.attention = attention;
      const sae::Influence found = sae::influence(model_, source_, target_, prompt_, spec);
      ASSERT_GE(found.targets.size(), 3U);
      int causes = 0;
      for (const auto& t : found.targets) {
        const int q = static_cast<int>(t.at.position);
        EXPECT_NEAR(t.at.pre, pre(t.at.feature, q, -1, 0, false), 1e-5);
        EXPECT_NEAR(t.at.activation, std::max(0.0, t.at.pre), 1e-6);
        Vector by_position(4, 0);
        for (const sae::Cause& c : t.causes) {
          const int p = static_cast<int>(c.source.position);
          EXPECT_NEAR(c.source.activation, feature(p, c.source.feature), 1e-5);
          EXPECT_NEAR(c.first_order,
                      first_order(t.at.feature, q, p, c.source.feature, norm == Policy::recompute),
                      1e-5);
          ASSERT_TRUE(c.exact.has_value());
          EXPECT_NEAR(*c.exact,
                      t.at.pre - pre(t.at.feature, q, p, c.source.feature, norm == Policy::hold),
                      1e-5);
          by_position[static_cast<std::size_t>(p)] += c.first_order;
          causes += p < q ? 1 : 0;
        }
        for (std::size_t p = 0; p < 4; ++p) EXPECT_NEAR(t.by_position[p], by_position[p], 1e-5);
      }
      EXPECT_GT(causes, 3);
    }
  }
}

TEST_F(ByHand, AsksForPositionsAndFeatures) {
  sae::InfluenceSpec spec{
      .source_positions = {1}, .target_positions = {3}, .target_features = {2, 5}};
  spec.source_features = {4};
  const sae::Influence found = sae::influence(model_, source_, target_, prompt_, spec);
  ASSERT_EQ(found.targets.size(), 2U);  // also when they are not active
  for (const auto& t : found.targets) {
    EXPECT_EQ(t.at.position, 3);
    for (const sae::Cause& c : t.causes) {
      EXPECT_EQ(c.source.position, 1);
      EXPECT_EQ(c.source.feature, 4);
    }
  }
  spec.target_positions = {4};
  EXPECT_ERROR(Error, "there is no position 4; there are 0 to 3",
               sae::influence(model_, source_, target_, prompt_, spec));
  spec.target_positions = {};
  spec.target_features = {7};
  EXPECT_ERROR(Error, "there is no target feature 7; there are 0 to 6",
               sae::influence(model_, source_, target_, prompt_, spec));
}

TEST_F(ByHand, TheTargetMustComeAfterTheSource) {
  EXPECT_ERROR(
      Error,
      "nothing at 'blocks.0.hook_resid_pre' depends on 'blocks.0.hook_attn_out': the target "
      "SAE must come after the source",
      sae::influence(model_, target_, source_, prompt_));
}

TEST_F(ByHand, AnSaeMustSayItsSite) {
  sae::Sae nameless = source_;
  nameless.config.hook_name = "";
  EXPECT_ERROR(ConfigError, "the source SAE's cfg.json does not say the site",
               sae::influence(model_, nameless, target_, prompt_));
}

// ---- many prompts -------------------------------------------------------------------------------
TEST_F(ByHand, ManyPromptsAreAsEachIsAlone) {
  const std::vector<nn::Tokens> prompts = {{3, 0, 4, 1}, {2, 2}, {0, 1, 2, 3, 4}, {4}, {1, 3, 0}};
  const std::vector<std::int64_t> positions = {3, 0, 2, 0, 2};
  for (const std::int64_t rows : {100, 6}) {  // one batch, or several
    for (const Policy norm : {Policy::recompute, Policy::hold}) {
      sae::InfluenceOverSpec over{.target_positions = positions, .targets = 100, .causes = 100};
      over.rows = rows;
      over.policies.norm = norm;
      const sae::InfluenceOver found = sae::influence_over(model_, source_, target_, prompts, over);
      ASSERT_GE(found.targets.size(), 3U);
      for (const auto& t : found.targets) {
        std::map<std::int64_t, Vector> effects;  // by source feature: in each prompt that counts
        Vector activations;
        for (std::size_t i = 0; i < prompts.size(); ++i) {
          sae::InfluenceSpec spec{
              .target_positions = {positions[i]}, .targets = 100, .causes = 1000, .verify = 0};
          spec.policies.norm = norm;
          const sae::Influence one = sae::influence(model_, source_, target_, prompts[i], spec);
          for (const auto& of_one : one.targets) {
            if (of_one.at.feature != t.feature) continue;
            activations.push_back(of_one.at.activation);
            std::map<std::int64_t, double> sums;
            for (const sae::Cause& c : of_one.causes) sums[c.source.feature] += c.first_order;
            for (const auto& [j, sum] : sums) effects[j].push_back(sum);
          }
        }
        const auto n = static_cast<double>(activations.size());
        EXPECT_EQ(t.active, std::ssize(activations));
        double mean = 0;
        for (const double a : activations) mean += a / n;
        EXPECT_NEAR(t.activation, mean, 1e-6);
        EXPECT_EQ(t.causes.size(), effects.size());
        for (const sae::MeanCause& c : t.causes) {
          Vector each = effects.at(c.feature);
          EXPECT_EQ(c.active, std::ssize(each));
          each.resize(activations.size(), 0);
          double m = 0, squares = 0;
          for (const double x : each) m += x / n;
          for (const double x : each) squares += (x - m) * (x - m);
          EXPECT_NEAR(c.first_order, m, 1e-6);
          if (n > 1) {
            EXPECT_NEAR(c.standard_error, std::sqrt(squares / (n - 1) / n), 1e-6);
          } else {
            EXPECT_TRUE(std::isnan(c.standard_error));
          }
        }
      }
    }
  }
}

TEST_F(ByHand, GroupsAndEachPromptAreAsIfAlone) {
  const std::vector<nn::Tokens> prompts = {{3, 0, 4, 1}, {2, 2}, {0, 1, 2, 3, 4}, {4}, {1, 3, 0}};
  sae::InfluenceOverSpec spec{.targets = 100, .causes = 100, .rows = 6};
  spec.groups = {{0, 2, 4}, {1}};
  const sae::InfluenceOver found = sae::influence_over(model_, source_, target_, prompts, spec);
  ASSERT_GE(found.targets.size(), 3U);
  spec.target_features.clear();
  for (const auto& t : found.targets) spec.target_features.push_back(t.feature);
  std::sort(spec.target_features.begin(), spec.target_features.end());
  const auto of = [](const std::vector<sae::InfluenceOver::Target>& targets, std::int64_t feature) {
    for (const auto& t : targets) {
      if (t.feature == feature) return t;
    }
    return sae::InfluenceOver::Target{};
  };
  int causes = 0;
  const auto expect_alone = [&](const std::vector<std::size_t>& members,
                                const std::vector<sae::InfluenceOver::Target>& got) {
    std::vector<nn::Tokens> some;
    for (const std::size_t i : members) some.push_back(prompts[i]);
    sae::InfluenceOverSpec alone = spec;
    alone.groups = {};
    const auto want = sae::influence_over(model_, source_, target_, some, alone);
    for (const auto& t : found.targets) {
      const auto a = of(got, t.feature), b = of(want.targets, t.feature);
      EXPECT_EQ(a.active, b.active);
      EXPECT_NEAR(a.activation, b.activation, 1e-6);
      ASSERT_EQ(a.causes.size(), b.causes.size());
      for (std::size_t c = 0; c < a.causes.size(); ++c, ++causes) {
        EXPECT_EQ(a.causes[c].feature, b.causes[c].feature);
        EXPECT_NEAR(a.causes[c].first_order, b.causes[c].first_order, 1e-6);
        EXPECT_EQ(a.causes[c].active, b.causes[c].active);
      }
    }
  };
  for (std::size_t g = 0; g < 2; ++g) expect_alone(spec.groups[g], found.groups[g]);
  for (std::size_t i = 0; i < prompts.size(); ++i) {
    std::vector<sae::InfluenceOver::Target> got;
    for (std::size_t k = 0; k < found.targets.size(); ++k) {
      const auto& one = found.each[i][k];
      got.push_back(
          {found.targets[k].feature, one.activation > 0 ? 1 : 0, one.activation, one.causes});
    }
    expect_alone({i}, got);
  }
  EXPECT_GT(causes, 10);
  spec.groups = {{5}};
  EXPECT_ERROR(Error, "group 0 has prompt 5, but there are 5 prompts",
               sae::influence_over(model_, source_, target_, prompts, spec));
}

TEST_F(ByHand, ManyPromptsAreAskedForFeaturesAndPositionsThatAreThere) {
  const std::vector<nn::Tokens> prompts = {{3, 0, 4}, {2, 2}};
  sae::InfluenceOverSpec spec{.source_features = {4}, .target_features = {2, 5}};
  const sae::InfluenceOver found = sae::influence_over(model_, source_, target_, prompts, spec);
  ASSERT_EQ(found.targets.size(), 2U);  // also when they are not active
  for (const auto& t : found.targets) {
    for (const sae::MeanCause& c : t.causes) EXPECT_EQ(c.feature, 4);
  }
  spec.target_positions = {0};
  EXPECT_ERROR(Error, "2 prompts and 1 positions of targets",
               sae::influence_over(model_, source_, target_, prompts, spec));
  spec.target_positions = {0, 2};
  EXPECT_ERROR(Error, "prompt 1: there is no position 2; there are 0 to 1",
               sae::influence_over(model_, source_, target_, prompts, spec));
  spec.target_positions = {};
  spec.target_features = {7};
  EXPECT_ERROR(Error, "there is no target feature 7",
               sae::influence_over(model_, source_, target_, prompts, spec));
}

// ---- several layers at once, transcoders among them -----------------------------------------------
class InSeveralLayers : public ::testing::Test {
 protected:
  InSeveralLayers() : model_(nn::load_model((data() / "tiny-gpt2").string())) {
    sources_ = {transcoder(0), of("blocks.1.hook_attn_out"), transcoder(1)};
    targets_ = {of("blocks.1.hook_resid_mid"), transcoder(2)};
  }
  sae::Sae of(const std::string& site) const {
    sae::Sae s = small_sae({.d_in = 48, .d_sae = 30});
    s.config.hook_name = s.name = site;
    return s;
  }
  sae::Sae transcoder(int layer) const {
    sae::Sae s = small_sae({.d_in = 48, .d_sae = 24 + layer, .d_out = 48, .transcoder = true});
    s.config.hook_name = fmt::format("blocks.{}.ln2.hook_normalized", layer);
    s.config.hook_name_out = fmt::format("blocks.{}.hook_mlp_out", layer);
    return s;
  }
  // The pre-activation of a target, where the source's feature writes `factor` of what it wrote more: nothing is spliced.
  double pre(const sae::FeatureAt& target, const sae::FeatureAt& source, double factor) const {
    const sae::Sae& from = sources_[source.sae];
    const std::string at =
        from.config.transcoder ? from.config.hook_name_out : from.config.hook_name;
    const Tensor row = from.weights.at("W_dec").select(0, source.feature).contiguous();
    const sae::Sae& to = targets_[target.sae];
    const nn::Run run = model_.run_edited(
        {prompt_}, {add(Site{at}, row, factor * source.activation, {.pos = {source.position}})},
        fetch(sites(to.config.hook_name)));
    const auto x = run[to.config.hook_name].select(0, 0).select(0, target.position).contiguous();
    double sum = of_weight(to, "b_enc", target.feature);
    for (std::int64_t i = 0; i < 48; ++i)
      sum += (x.at<float>({i}) -
              (to.config.transcoder ? 0.0 : to.weights.at("b_dec").at<float>({i}))) *
             to.weights.at("W_enc").at<float>({i, target.feature});
    return sum;
  }
  static double of_weight(const sae::Sae& s, const char* name, std::int64_t i) {
    return s.weights.at(name).at<float>({i});
  }

  nn::Model model_;
  std::vector<sae::Sae> sources_, targets_;
  const nn::Tokens prompt_ = {5, 17, 33, 64, 2, 88};
};

TEST_F(InSeveralLayers, CausesAreThoseOfTheModelWithoutASplice) {
  const sae::Influence found = sae::influence(model_, sources_, targets_, prompt_,
                                              {.targets = 2, .causes = 12, .verify = 12});
  ASSERT_EQ(found.targets.size(), 4U);
  std::map<std::pair<std::size_t, std::size_t>, int> met;  // target, source
  for (const auto& t : found.targets) {
    EXPECT_NEAR(t.at.pre, pre(t.at, {0, 0, 0, 0, 0}, 0), 1e-4);
    for (const sae::Cause& c : t.causes) {
      ++met[{t.at.sae, c.source.sae}];
      EXPECT_NEAR(*c.exact, t.at.pre - pre(t.at, c.source, -1), 1e-4);
      constexpr double kStep = 0.01;
      EXPECT_NEAR(c.first_order,
                  (pre(t.at, c.source, kStep) - pre(t.at, c.source, -kStep)) / (2 * kStep),
                  2e-3 + 1e-2 * std::abs(c.first_order));
    }
  }
  EXPECT_GT((met[{0, 0}]), 0);
  EXPECT_EQ((met[{0, 2}]), 0);  // the MLP of layer 1 comes after what the first target reads
  EXPECT_GT((met[{1, 1}] + met[{1, 2}]), 0);
}

TEST_F(InSeveralLayers, OneOfThemIsAsItIsAlone) {
  const sae::InfluenceSpec spec{.targets = 1, .causes = 100, .verify = 3};
  const sae::Influence all = sae::influence(model_, sources_, {targets_[1]}, prompt_, spec);
  for (std::size_t i = 0; i < sources_.size(); ++i) {
    const sae::Influence alone = sae::influence(model_, sources_[i], targets_[1], prompt_, spec);
    for (const sae::Cause& c : alone.targets[0].causes) {
      const auto same = std::find_if(
          all.targets[0].causes.begin(), all.targets[0].causes.end(), [&](const sae::Cause& o) {
            return o.source.sae == i && o.source.position == c.source.position &&
                   o.source.feature == c.source.feature;
          });
      if (same != all.targets[0].causes.end()) {
        EXPECT_NEAR(same->first_order, c.first_order, 1e-4);
      } else {
        EXPECT_EQ(all.targets[0].causes.size(), 100U);
      }
    }
  }
  // Of both at once, in one run.
  const auto& causes = all.targets[0].causes;
  const std::vector<sae::FeatureAt> two = {causes[0].source, causes[1].source};
  const double before =
      sae::ablated(model_, sources_, targets_, prompt_,
                   {{all.targets[0].at.position, all.targets[0].at.feature, 0, 0, 1}}, {})[0];
  EXPECT_NEAR(before, all.targets[0].at.pre, 1e-4);
  EXPECT_NE(sae::ablated(model_, sources_, {targets_[1]}, prompt_, {all.targets[0].at}, two)[0],
            before);
}

TEST_F(InSeveralLayers, WhatCannotBeIsRefused) {
  EXPECT_ERROR(Error, "two sources are of 'blocks.0.hook_mlp_out'",
               sae::influence(model_, {sources_[0], sources_[0]}, targets_, prompt_));
  EXPECT_ERROR(Error, "at least one SAE", sae::influence(model_, {}, targets_, prompt_));
  EXPECT_ERROR(Error, "depends on any source",
               sae::influence(model_, sources_, {of("blocks.0.hook_resid_pre")}, prompt_));
  sae::Sae nameless = sources_[0];
  nameless.config.hook_name_out = "";
  EXPECT_ERROR(ConfigError, "hook_name_out",
               sae::influence(model_, nameless, targets_[1], prompt_));
}

// ---- the model that ships -----------------------------------------------------------------------
// The strongest causes of the strongest features move them more than as many others do.
TEST(InfluenceOfTheDefaultModel, TheStrongestCausesMatterMoreThanRandomOnes) {
  const std::filesystem::path folder = std::filesystem::path(VITRINE_DEFAULT_MODEL) / "sae";
  const nn::Model m = nn::load_gpt2();
  const sae::Sae early = sae::load(folder / "blocks.1.hook_mlp_out"),
                 late = sae::load(folder / "blocks.4.hook_mlp_out");
  const nn::Tokens prompt = m.tokens("The capital of Texas is");
  const auto last = static_cast<std::int64_t>(prompt.size()) - 1;
  const sae::Influence found =
      sae::influence(m, early, late, prompt,
                     {.target_positions = {last}, .targets = 5, .causes = 1000, .verify = 0});
  ASSERT_EQ(found.targets.size(), 5U);
  for (const auto& t : found.targets) {
    std::vector<sae::FeatureAt> top, others;
    for (std::size_t i = 0; i < t.causes.size(); ++i)
      (i < 10 ? top : others).push_back(t.causes[i].source);
    ASSERT_GE(others.size(), 10U);
    random::shuffle(random::Key{1}.fold(static_cast<std::uint64_t>(t.at.feature)), others);
    others.resize(10);
    const double before = sae::ablated(m, early, late, prompt, {t.at}, {})[0];
    const double by_top = before - sae::ablated(m, early, late, prompt, {t.at}, top)[0],
                 by_others = before - sae::ablated(m, early, late, prompt, {t.at}, others)[0];
    EXPECT_GT(std::abs(by_top), std::abs(by_others)) << "feature " << t.at.feature;
  }
}

}  // namespace
}  // namespace vitrine::test
