// Every metric against plain arithmetic on whole logits.
#include "nn/model/metrics.h"

#include <algorithm>
#include <cmath>

#include "autograd/ops/ops.h"
#include "autograd/transform/gradient.h"
#include "nn/families/sites.h"
#include "nn/model/model.h"
#include "tensor/random.h"
#include "tests/support.h"
#include "tests/tensor/expect_error.h"

namespace vitrine::nn {
namespace {

const Model& tiny() {
  static const Model model = load_gpt2((test::data() / "tiny-gpt2").string());
  return model;
}
const Model& tiny_f64() {
  static const Model model =
      load_gpt2((test::data() / "tiny-gpt2").string(), {.dtype = DType::f64});
  return model;
}
const std::vector<Tokens> kPrompts = {{3, 14, 15}, {92, 65, 35, 89, 7}, {9, 32}};

using Row = std::vector<double>;

// The logits of one position of one prompt, run alone.
Row logits_at(const Tokens& prompt, std::size_t position) {
  return tiny()
      .run(prompt)
      .logits()
      .select(0, 0)
      .select(0, static_cast<std::int64_t>(position))
      .to_vector<double>();
}
Row last_logits_of(const Tokens& prompt) { return logits_at(prompt, prompt.size() - 1); }
double log_prob_of(const Row& logits, int token) {
  double total = 0;
  for (const double x : logits) total += std::exp(x);
  return logits[static_cast<std::size_t>(token)] - std::log(total);
}
double mean_of(const Row& values) {
  double total = 0;
  for (const double x : values) total += x;
  return total / static_cast<double>(values.size());
}

// Both outputs of a metric.
struct Measured {
  double mean;
  Row each;
};
Measured measure(const Model& model, const Metric& metric, const std::vector<Tokens>& prompts,
                 const Interventions& edits = {}) {
  const std::string each = per_prompt_name(metric);
  const Run run = model.run_edited(prompts, edits, fetch(value(metric), value(each)), &metric);
  EXPECT_EQ(run[each].shape(), Shape{static_cast<std::int64_t>(prompts.size())});
  return {run.results.scalar(metric.name), run[each].to_vector<double>()};
}
void expect_values(const Metric& metric, const std::vector<Tokens>& prompts, const Row& want) {
  const Measured got = measure(tiny(), metric, prompts);
  ASSERT_EQ(got.each.size(), want.size());
  for (std::size_t i = 0; i < want.size(); ++i)
    EXPECT_NEAR(got.each[i], want[i], 2e-5) << metric.name << " of prompt " << i;
  EXPECT_NEAR(got.mean, mean_of(want), 2e-5) << metric.name;
}
template <class F>
Row for_each_prompt(const F& f) {
  Row values;
  for (std::size_t i = 0; i < kPrompts.size(); ++i) values.push_back(f(i));
  return values;
}

TEST(Metrics, LogitsOfAnswersThatDiffer) {
  const std::vector<int> answers = {5, 96, 0}, wrongs = {6, 1, 50};
  const auto at = [](std::size_t i, int token) {
    return last_logits_of(kPrompts[i])[static_cast<std::size_t>(token)];
  };
  expect_values(logit(answers), kPrompts,
                for_each_prompt([&](std::size_t i) { return at(i, answers[i]); }));
  expect_values(logit(7), kPrompts, for_each_prompt([&](std::size_t i) { return at(i, 7); }));
  expect_values(logit_diff(answers, wrongs), kPrompts, for_each_prompt([&](std::size_t i) {
                  return at(i, answers[i]) - at(i, wrongs[i]);
                }));
  expect_values(logit_diff(answers, 4), kPrompts,
                for_each_prompt([&](std::size_t i) { return at(i, answers[i]) - at(i, 4); }));
  expect_values(logit_diff(3, 4), kPrompts,
                for_each_prompt([&](std::size_t i) { return at(i, 3) - at(i, 4); }));
}

TEST(Metrics, ProbabilitiesOfAnswers) {
  const std::vector<int> answers = {5, 96, 0};
  const Row logs = for_each_prompt(
      [&](std::size_t i) { return log_prob_of(last_logits_of(kPrompts[i]), answers[i]); });
  expect_values(log_probability(answers), kPrompts, logs);
  expect_values(probability(answers), kPrompts,
                for_each_prompt([&](std::size_t i) { return std::exp(logs[i]); }));
}

double kl_of(const Row& clean, const Row& edited) {
  double total = 0;
  for (std::size_t t = 0; t < clean.size(); ++t) {
    const double log_p = log_prob_of(clean, static_cast<int>(t));
    total += std::exp(log_p) * (log_p - log_prob_of(edited, static_cast<int>(t)));
  }
  return total;
}

TEST(Metrics, DivergenceFromCleanPredictions) {
  const std::vector<Tokens> clean = {{3, 14, 16}, {92, 65, 35, 89, 8}, {1, 1, 1, 1}};
  const Tensor logits = tiny().run(clean, value("logits")).last_logits();
  EXPECT_EQ(logits.shape(), Shape({3, 97}));
  expect_values(kl_to(logits), kPrompts, for_each_prompt([&](std::size_t i) {
                  return kl_of(last_logits_of(clean[i]), last_logits_of(kPrompts[i]));
                }));
  // One prediction for all prompts.
  const Row want = for_each_prompt(
      [&](std::size_t i) { return kl_of(last_logits_of(clean[0]), last_logits_of(kPrompts[i])); });
  expect_values(kl_to(logits.select(0, 0)), kPrompts, want);
  expect_values(kl_to(logits.slice(0, 0, 1).to(DType::f64)), kPrompts, want);
  for (const double x : measure(tiny(), kl_to(logits), clean).each) EXPECT_NEAR(x, 0, 1e-6);
  // A token that clean rules out counts for nothing, even where it is ruled out as well.
  Tensor without = logits.clone();
  for (std::int64_t i = 0; i < 3; ++i) without.data<float>()[i * 97 + 11] = -INFINITY;
  const Measured ruled_out = measure(tiny(), kl_to(without), kPrompts);
  for (std::size_t i = 0; i < kPrompts.size(); ++i) {
    Row p = last_logits_of(clean[i]), q = last_logits_of(kPrompts[i]);
    const double mass = 1 - std::exp(log_prob_of(q, 11));
    p.erase(p.begin() + 11);
    q.erase(q.begin() + 11);
    EXPECT_NEAR(ruled_out.each[i], kl_of(p, q) - std::log(mass), 2e-5);
  }
}

TEST(Metrics, LossesOfPrompts) {
  const auto of_prompt = [](const Tokens& t) {
    Row losses;
    for (std::size_t p = 0; p + 1 < t.size(); ++p)
      losses.push_back(-log_prob_of(logits_at(t, p), t[p + 1]));
    return losses;
  };
  expect_values(prompt_loss(), kPrompts,
                for_each_prompt([&](std::size_t i) { return mean_of(of_prompt(kPrompts[i])); }));
  Row all;  // every token alike: next_token_loss
  for (const Tokens& t : kPrompts) {
    const Row losses = of_prompt(t);
    all.insert(all.end(), losses.begin(), losses.end());
  }
  EXPECT_NEAR(loss(tiny(), kPrompts).mean, mean_of(all), 2e-5);
}

// log P(answer | prompt), a token at a time.
double log_prob_of_tokens(Tokens prompt, const Tokens& answer) {
  double total = 0;
  for (const int token : answer) {
    total += log_prob_of(last_logits_of(prompt), token);
    prompt.push_back(token);
  }
  return total;
}

TEST(Metrics, AnswersOfSeveralTokens) {
  const std::vector<Tokens> answers = {{5, 6}, {7}, {1, 2, 3, 4}};
  const Row want =
      for_each_prompt([&](std::size_t i) { return log_prob_of_tokens(kPrompts[i], answers[i]); });
  const Metric metric = log_probability(kPrompts, answers);
  const std::vector<Tokens> run = with_answers(kPrompts, answers);
  EXPECT_EQ(run, (std::vector<Tokens>{{3, 14, 15, 5}, {92, 65, 35, 89, 7}, {9, 32, 1, 2, 3}}));
  expect_values(metric, run, want);
  // Whole answers, and more after them, change nothing.
  std::vector<Tokens> more = run;
  for (std::size_t i = 0; i < more.size(); ++i) {
    more[i].push_back(answers[i].back());
    more[i].resize(more[i].size() + i, 13);
  }
  expect_values(metric, more, want);
  // One answer for all prompts; copies of one prompt; answers of one token.
  expect_values(log_probability(kPrompts, {{8, 9}}), with_answers(kPrompts, {{8, 9}}),
                for_each_prompt([&](std::size_t i) {
                  return log_prob_of_tokens(kPrompts[i], {8, 9});
                }));
  expect_values(log_probability({kPrompts[0]}, {answers[0]}), std::vector<Tokens>(3, run[0]),
                Row(3, want[0]));
  const Measured one = measure(tiny(), log_probability({5, 96, 0}), kPrompts),
                 same = measure(tiny(), log_probability(kPrompts, {{5}, {96}, {0}}), kPrompts);
  for (std::size_t i = 0; i < 3; ++i) EXPECT_NEAR(one.each[i], same.each[i], 1e-6);
}

TEST(Metrics, EditsOfTheLogitsCount) {
  const Interventions no_logits = {zero(site::unembed_out(), {.prompt = {1}})};
  const Measured before = measure(tiny(), logit_diff({5, 96, 0}, 4), kPrompts),
                 after = measure(tiny(), logit_diff({5, 96, 0}, 4), kPrompts, no_logits);
  EXPECT_NE(before.each[1], 0);
  EXPECT_EQ(after.each[1], 0);
  EXPECT_NEAR(after.each[0], before.each[0], 1e-5);
  const Measured uniform = measure(tiny(), probability(4), kPrompts, no_logits);
  EXPECT_NEAR(uniform.each[1], 1.0 / 97, 1e-6);
  const Measured loss = measure(tiny(), prompt_loss(), kPrompts, no_logits);
  EXPECT_NEAR(loss.each[1], std::log(97), 1e-5);
}

TEST(Metrics, YourOwn) {
  // The entropy of each prediction.
  const Metric entropy = per_prompt("entropy", [](Builder& b) {
    const Value log_p = log_softmax(last_logits(b));
    return neg(sum(exp(log_p) * log_p, {1}));
  });
  expect_values(entropy, kPrompts, for_each_prompt([](std::size_t i) {
                  const Row logits = last_logits_of(kPrompts[i]);
                  double total = 0;
                  for (int t = 0; t < 97; ++t)
                    total -= std::exp(log_prob_of(logits, t)) * log_prob_of(logits, t);
                  return total;
                }));
  const Metric everything = per_prompt("all", [](Builder& b) { return last_logits(b); });
  EXPECT_ERROR(ShapeError, "all: a metric has one value for each of the 3 prompts, not [3, 97]",
               measure(tiny(), everything, kPrompts));
}

// d metric / d site along a direction, by the graph and by two edited runs.
TEST(Metrics, GradientsAreSlopes) {
  const std::vector<Tokens> answers = {{5, 6}, {7}, {1, 2, 3}};
  const std::vector<Tokens> with = with_answers(kPrompts, answers);
  const Tensor clean = tiny_f64().run({{1, 2}, {3, 4}, {5, 6}}, value("logits")).last_logits();
  const std::vector<std::pair<Metric, std::vector<Tokens>>> cases = {
      {logit_diff({5, 96, 0}, {6, 1, 50}), kPrompts},
      {logit_diff(5, 6), kPrompts},
      {probability({5, 96, 0}), kPrompts},
      {log_probability(8), kPrompts},
      {kl_to(clean), kPrompts},
      {prompt_loss(), kPrompts},
      {log_probability(kPrompts, answers), with}};
  const Site where = site::resid_pre(1);
  for (const auto& [metric, prompts] : cases) {
    const Graph g = gradient(tiny_f64().build(batch_size(prompts)), metric, sites(where.name));
    const Tensor slope = tiny_f64()
                             .run_graph(g, prompts, fetch(grad(where)), metric.feeds)
                             .results.raw(grad_name(where.name));
    ThreadPool serial(1);
    Tensor direction = Tensor::empty(slope.shape(), DType::f64);
    random::fill_normal(serial, random::Key{17}, direction);
    constexpr double h = 1e-4;
    const double up = measure(tiny_f64(), metric, prompts, {add(where, direction, h)}).mean,
                 down = measure(tiny_f64(), metric, prompts, {add(where, direction, -h)}).mean;
    double want = 0;
    const Row a = slope.to_vector<double>(), b = direction.to_vector<double>();
    for (std::size_t i = 0; i < a.size(); ++i) want += a[i] * b[i];
    EXPECT_NE(want, 0) << metric.name;
    EXPECT_NEAR((up - down) / (2 * h), want, 1e-6 * std::max(1.0, std::abs(want))) << metric.name;
  }
}

// Logits of answers are columns of the unembedding; the others are not computed, unless they are
// wanted too.
TEST(Metrics, ReadOnlyTheirColumnsOfTheUnembedding) {
  const Graph model = tiny().build(batch_size(kPrompts));
  const auto narrowed = [&](const Metric& metric, const Fetch& wanted) {
    return compile(with_metric(model, metric), wanted).stats().narrowed_columns;
  };
  for (const Metric& m : {logit_diff(3, 4), logit_diff({5, 96, 0}, 4), logit({5, 96, 0})}) {
    EXPECT_EQ(narrowed(m, fetch(value(m), value(per_prompt_name(m)))), 1) << m.name;
    EXPECT_EQ(narrowed(m, fetch(value(m), value("logits"))), 0) << m.name;
    EXPECT_EQ(narrowed(m, fetch(value(m), site::unembed_out())), 0) << m.name;
    const Graph g = gradient(model, m, sites("*hook_resid_pre"));
    EXPECT_EQ(compile(g, fetch(grad(sites("*")), value(m))).stats().narrowed_columns, 1) << m.name;
  }
  EXPECT_EQ(narrowed(probability(3), fetch(value("prob"))), 0);
}

// Every metric of many edited runs at once, against each run alone.
TEST(Metrics, Sweep) {
  const std::vector<Tokens> answers = {{5, 6}, {7}, {1, 2, 3}};
  const Tensor clean =
      tiny().run(std::vector<Tokens>{{1, 2}, {3, 4}, {5, 6}}, value("logits")).last_logits();
  const std::vector<std::pair<Metric, std::vector<Tokens>>> cases = {
      {logit_diff({5, 96, 0}, {6, 1, 50}), kPrompts},
      {logit_diff(5, 6), kPrompts},
      {logit(3), kPrompts},
      {probability({5, 96, 0}), kPrompts},
      {log_probability(8), kPrompts},
      {kl_to(clean), kPrompts},
      {prompt_loss(), kPrompts},
      {log_probability(kPrompts, answers), with_answers(kPrompts, answers)}};
  for (const auto& [metric, prompts] : cases) {
    std::vector<Interventions> worlds;
    for (std::int64_t i = 0; i < 3; ++i) {
      worlds.push_back({zero(site::resid_pre(1), {.prompt = {i}, .pos = {1}})});
      worlds.push_back({zero(site::z(2), {.prompt = {i}, .head = {i}})});
      worlds.push_back({zero(site::unembed_out(), {.prompt = {i}})});
    }
    const std::string each = per_prompt_name(metric);
    const Swept swept = tiny().sweep(prompts, worlds, metric, {metric.name, each});
    for (std::size_t w = 0; w < worlds.size(); ++w) {
      const Measured alone = measure(tiny(), metric, prompts, worlds[w]);
      const auto at = static_cast<std::int64_t>(w);
      EXPECT_NEAR(swept[metric.name].at<float>({at}), alone.mean, 2e-5) << metric.name << ' ' << w;
      for (std::size_t i = 0; i < 3; ++i) {
        EXPECT_NEAR(swept[each].at<float>({at, static_cast<std::int64_t>(i)}), alone.each[i], 2e-5)
            << metric.name << ", world " << w << ", prompt " << i;
      }
    }
  }
}

TEST(Metrics, PlansServeAllAnswers) {
  const Model m = load_gpt2((test::data() / "tiny-gpt2").string());
  const double first = measure(m, logit_diff({5, 96, 0}, {6, 1, 50}), kPrompts).mean;
  const std::size_t plans = m.plans().size();
  EXPECT_NE(measure(m, logit_diff({7, 8, 9}, {6, 1, 50}), kPrompts).mean, first);
  EXPECT_EQ(m.plans().size(), plans);
  measure(m, log_probability({{3}}, {{5, 6}}), {{3, 5}});
  measure(m, log_probability({{4}}, {{7, 8}}), {{4, 7}});
  EXPECT_EQ(m.plans().size(), plans + 1);
}

TEST(Metrics, MistakesAreExplained) {
  const auto measured = [](const Metric& metric, const std::vector<Tokens>& prompts = kPrompts) {
    return measure(tiny(), metric, prompts);
  };
  EXPECT_ERROR(TokenError,
               "logit_diff: the answer of prompt 1 is token id 97; this model knows ids 0 to 96",
               measured(logit_diff({5, 97, 0}, 4)));
  EXPECT_ERROR(TokenError, "logit_diff: the wrong answer is token id -1; this model knows ids 0",
               measured(logit_diff({5, 9, 0}, -1)));
  EXPECT_ERROR(TokenError, "logit_diff: the answer is token id 97", measured(logit_diff(97, 1)));
  EXPECT_ERROR(TokenError, "prob: the answer is token id 200", measured(probability(200)));
  EXPECT_ERROR(TokenError, "log_prob: answer 1 has token id 99; this model knows ids 0 to 96",
               measured(log_probability(kPrompts, {{1}, {2, 99}, {3}})));
  EXPECT_ERROR(ShapeError, "logit: 2 answers for 3 prompts; give one for each, or one for all",
               measured(logit({1, 2})));
  EXPECT_ERROR(ShapeError, "logit_diff: 0 answers for 3 prompts",
               measured(logit_diff(std::vector<int>{}, 1)));
  EXPECT_ERROR(ShapeError, "log_prob: 2 answers for 3 prompts",
               log_probability(kPrompts, {{1}, {2}}));
  EXPECT_ERROR(ShapeError, "log_prob: 3 answers for 2 prompts",
               measured(log_probability(kPrompts, {{1}}), {{1, 2, 3, 4, 5}, {1}}));
  EXPECT_ERROR(ContextError, "log_prob: answer 1 is empty",
               log_probability(kPrompts, {{1}, {}, {2}}));
  EXPECT_ERROR(ContextError,
               "predicted up to position 6, but the prompts that are run have at most 5 tokens",
               measured(log_probability(kPrompts, {{1}, {1, 2, 3}, {1}})));
  EXPECT_ERROR(NumericError, "log_prob, where a prompt was run without its answer",
               measured(log_probability(kPrompts, {{1}, {2}, {3, 4, 5}})));
  EXPECT_ERROR(ShapeError, "kl: the clean logits must be [prompts, 97], not [3, 96]",
               measured(kl_to(Tensor::zeros({3, 96}, DType::f32))));
  EXPECT_ERROR(ShapeError, "kl: 2 rows of clean logits for 3 prompts",
               measured(kl_to(Tensor::zeros({2, 97}, DType::f32))));
  EXPECT_ERROR(ContextError, "prompts of at least two tokens", measured(prompt_loss(), {{1}}));
}

}  // namespace
}  // namespace vitrine::nn
