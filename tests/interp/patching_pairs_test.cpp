// Sweeps of many pairs against those of each, what is put in against loops by hand, and summaries
// against naive arithmetic.
#include <gmock/gmock.h>

#include <cmath>
#include <set>

#include "interp/patching.h"
#include "nn/families/sites.h"
#include "tests/support.h"
#include "tests/tensor/expect_error.h"

namespace vitrine::interp {
namespace {

using test::message_of;
using ::testing::HasSubstr;

const nn::Model& tiny() {
  static const nn::Model model = nn::load_gpt2((test::data() / "tiny-gpt2").string());
  return model;
}

// Six pairs: three of 4 tokens, two of 6, one of 1.
const std::vector<Pair> kPairs = {{{3, 14, 15, 92}, {3, 14, 16, 92}, 7, 8},
                                  {{5, 14, 15, 92, 65, 35}, {5, 20, 15, 92, 65, 36}, 9, 7},
                                  {{1, 2, 3, 4}, {5, 6, 7, 8}, 1, 2},
                                  {{11}, {12}, 3, 4},
                                  {{40, 41, 42, 43}, {40, 44, 42, 43}, 50, 60},
                                  {{9, 8, 7, 6, 5, 4}, {9, 8, 7, 6, 5, 3}, 20, 21}};
const std::vector<Pair> kTwins = {kPairs[0], kPairs[1], kPairs[2], kPairs[4], kPairs[5]};

double edited(const Interventions& what, const nn::Tokens& base, const Pair& pair) {
  const Metric metric = nn::logit_diff(pair.answer, pair.wrong);
  return tiny().run_edited({base}, what, fetch(value(metric)), &metric).results.scalar(metric.name);
}

void expect_equal(const PatchSweep& a, const PatchSweep& b, double tolerance) {
  EXPECT_EQ(a.axes, b.axes);
  ASSERT_EQ(to_string(a.values.shape()), to_string(b.values.shape()));
  EXPECT_LE(max_abs_difference(a.values, b.values), tolerance);
  EXPECT_NEAR(a.clean, b.clean, tolerance);
  EXPECT_NEAR(a.corrupt, b.corrupt, tolerance);
  EXPECT_EQ(a.runs, b.runs);
  EXPECT_EQ(a.without_effect, b.without_effect);
  EXPECT_EQ(a.direction, b.direction);
}

TEST(PatchSweeps, ManyPairsEqualEachAlone) {
  const std::vector<SweepSpec> specs = {
      {.site = "resid_pre", .measure = Measure::kl},
      {.site = "z", .by = By::head_pos, .direction = Direction::noise},
      {.site = "v", .by = By::pos, .replacement = Replacement::zero, .measure = Measure::prob},
      {.site = "pattern", .by = By::head_dest, .measure = Measure::log_prob},
      {.site = "mlp_out", .memory = 20000}};
  for (const SweepSpec& spec : specs) {
    SCOPED_TRACE(spec.site);
    const std::vector<PatchSweep> together = patch_sweeps(tiny(), kPairs, spec);
    ASSERT_EQ(together.size(), kPairs.size());
    for (std::size_t i = 0; i < kPairs.size(); ++i) {
      SCOPED_TRACE(i);
      expect_equal(together[i], patch_sweep(tiny(), kPairs[i], spec), 1e-5);
    }
  }
}

TEST(PatchSweeps, ExamplesAreMeasuredByAnyMetric) {
  std::vector<Example> examples;
  for (const Pair& p : kPairs) examples.push_back(example_of(p));
  SweepSpec spec{.site = "resid_mid"};
  const std::vector<PatchSweep> usual = patch_sweeps(tiny(), kPairs, spec);
  spec.metric = parse_metric("logit(answer) - logit(wrong)");
  const std::vector<PatchSweep> own = patch_examples(tiny(), examples, spec);
  for (std::size_t i = 0; i < kPairs.size(); ++i) expect_equal(own[i], usual[i], 0);

  // Answers of several tokens: the log probability of all of them, each run alone.
  examples = {examples[0], examples[4]};
  examples[0].answers = {{7, 8, 9}};
  spec.metric = parse_metric("log_prob");
  const std::vector<PatchSweep> longer = patch_examples(tiny(), examples, spec);
  for (std::size_t i = 0; i < 2; ++i) {
    const Example& e = examples[i];
    EXPECT_EQ(longer[i].values.shape(), Shape({3, std::ssize(e.prompt)}));
    const Metric metric = nn::log_probability({e.prompt}, e.answers);
    const auto runs = [&](const nn::Tokens& prompt) {
      return nn::with_answers({prompt}, e.answers);
    };
    const Site site = site::resid_mid(1);
    const nn::Run clean = tiny().run(runs(e.prompt), site);
    const nn::Run edited = tiny().run_edited(
        runs(e.corrupt), {replace(site, clean[site], {.pos = {2}})}, fetch(value(metric)), &metric);
    EXPECT_NEAR(longer[i].values.at<double>({1, 2}), edited.results.scalar("log_prob"), 1e-5);
  }
  examples[1].corrupt.push_back(1);
  examples[1].line = 7;
  EXPECT_THAT(message_of<Error>([&] { patch_examples(tiny(), examples, spec); }),
              HasSubstr("line 7: the clean prompt has 4 tokens, the corrupt one 5"));
}

TEST(PatchSweeps, NormalisedByTheMeansOfAll) {
  const std::vector<PatchSweep> sweeps = patch_sweeps(tiny(), kTwins, {.site = "mlp_out"}),
                                fractions = normalised(sweeps);
  double clean = 0, corrupt = 0, one = 0, none = 0;
  for (std::size_t i = 0; i < sweeps.size(); ++i) {
    clean += sweeps[i].clean, corrupt += sweeps[i].corrupt;
    one += fractions[i].clean, none += fractions[i].corrupt;
  }
  const double n = static_cast<double>(sweeps.size());
  EXPECT_NEAR(one / n, 1, 1e-12);
  EXPECT_NEAR(none / n, 0, 1e-12);
  EXPECT_NEAR(fractions[2].values.at<double>({1, 3}),
              (sweeps[2].values.at<double>({1, 3}) - corrupt / n) / (clean / n - corrupt / n),
              1e-12);
  const Pair same{{1, 2}, {1, 2}, 3, 4};
  EXPECT_THAT(message_of<NumericError>([&] {
                normalised(patch_sweeps(tiny(), {&same, 1}));
              }),
              HasSubstr("there is nothing between them"));
}

TEST(PatchSweeps, MoreThanAreSweptTogether) {
  std::vector<Pair> many;
  for (int i = 0; i < 20; ++i) many.push_back({{1, i, 2}, {1, i + 1, 3}, 30 + i, 60 + i});
  int done = 0, total = 0;
  const std::vector<PatchSweep> sweeps = patch_sweeps(tiny(), many, {.progress = [&](int d, int t) {
                                                        EXPECT_GE(d, done);
                                                        done = d;
                                                        total = t;
                                                      }});
  ASSERT_EQ(sweeps.size(), 20u);
  EXPECT_EQ(done, total);
  for (const std::size_t i : {0, 15, 16, 19})
    expect_equal(sweeps[i], patch_sweep(tiny(), many[i]), 1e-5);
  int passes = 0;
  for (const PatchSweep& s : sweeps) passes += s.passes;
  EXPECT_GE(passes, 2);
  EXPECT_EQ(passes, sweeps[0].passes + sweeps[16].passes);  // the first of those swept together
  EXPECT_EQ(summarise(sweeps).passes, passes);
  EXPECT_EQ(summarise(sweeps).explanation, sweeps[0].explanation + sweeps[16].explanation);
  EXPECT_TRUE(patch_sweeps(tiny(), {}).empty());
}

// ---- what is put in -----------------------------------------------------------------------------

// The mean of a site over all positions of all prompts, [...], once more for each of `positions`:
// [1, positions, ...].
Tensor naive_mean(const Site& site, const std::vector<Pair>& pairs, std::int64_t positions) {
  std::vector<double> sum;
  double count = 0;
  Shape shape;
  for (const Pair& pair : pairs) {
    for (const nn::Tokens& prompt : {pair.clean, pair.corrupt}) {
      const Tensor value = tiny().run(nn::Prompt(prompt), site)[site];  // [1, position, ...]
      shape = value.shape();
      const auto x = value.to_vector<double>();
      sum.resize(x.size() / prompt.size());
      for (std::size_t i = 0; i < x.size(); ++i) sum[i % sum.size()] += x[i];
      count += static_cast<double>(prompt.size());
    }
  }
  shape[1] = positions;
  const Tensor mean = Tensor::empty(shape, DType::f32);
  for (std::int64_t i = 0; i < mean.numel(); ++i) {
    mean.data<float>()[i] =
        static_cast<float>(sum[static_cast<std::size_t>(i) % sum.size()] / count);
  }
  return mean;
}

TEST(PatchSweeps, MeanIsOverAllPositionsOfAllPrompts) {
  for (const Direction direction : {Direction::denoise, Direction::noise}) {
    const bool denoise = direction == Direction::denoise;
    const auto base = [&](const Pair& p) { return denoise ? p.corrupt : p.clean; };
    const std::vector<PatchSweep> stream =
        patch_sweeps(tiny(), kPairs,
                     {.site = "mlp_out", .replacement = Replacement::mean, .direction = direction});
    const std::vector<PatchSweep> heads = patch_sweeps(
        tiny(), kPairs,
        {.site = "z", .by = By::head, .replacement = Replacement::mean, .direction = direction});
    for (std::size_t i = 0; i < kPairs.size(); ++i) {
      const Pair& pair = kPairs[i];
      const auto positions = std::ssize(pair.clean);
      for (int layer = 0; layer < 3; ++layer) {
        const Site mlp = site::mlp_out(layer), z = site::z(layer);
        const Tensor of_mlp = naive_mean(mlp, kPairs, positions),
                     of_z = naive_mean(z, kPairs, positions);
        for (std::int64_t pos = 0; pos < positions; ++pos) {
          EXPECT_NEAR(stream[i].values.at<double>({layer, pos}),
                      edited({replace(mlp, of_mlp, {.pos = {pos}})}, base(pair), pair), 1e-5);
        }
        for (std::int64_t head = 0; head < 4; ++head) {
          EXPECT_NEAR(heads[i].values.at<double>({layer, head}),
                      edited({replace(z, of_z, {.head = {head}})}, base(pair), pair), 1e-5);
        }
      }
    }
  }
}

// Which pair's base prompt a sweep of resid_mid by pos has put in: the one whose loop it equals.
std::size_t partner_of(std::size_t i, const PatchSweep& sweep, Direction direction) {
  const auto base = [&](const Pair& p) {
    return direction == Direction::denoise ? p.corrupt : p.clean;
  };
  std::vector<std::size_t> equal;
  for (std::size_t j = 0; j < kTwins.size(); ++j) {
    if (kTwins[j].clean.size() != kTwins[i].clean.size()) continue;
    double worst = 0;
    for (int layer = 0; layer < 3; ++layer) {
      const Site mid = site::resid_mid(layer);
      const Tensor value = tiny().run(nn::Prompt(base(kTwins[j])), mid)[mid];
      for (std::int64_t pos = 0; pos < std::ssize(kTwins[i].clean); ++pos) {
        const double naive =
            edited({replace(mid, value, {.pos = {pos}})}, base(kTwins[i]), kTwins[i]);
        worst = std::max(worst, std::abs(naive - sweep.values.at<double>({layer, pos})));
      }
    }
    if (worst < 1e-5) equal.push_back(j);
  }
  EXPECT_EQ(equal.size(), 1u) << i;
  return equal.empty() ? i : equal[0];
}

TEST(PatchSweeps, ResampleTakesValuesFromACycleOfPairs) {
  std::set<std::vector<std::size_t>> cycles;
  for (const Direction direction : {Direction::denoise, Direction::noise}) {
    for (std::uint64_t seed = 0; seed < 6; ++seed) {
      const SweepSpec spec = {.site = "resid_mid",
                              .replacement = Replacement::resample,
                              .direction = direction,
                              .seed = seed};
      const std::vector<PatchSweep> sweeps = patch_sweeps(tiny(), kTwins, spec);
      std::vector<std::size_t> partners;
      for (std::size_t i = 0; i < kTwins.size(); ++i)
        partners.push_back(partner_of(i, sweeps[i], direction));
      // One cycle through the three pairs of 4 tokens, one through the two of 6.
      for (const auto& [start, length] : {std::pair<std::size_t, int>{0, 3}, {1, 2}}) {
        std::size_t at = start;
        for (int step = 1; step <= length; ++step) {
          at = partners[at];
          EXPECT_EQ(at == start, step == length);
        }
      }
      cycles.insert(partners);
      const std::vector<PatchSweep> again = patch_sweeps(tiny(), kTwins, spec);
      for (std::size_t i = 0; i < kTwins.size(); ++i) expect_equal(sweeps[i], again[i], 0);
    }
  }
  EXPECT_EQ(cycles.size(), 2u);  // the two that three have; the seed chooses
}

TEST(PatchSweeps, MistakesNameThePair) {
  const SweepSpec resample = {.replacement = Replacement::resample};
  EXPECT_THAT(message_of<Error>([&] { patch_sweeps(tiny(), kPairs, resample); }),
              HasSubstr("but pair 3 is the only one with 1; give more pairs of that length"));
  EXPECT_THAT(message_of<Error>([&] { patch_sweep(tiny(), kPairs[0], resample); }),
              HasSubstr("pair 0 is the only one with 4"));
  std::vector<Pair> uneven = kPairs;
  uneven[2].clean.pop_back();
  EXPECT_THAT(message_of<Error>([&] { patch_sweeps(tiny(), uneven); }),
              HasSubstr("pair 2: the clean prompt has 3 tokens, the corrupt one 4"));
  uneven = kPairs;
  uneven[4].wrong = 97;
  EXPECT_THAT(message_of<Error>([&] { patch_sweeps(tiny(), uneven); }),
              HasSubstr("pair 4: the answer's id 97 is outside 0 to 96"));
  EXPECT_EQ(parse_replacement("resample"), Replacement::resample);
  EXPECT_THAT(message_of<Error>([] { parse_replacement("none"); }),
              HasSubstr("a sweep puts in patch or zero or mean or resample, not 'none'"));
}

// ---- over pairs ---------------------------------------------------------------------------------
TEST(Summarise, EqualsNaiveArithmetic) {
  for (const Direction direction : {Direction::denoise, Direction::noise}) {
    const std::vector<PatchSweep> sweeps =
        patch_sweeps(tiny(), kPairs, {.site = "z", .by = By::head_pos, .direction = direction});
    const SweepSummary sum = summarise(sweeps);
    EXPECT_EQ(sum.axes, sweeps[0].axes);
    EXPECT_EQ(to_string(sum.mean.shape()), "[3, 6, 4]");
    for (std::int64_t layer = 0; layer < 3; ++layer) {
      for (std::int64_t pos = 0; pos < 6; ++pos) {
        for (std::int64_t head = 0; head < 4; ++head) {
          double n = 0, total = 0, metric = 0, squares = 0;
          const auto each = [&](const auto& f) {
            for (const PatchSweep& s : sweeps) {
              if (pos >= s.values.dim(1)) continue;
              const double x = s.values.at<double>({layer, pos, head});
              f(x, x - (direction == Direction::denoise ? s.corrupt : s.clean));
            }
          };
          each([&](double x, double change) {
            n += 1;
            total += change;
            metric += x;
          });
          each([&](double, double change) { squares += std::pow(change - total / n, 2); });
          EXPECT_EQ(sum.count.at<double>({layer, pos, head}), n);
          EXPECT_NEAR(sum.mean.at<double>({layer, pos, head}), total / n, 1e-12);
          EXPECT_NEAR(sum.metric.at<double>({layer, pos, head}), metric / n, 1e-12);
          EXPECT_NEAR(sum.standard_error.at<double>({layer, pos, head}),
                      std::sqrt(squares / (n - 1) / n), 1e-12);
        }
      }
    }
    EXPECT_EQ(sum.count.at<double>({0, 0, 0}), 6);
    EXPECT_EQ(sum.count.at<double>({0, 1, 0}), 5);
    EXPECT_EQ(sum.count.at<double>({0, 5, 0}), 2);
    double clean = 0, corrupt = 0;
    int runs = 0, without_effect = 0;
    for (const PatchSweep& s : sweeps) {
      clean += s.clean / 6;
      corrupt += s.corrupt / 6;
      runs += s.runs;
      without_effect += s.without_effect;
    }
    EXPECT_NEAR(sum.clean, clean, 1e-12);
    EXPECT_NEAR(sum.corrupt, corrupt, 1e-12);
    EXPECT_EQ(sum.runs, runs);
    EXPECT_EQ(sum.without_effect, without_effect);
    EXPECT_THAT(sum.explanation, HasSubstr("forward passes avoided"));
  }
}

TEST(Summarise, OnePairHasNoStandardError) {
  const PatchSweep sweep = patch_sweep(tiny(), kPairs[0]);
  const SweepSummary sum = summarise({&sweep, 1});
  EXPECT_TRUE(std::isnan(sum.standard_error.at<double>({0, 0})));
  EXPECT_EQ(max_abs_difference(sum.metric, sweep.values), 0);
  EXPECT_EQ(sum.passes, sweep.passes);
  EXPECT_TRUE(summarise({}).axes.empty());
}

}  // namespace
}  // namespace vitrine::interp
