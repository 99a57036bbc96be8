// Ablations of many prompts against one edited run of one prompt after the other.
#include "interp/ablation.h"

#include <gmock/gmock.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "autograd/transform/recorded.h"
#include "interp/data/measure.h"
#include "nn/families/sites.h"
#include "tests/support.h"
#include "tests/tensor/expect_error.h"

namespace vitrine::interp {
namespace {

using test::message_of;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using Row = std::vector<double>;

nn::Model loaded() {
  return nn::load_gpt2((test::data() / "tiny-gpt2").string(), {.dtype = DType::f64});
}
const nn::Model& tiny() {
  static const nn::Model model = loaded();
  return model;
}

Example example(nn::Tokens prompt, int answer, int wrong, int line) {
  Example e;
  e.prompt = std::move(prompt);
  e.answers = {{answer}};
  e.wrongs = {{wrong}};
  e.line = line;
  return e;
}
const std::vector<Example> kExamples = {
    example({3, 14, 15}, 5, 6, 1), example({92, 65, 35, 89, 7}, 96, 1, 2),
    example({9, 32, 11}, 0, 50, 3), example({4, 4, 80, 12, 6}, 7, 9, 4)};

// One run of one prompt.
double edited(const nn::Model& model, const Example& e, const Interventions& what,
              const MetricSpec& spec = parse_metric("logit_diff")) {
  const Metric metric = metric_of(model, {&e, 1}, spec);
  return model.run_edited({e.prompt}, what, fetch(value(metric)), &metric)
      .results.scalar(metric.name);
}
// What is done to example e at a site.
using MakeNaive = std::function<Edit(const Site&, const Where&, std::size_t e)>;
Interventions naive_edits(std::span<const AblationUnit> units, const UnitSet& set,
                          const MakeNaive& make, std::size_t e) {
  Interventions all;
  for (const std::size_t u : set) {  // one after the other, each in a stage of its own
    for (const AblationUnit::Place& p : units[u].places)
      all = all.then(Interventions{make(p.site, p.where, e)});
  }
  return all;
}
Row naive(std::span<const AblationUnit> units, const UnitSet& set, const MakeNaive& make) {
  Row row;
  for (std::size_t e = 0; e < kExamples.size(); ++e)
    row.push_back(edited(tiny(), kExamples[e], naive_edits(units, set, make, e)));
  return row;
}
Edit zeroed(const Site& site, const Where& where, std::size_t) { return zero(site, where); }

void expect_near(const Row& a, const Row& b) {
  ASSERT_EQ(a.size(), b.size());
  for (std::size_t i = 0; i < a.size(); ++i) EXPECT_NEAR(a[i], b[i], 1e-10) << i;
}
double mean_of(const Row& row) {
  return std::accumulate(row.begin(), row.end(), 0.0) / static_cast<double>(row.size());
}

std::vector<std::vector<AblationUnit>> all_kinds() {
  return {head_units(tiny()), mlp_units(tiny()), layer_units(tiny())};
}

TEST(Ablation, UnitsAreThePartsOfTheModel) {
  EXPECT_EQ(head_units(tiny()).size(), 12U);
  EXPECT_EQ(head_units(tiny())[5].name, "1.1");
  EXPECT_EQ(mlp_units(tiny())[2].name, "mlp 2");
  const auto layers = layer_units(tiny());
  ASSERT_EQ(layers.size(), 3U);
  EXPECT_EQ(layers[1].name, "layer 1");
  EXPECT_EQ(layers[1].places.size(), 2U);
}

TEST(Ablation, OfEachUnitEqualsOneRunAfterTheOther) {
  for (const auto& units : all_kinds()) {
    for (const std::int64_t tokens : {1, 8, 4096}) {  // one prompt at a time, two, all
      const Ablated found = ablate_each(tiny(), kExamples, units, {.tokens = tokens});
      EXPECT_EQ(found.runs, std::ssize(units) * (tokens == 1 ? 4 : tokens == 8 ? 2 : 1));
      for (std::size_t e = 0; e < kExamples.size(); ++e)
        EXPECT_NEAR(found.clean[e], edited(tiny(), kExamples[e], {}), 1e-10);
      for (std::size_t u = 0; u < units.size(); ++u) {
        expect_near(found.of(u), naive(units, {u}, zeroed));
        EXPECT_DOUBLE_EQ(found.change(u)[1], found.of(u)[1] - found.clean[1]);
      }
    }
  }
}

TEST(Ablation, MeansAreOverAllPositionsOfAllPrompts) {
  std::vector<nn::Tokens> prompts;
  for (const Example& e : kExamples) prompts.push_back(e.prompt);
  const MakeNaive make = [&](const Site& site, const Where& where, std::size_t) {
    return mean(site, tiny().run(prompts, site).results, where);
  };
  for (const auto& units : all_kinds()) {
    for (const std::int64_t tokens : {8, 4096}) {
      const Ablated found =
          ablate_each(tiny(), kExamples, units, {.action = Replacement::mean, .tokens = tokens});
      for (std::size_t u = 0; u < units.size(); ++u)
        expect_near(found.of(u), naive(units, {u}, make));
    }
  }
}

TEST(Ablation, ResamplesFromAnotherPromptOfTheSameLength) {
  // Of each length there are two prompts: each takes the other's values.
  const std::size_t other[] = {2, 3, 0, 1};
  const MakeNaive make = [&](const Site& site, const Where& where, std::size_t e) {
    return replace(site, tiny().run(nn::Prompt(kExamples[other[e]].prompt), site)[site], where);
  };
  for (const auto& units : all_kinds()) {
    for (const std::int64_t tokens : {8, 4096}) {
      const Ablated found = ablate_each(tiny(), kExamples, units,
                                        {.action = Replacement::resample, .tokens = tokens});
      for (std::size_t u = 0; u < units.size(); ++u)
        expect_near(found.of(u), naive(units, {u}, make));
    }
  }
}

TEST(Ablation, OfSetsEqualsTheSameEditsInOneRun) {
  std::vector<AblationUnit> units = head_units(tiny());
  for (const auto& more : {mlp_units(tiny()), layer_units(tiny())})
    units.insert(units.end(), more.begin(), more.end());
  // Heads of one layer and of several; a layer, and heads and MLPs of it; nothing.
  const std::vector<UnitSet> sets = {{0, 2, 3}, {0, 5, 6, 11}, {16, 4, 13}, {17, 15},
                                     {},        {3, 12, 9}};
  const Ablated found = ablate_sets(tiny(), kExamples, units, sets);
  for (std::size_t s = 0; s < sets.size(); ++s)
    expect_near(found.of(s), naive(units, sets[s], zeroed));
  EXPECT_EQ(found.change(4), Row(4, 0.0));
  const Ablated none = ablate_sets(tiny(), kExamples, units, {});
  EXPECT_EQ(none.metric.dim(0), 0);
  expect_near(none.clean, found.clean);
}

// Roles of two tokens and one, and the last position: the same edits at these places alone.
TEST(Ablation, AtPositionsOnly) {
  std::vector<Example> examples = kExamples;
  for (std::size_t e = 0; e < examples.size(); ++e) {
    const auto at = static_cast<std::int64_t>(e % 2);
    examples[e].roles["name"] = {at, 2};
  }
  std::vector<AblationUnit> units = head_units(tiny());
  const auto layers = layer_units(tiny());
  units.insert(units.end(), layers.begin(), layers.end());
  const std::vector<UnitSet> sets = {{0}, {0, 2, 5}, {12}, {13, 1, 3}};
  const AblationSpec spec{.positions = {parse_position("name"), parse_position("-1")}};
  const Ablated found = ablate_sets(tiny(), examples, units, sets, spec);
  const auto at_places = [&](const Site& site, Where where, std::size_t e) {
    where.pos = examples[e].all_at(spec.positions);
    return zero(site, where);
  };
  for (std::size_t s = 0; s < sets.size(); ++s)
    expect_near(found.of(s), naive(units, sets[s], at_places));
  EXPECT_THAT(message_of<ContextError>([&] { ablate_sets(tiny(), kExamples, units, sets, spec); }),
              HasSubstr("line 1: there is no role \"name\""));
}

TEST(Ablation, TakesAnyMetricAndLittleMemory) {
  const auto units = head_units(tiny());
  for (const char* metric : {"kl", "prob", "rank", "accuracy", "logit(answer) * 2 - logit(#3)"}) {
    const MetricSpec spec = parse_metric(metric);
    const Ablated found = ablate_each(tiny(), kExamples, units, {.metric = spec, .memory = 20000});
    EXPECT_GT(found.passes, 1);
    for (std::size_t u = 0; u < units.size(); ++u) {
      for (std::size_t e = 0; e < kExamples.size(); ++e) {
        // KL is measured from the clean run, which one run of one prompt does not disturb.
        EXPECT_NEAR(found.of(u)[e],
                    edited(tiny(), kExamples[e], naive_edits(units, {u}, zeroed, e), spec), 1e-10);
      }
    }
  }
}

// Prompts are run with their answers behind them, batches with and without long ones alike.
TEST(Ablation, ReadsAnswersOfSeveralTokens) {
  std::vector<Example> examples = kExamples;
  examples[0].answers = {{5, 6, 7}};
  examples[1].answers = {{96, 2}};
  const MetricSpec spec = parse_metric("log_prob");
  const auto units = mlp_units(tiny());
  const MakeNaive make = [&](const Site& site, const Where& where, std::size_t) {
    return mean(site, tiny().run(prompts_to_run(examples, spec), site).results, where);
  };
  for (const std::int64_t tokens : {11, 4096}) {  // two of each kind, or all
    const Ablated found = ablate_each(
        tiny(), examples, units, {.action = Replacement::mean, .metric = spec, .tokens = tokens});
    for (std::size_t e = 0; e < examples.size(); ++e) {
      const std::span<const Example> one(&examples[e], 1);
      const Metric metric = metric_of(tiny(), one, spec);
      const auto alone = [&](const Interventions& what) {
        return tiny()
            .run_edited(prompts_to_run(one, spec), what, fetch(value(metric)), &metric)
            .results.scalar(metric.name);
      };
      EXPECT_NEAR(found.clean[e], alone({}), 1e-10);
      for (std::size_t u = 0; u < units.size(); ++u)
        EXPECT_NEAR(found.of(u)[e], alone(naive_edits(units, {u}, make, e)), 1e-10);
    }
  }
}

TEST(Ablation, EditsThatStandStay) {
  nn::Model model = loaded();
  model.stand({{.edit = zero(site::z(1), {.head = {2}})}});
  const auto units = head_units(model);
  const Ablated found = ablate_each(model, kExamples, units);
  EXPECT_EQ(found.change(1 * 4 + 2), Row(4, 0.0));
  expect_near(found.clean, naive(units, {6}, zeroed));
  expect_near(found.of(9), naive(units, {6, 9}, zeroed));
}

// ---- pairs --------------------------------------------------------------------------------------
TEST(AblatedPairs, AreEveryTwoUnitsAndWhatTheyDoBeyondEachAlone) {
  for (const auto& units : all_kinds()) {
    const AblatedPairs found = ablate_pairs(tiny(), kExamples, units);
    const auto n = units.size();
    ASSERT_EQ(found.pairs.size(), n * (n - 1) / 2);
    const Tensor effects = found.effects(), interactions = found.interactions();
    const Row clean = naive(units, {}, zeroed);
    for (std::size_t i = 0; i < found.pairs.size(); ++i) {
      const auto [a, b] = found.pairs[i];
      const Row both = naive(units, {a, b}, zeroed), first = naive(units, {a}, zeroed),
                second = naive(units, {b}, zeroed);
      expect_near(found.together.of(i), both);
      const auto x = static_cast<std::int64_t>(a), y = static_cast<std::int64_t>(b);
      EXPECT_NEAR(effects.at<double>({x, y}), mean_of(both) - mean_of(clean), 1e-10);
      EXPECT_NEAR(interactions.at<double>({x, y}),
                  mean_of(both) - mean_of(first) - mean_of(second) + mean_of(clean), 1e-10);
      EXPECT_EQ(effects.at<double>({x, y}), effects.at<double>({y, x}));
      EXPECT_EQ(interactions.at<double>({x, y}), interactions.at<double>({y, x}));
    }
    EXPECT_NEAR(effects.at<double>({1, 1}), mean_of(found.alone.change(1)), 1e-12);
    EXPECT_TRUE(std::isnan(interactions.at<double>({1, 1})));
  }
}

// ---- sets that grow -----------------------------------------------------------------------------
// The same by hand: tries all that are left, one run after the other.
std::vector<std::size_t> grown_by_hand(const std::vector<AblationUnit>& units, Growth growth,
                                       std::size_t steps) {
  const double clean = mean_of(naive(units, {}, zeroed));
  UnitSet set;
  for (std::size_t s = 0; s < steps; ++s) {
    std::vector<std::pair<double, std::size_t>> tried;  // how good, and which
    for (std::size_t u = 0; u < units.size(); ++u) {
      if (std::find(set.begin(), set.end(), u) != set.end()) continue;
      UnitSet ablated;
      for (std::size_t v = 0; v < units.size(); ++v) {
        const bool in = v == u || std::find(set.begin(), set.end(), v) != set.end();
        if (in == (growth == Growth::broken)) ablated.push_back(v);
      }
      const double far = std::abs(mean_of(naive(units, ablated, zeroed)) - clean);
      tried.emplace_back(growth == Growth::broken ? far : -far, u);
    }
    set.push_back(std::max_element(tried.begin(), tried.end())->second);
  }
  return set;
}

TEST(GrownSets, TakeWhatChangesOrRestoresMost) {
  for (const auto& units : {head_units(tiny()), layer_units(tiny())}) {
    const Ablated alone = ablate_each(tiny(), kExamples, units);
    for (const Growth growth : {Growth::broken, Growth::kept}) {
      const GrownSets grown =
          grow_sets(tiny(), kExamples, units, {}, {.growth = growth, .steps = 3, .random = 4});
      EXPECT_EQ(grown.units, grown_by_hand(units, growth, 3));
      UnitSet all(units.size());
      std::iota(all.begin(), all.end(), std::size_t{0});
      const bool kept = growth == Growth::kept;
      expect_near(grown.clean, naive(units, {}, zeroed));
      expect_near(grown.begin, naive(units, kept ? all : UnitSet{}, zeroed));
      UnitSet ablated = kept ? all : UnitSet{};
      for (std::int64_t s = 0; s < 3; ++s) {
        const std::size_t taken = grown.units[static_cast<std::size_t>(s)];
        if (kept) std::erase(ablated, taken);
        else ablated.push_back(taken);
        expect_near(grown.metric.select(0, s).contiguous().to_vector<double>(),
                    naive(units, ablated, zeroed));
      }
      if (kept) continue;
      for (std::size_t u = 0; u < units.size(); ++u) {  // the first is the strongest alone
        EXPECT_LE(std::abs(mean_of(alone.change(u))),
                  std::abs(mean_of(alone.change(grown.units[0]))));
      }
    }
  }
}

TEST(GrownSets, RandomSetsHaveAsManyUnits) {
  const auto units = layer_units(tiny());
  const Ablated alone = ablate_each(tiny(), kExamples, units);
  const GrownSets grown = grow_sets(tiny(), kExamples, units, {}, {.steps = 7, .random = 30});
  ASSERT_EQ(grown.units.size(), 3U);  // there are no more
  ASSERT_EQ(grown.random.shape(), (Shape{3, 30}));
  const double all = mean_of(naive(units, {0, 1, 2}, zeroed));
  std::vector<int> seen(3);
  for (std::int64_t i = 0; i < 30; ++i) {
    EXPECT_NEAR(grown.random.at<double>({2, i}), all, 1e-10);
    const Tensor each = grown.random_each.select(0, 1).contiguous().select(0, i).contiguous();
    EXPECT_NEAR(mean_of(each.to_vector<double>()), grown.random.at<double>({1, i}), 1e-12);
    for (std::size_t u = 0; u < 3; ++u) {
      if (std::abs(grown.random.at<double>({0, i}) - mean_of(alone.of(u))) < 1e-10) ++seen[u];
    }
  }
  EXPECT_EQ(seen[0] + seen[1] + seen[2], 30);
  EXPECT_GT(*std::min_element(seen.begin(), seen.end()), 0);
  const auto again = [&](std::uint64_t seed) {
    return grow_sets(tiny(), kExamples, units, {.seed = seed}, {.random = 30})
        .random.to_vector<double>();
  };
  EXPECT_EQ(again(0), grown.random.to_vector<double>());
  EXPECT_NE(again(1), again(0));
  EXPECT_EQ(grow_sets(tiny(), kExamples, units, {}, {.random = 0}).random.numel(), 0);
}

TEST(Ablation, TellsHowFarItIs) {
  int last = 0, total = 0, calls = 0;
  AblationSpec spec{.tokens = 8, .progress = [&](int done, int all) {
                      EXPECT_GE(done, last);
                      last = done, total = all, ++calls;
                    }};
  grow_sets(tiny(), kExamples, layer_units(tiny()), spec, {.steps = 2, .random = 3});
  EXPECT_GT(calls, 1);
  EXPECT_EQ(total, 2 * (1 + 3 + 2 + 6));  // two batches: the beginning, two steps, random sets
  EXPECT_EQ(last, total);
  const std::atomic<bool> stop = true;
  EXPECT_THROW(ablate_each(tiny(), kExamples, layer_units(tiny()), {.cancel = &stop}),
               InterruptedError);
}

// ---- what is refused ----------------------------------------------------------------------------
TEST(Ablation, RefusesWhatCannotBeDone) {
  const auto units = head_units(tiny());
  EXPECT_THAT(message_of<Error>(
                  [&] { ablate_each(tiny(), kExamples, units, {.action = Replacement::patch}); }),
              HasSubstr("an ablation puts in zero, mean or resample"));
  EXPECT_THAT(message_of<Error>([&] { ablate_each(tiny(), {}, units); }), HasSubstr("no prompts"));
  const std::vector<UnitSet> sets = {{12}};
  EXPECT_THAT(message_of<Error>([&] { ablate_sets(tiny(), kExamples, units, sets); }),
              HasSubstr("no unit 12 to ablate; there are 12, from 0"));
  EXPECT_THAT(message_of<Error>([&] { grow_sets(tiny(), kExamples, {}); }), HasSubstr("no units"));
  EXPECT_THAT(message_of<Error>([&] {
                ablate_each(tiny(), std::span(kExamples).first(3), units,
                            {.action = Replacement::resample});
              }),
              HasSubstr("line 2: resampling takes values from another prompt"));
  EXPECT_THAT(message_of<Error>([&] {
                ablate_each(tiny(), kExamples, units,
                            {.metric = parse_metric("1 / (logit(answer) - logit(answer))")});
              }),
              HasSubstr("is inf"));
  EXPECT_THAT(
      message_of<Error>([&] { feature_units(tiny(), kExamples, {"hook_sae_acts_post"}, 5); }),
      HasSubstr("hook_sae_acts_post"));
}

// Any site with an axis of features will do: here the neurons of an MLP.
TEST(Ablation, FeaturesAreTheMostActiveOnThePrompts) {
  const Site acts = site::mlp_post(1);
  const auto units = feature_units(tiny(), kExamples, acts, 6);
  ASSERT_EQ(units.size(), 6U);
  std::vector<nn::Tokens> prompts;
  for (const Example& e : kExamples) prompts.push_back(e.prompt);
  const Tensor rows = tiny().run(prompts, acts).results.raw(acts.name);
  const auto mean_at = [&](std::int64_t f) {
    return mean_of(rows.select(1, f).contiguous().to_vector<double>());
  };
  for (std::size_t i = 1; i < units.size(); ++i)
    EXPECT_GE(mean_at(units[i - 1].index), mean_at(units[i].index));
  int more = 0;
  for (std::int64_t f = 0; f < rows.dim(1); ++f) more += mean_at(f) > mean_at(units[5].index);
  EXPECT_EQ(more, 5);
  EXPECT_EQ(units[0].name, "feature " + std::to_string(units[0].index));
  const Ablated alone = ablate_each(tiny(), kExamples, units);
  const AblatedPairs pairs = ablate_pairs(tiny(), kExamples, units);
  for (std::size_t u = 0; u < units.size(); ++u)
    expect_near(alone.of(u), naive(units, {u}, zeroed));
  expect_near(pairs.together.of(7),
              naive(units, {pairs.pairs[7].first, pairs.pairs[7].second}, zeroed));
  // The most active neurons are active somewhere; where none is there is nothing to ablate.
  nn::Model quiet = loaded();
  quiet.stand({{.edit = zero(acts)}});
  EXPECT_THAT(message_of<Error>([&] { feature_units(quiet, kExamples, acts, 5); }),
              HasSubstr("no feature of blocks.1.mlp.hook_post is active on these prompts"));
}

}  // namespace
}  // namespace vitrine::interp
