// Metrics of examples against those of nn/model/metrics.h, against plain arithmetic, and gradients
// against finite differences; many prompts against one at a time.
#include "interp/data/measure.h"

#include <gmock/gmock.h>

#include <algorithm>
#include <cmath>

#include "autograd/transform/gradient.h"
#include "nn/families/sites.h"
#include "nn/model/sampling.h"
#include "tensor/random.h"
#include "tests/support.h"
#include "tests/tensor/expect_error.h"

namespace vitrine::interp {
namespace {

using test::message_of;
using ::testing::HasSubstr;
using Row = std::vector<double>;

const nn::Model& tiny() {
  static const nn::Model model = nn::load_gpt2((test::data() / "tiny-gpt2").string());
  return model;
}
const nn::Model& tiny_f64() {
  static const nn::Model model =
      nn::load_gpt2((test::data() / "tiny-gpt2").string(), {.dtype = DType::f64});
  return model;
}

Example example(nn::Tokens prompt, std::vector<nn::Tokens> answers, std::vector<nn::Tokens> wrongs,
                std::vector<int> list, int line) {
  Example e;
  e.prompt = std::move(prompt);
  e.answers = std::move(answers);
  e.wrongs = std::move(wrongs);
  if (!list.empty()) e.tokens["list"] = std::move(list);
  e.line = line;
  return e;
}
// One answer each; lists that differ in length.
const std::vector<Example> kSingle = {example({3, 14, 15}, {{5}}, {{6}}, {1, 2, 3}, 1),
                                      example({92, 65, 35, 89, 7}, {{96}}, {{1}}, {4}, 2),
                                      example({9, 32}, {{0}}, {{50}}, {7, 8}, 3)};
// Several right and wrong ones.
const std::vector<Example> kSeveral = {
    example({3, 14, 15}, {{5}, {8}}, {{6}}, {}, 1),
    example({92, 65, 35, 89, 7}, {{96}}, {{1}, {2}, {3}}, {}, 2)};
// Answers of several tokens.
const std::vector<Example> kLong = {example({3, 14, 15}, {{5, 6, 7}}, {}, {2}, 1),
                                    example({92, 65, 35, 89, 7}, {{96}}, {}, {4}, 2),
                                    example({9, 32}, {{0, 1}}, {}, {7}, 3)};

Row values_of(const nn::Model& model, const std::vector<Example>& examples, const Metric& metric,
              const std::vector<nn::Tokens>& prompts, const Interventions& what = {}) {
  const std::string each = nn::per_prompt_name(metric);
  EXPECT_FALSE(examples.empty());
  return model.run_edited(prompts, what, fetch(value(each)), &metric)[each].to_vector<double>();
}
Row values_of(const std::vector<Example>& examples, std::string_view text) {
  const MetricSpec spec = parse_metric(text);
  return values_of(tiny(), examples, metric_of(tiny(), examples, spec),
                   prompts_to_run(examples, spec));
}

// The logits after the prompt, run alone.
Row logits_of(const nn::Tokens& prompt) {
  return tiny().run(prompt).last_logits().to_vector<double>();
}
Row log_probabilities(const nn::Tokens& prompt) {
  Row x = logits_of(prompt);
  double total = 0;
  for (const double v : x) total += std::exp(v);
  for (double& v : x) v -= std::log(total);
  return x;
}
void expect_row(const Row& got, const Row& want, std::string_view what) {
  ASSERT_EQ(got.size(), want.size()) << what;
  for (std::size_t i = 0; i < got.size(); ++i) EXPECT_NEAR(got[i], want[i], 2e-5) << what << i;
}

// ---- one right and one wrong answer -------------------------------------------------------------
TEST(Measure, ExpressionsEqualTheMetricsThatHaveNamesToTheBit) {
  const std::vector<int> answers = {5, 96, 0}, wrongs = {6, 1, 50};
  std::vector<nn::Tokens> prompts;
  for (const Example& e : kSingle) prompts.push_back(e.prompt);
  const std::vector<std::tuple<Metric, const char*, const char*>> same = {
      {nn::logit_diff(nn::Answers(answers), nn::Answers(wrongs)), "logit_diff",
       "logit(answer) - logit(wrong)"},
      {nn::logit(answers), "logit", "logit(answer)"},
      {nn::probability(answers), "prob", "prob(answer)"},
      {nn::log_probability(answers), "log_prob", "log_prob(answer)"},
      {nn::rank(answers), "rank", "rank(answer)"},
      {nn::accuracy(answers), "accuracy", "accuracy"},
      {nn::prompt_loss(), "loss", "loss + 0"}};
  for (const auto& [metric, name, expression] : same) {
    const Row want = values_of(tiny(), kSingle, metric, prompts);
    EXPECT_EQ(values_of(kSingle, name), want) << name;
    EXPECT_EQ(values_of(kSingle, expression), want) << expression;
  }
}

TEST(Measure, DivergenceIsFromTheCleanRun) {
  std::vector<nn::Tokens> prompts;
  for (const Example& e : kSingle) prompts.push_back(e.prompt);
  const std::vector<nn::Tokens> others = {{3, 14, 16}, {92, 65, 35, 89, 8}, {1, 32}};
  const Metric kl = metric_of(tiny(), kSingle, parse_metric("kl"));
  const Row want = values_of(tiny(), kSingle, nn::kl_to(tiny().run(prompts).last_logits()), others);
  EXPECT_GT(want[0], 1e-3);
  expect_row(values_of(tiny(), kSingle, kl, others), want, "kl");
  EXPECT_EQ(values_of(tiny(), kSingle, kl, prompts), Row(3, 0));
}

TEST(Measure, RankAndAccuracyAsSortedByHand) {
  const Row logits = logits_of(kSingle[0].prompt);
  const auto by_hand = [&](int id) {
    int before = 0;
    for (int i = 0; i < 97; ++i) {
      const double a = logits[static_cast<std::size_t>(i)],
                   b = logits[static_cast<std::size_t>(id)];
      before += a > b || (a == b && i < id) ? 1 : 0;
    }
    return before;
  };
  std::vector<int> order(97);
  for (int id = 0; id < 97; ++id) {
    const int rank = by_hand(id);
    order[static_cast<std::size_t>(rank)] = id;
    const std::vector<Example> one = {example(kSingle[0].prompt, {{id}}, {}, {}, 0)};
    EXPECT_EQ(values_of(one, "rank"), Row{static_cast<double>(rank)});
    EXPECT_EQ(values_of(one, "accuracy"), Row{rank == 0 ? 1.0 : 0.0});
  }
  // Of equal ones the lower id is first: with no unembedding all are equal.
  const MetricSpec spec = parse_metric("rank");
  const std::vector<Example> one = {example({1, 2}, {{40}}, {}, {}, 0)};
  EXPECT_EQ(
      values_of(tiny(), one, metric_of(tiny(), one, spec), {{1, 2}}, {zero(site::unembed_out())}),
      Row{40});
}

TEST(Measure, ExpressionsAsPlainArithmetic) {
  Row want;
  for (const Example& e : kSingle) {
    const Row x = logits_of(e.prompt), p = log_probabilities(e.prompt);
    double sum = 0, most = -1e9, least = 1e9;
    for (const int id : e.tokens.at("list")) {
      const double v = x[static_cast<std::size_t>(id)];
      sum += v, most = std::max(most, v), least = std::min(least, v);
    }
    const auto n = static_cast<double>(e.tokens.at("list").size());
    want.push_back(x[12] - sum / n + 2 * (most - least) - std::exp(p[3]) / 4 +
                   std::abs(-p[static_cast<std::size_t>(e.wrongs[0][0])]) +
                   std::log(sum * sum + 1));
  }
  expect_row(values_of(kSingle,
                       "logit(#12) - mean(logit(@list)) + 2 * (max(logit(@list)) - "
                       "min(logit(@list))) - prob(#3) / 4 + abs(-log_prob(wrong)) + "
                       "log(sum(logit(@list)) * sum(logit(@list)) + 1)"),
             want, "own");
  // Within a list, and between commas.
  expect_row(values_of(kSingle, "sum(logit(@list) * 2 - logit(@list) - logit(#1))"),
             values_of(kSingle, "sum(logit(@list) - logit(#1))"), "a list with itself");
  expect_row(values_of(kSingle, "max(logit(#1), logit(#2), 3)"),
             values_of(kSingle, "max(3, max(logit(#2), logit(#1)))"), "between commas");
  expect_row(values_of(kSingle, "exp(log_prob(answer))"), values_of(kSingle, "prob"), "exp");
}

// ---- several, and long ones ---------------------------------------------------------------------
TEST(Measure, SeveralRightAndWrongAnswers) {
  Row diff, prob, log_prob, rank;
  for (const Example& e : kSeveral) {
    const Row x = logits_of(e.prompt), p = log_probabilities(e.prompt);
    const auto mean = [&](const std::vector<nn::Tokens>& of) {
      double sum = 0;
      for (const nn::Tokens& a : of) sum += x[static_cast<std::size_t>(a[0])];
      return sum / static_cast<double>(of.size());
    };
    diff.push_back(mean(e.answers) - mean(e.wrongs));
    double total = 0, best = 1e9;
    for (const nn::Tokens& a : e.answers) {
      const double v = x[static_cast<std::size_t>(a[0])];
      total += std::exp(p[static_cast<std::size_t>(a[0])]);
      best = std::min(best, static_cast<double>(std::count_if(
                                x.begin(), x.end(), [v](double other) { return other > v; })));
    }
    prob.push_back(total);
    log_prob.push_back(std::log(total));
    rank.push_back(best);
  }
  expect_row(values_of(kSeveral, "logit_diff"), diff, "logit_diff");
  expect_row(values_of(kSeveral, "prob"), prob, "prob");
  expect_row(values_of(kSeveral, "log_prob"), log_prob, "log_prob");
  expect_row(values_of(kSeveral, "rank"), rank, "rank");
  // The most probable token is one of the right ones, whichever.
  const Row x = logits_of({3, 14, 15});
  const int top = static_cast<int>(std::max_element(x.begin(), x.end()) - x.begin());
  const std::vector<Example> with_top = {example({3, 14, 15}, {{7}, {top}}, {}, {}, 0),
                                         example({3, 14, 15}, {{top == 8 ? 9 : 8}}, {}, {}, 0)};
  EXPECT_EQ(values_of(with_top, "accuracy"), (Row{1, 0}));
}

TEST(Measure, AnswersOfSeveralTokens) {
  Row want;
  for (const Example& e : kLong) {
    double sum = 0;
    nn::Tokens prompt = e.prompt;
    for (const int id : e.answers[0]) {
      sum += log_probabilities(prompt)[static_cast<std::size_t>(id)];
      prompt.push_back(id);
    }
    want.push_back(sum);
  }
  expect_row(values_of(kLong, "log_prob"), want, "log_prob");
  for (double& x : want) x = std::exp(x);
  expect_row(values_of(kLong, "prob"), want, "prob");
  // What else an expression reads is read after the prompt, not after the answer.
  Row beside;
  for (std::size_t i = 0; i < kLong.size(); ++i)
    beside.push_back(want[i] + logits_of(kLong[i].prompt)[7]);
  expect_row(values_of(kLong, "prob(answer) + logit(#7)"), beside, "beside");
}

// ---- gradients, sweeps --------------------------------------------------------------------------
TEST(Measure, GradientsEqualFiniteDifferences) {
  const std::vector<std::pair<std::vector<Example>, const char*>> cases = {
      {kSingle, "logit_diff"},
      {kSingle, "logit(#12) - mean(logit(@list)) * prob(answer)"},
      {kSingle, "max(log_prob(@list)) / (2 + min(logit(@list)) * sum(prob(@list)))"},
      {kSingle, "loss + exp(-abs(logit(wrong)))"},
      {kSeveral, "log_prob - log(prob)* 2"},
      {kSeveral, "logit_diff"},
      {kLong, "log_prob(answer) + logit(#7)"}};
  const Site where = site::resid_pre(1);
  for (const auto& [examples, text] : cases) {
    const MetricSpec spec = parse_metric(text);
    const Metric metric = metric_of(tiny_f64(), examples, spec);
    const auto prompts = prompts_to_run(examples, spec);
    const Graph g = gradient(tiny_f64().build(nn::batch_size(prompts)), metric, sites(where.name));
    const Tensor slope = tiny_f64()
                             .run_graph(g, prompts, fetch(grad(where)), metric.feeds)
                             .results.raw(grad_name(where.name));
    ThreadPool serial(1);
    Tensor direction = Tensor::empty(slope.shape(), DType::f64);
    random::fill_normal(serial, random::Key{17}, direction);
    constexpr double h = 1e-4;
    const auto mean = [&](double by) {
      const Row v = values_of(tiny_f64(), examples, metric, prompts, {add(where, direction, by)});
      double sum = 0;
      for (const double x : v) sum += x;
      return sum / static_cast<double>(v.size());
    };
    double want = 0;
    const Row a = slope.to_vector<double>(), b = direction.to_vector<double>();
    for (std::size_t i = 0; i < a.size(); ++i) want += a[i] * b[i];
    EXPECT_NE(want, 0) << text;
    EXPECT_NEAR((mean(h) - mean(-h)) / (2 * h), want, 1e-6 * std::max(1.0, std::abs(want))) << text;
  }
}

TEST(Measure, ExpressionsAreSwept) {
  for (const char* text : {"logit(#12) - mean(logit(@list))", "rank(answer)", "kl"}) {
    const Metric metric = metric_of(tiny(), kSingle, parse_metric(text));
    std::vector<nn::Tokens> prompts;
    std::vector<Interventions> worlds;
    for (std::int64_t i = 0; i < 3; ++i) {
      prompts.push_back(kSingle[static_cast<std::size_t>(i)].prompt);
      worlds.push_back({zero(site::resid_pre(1), {.prompt = {i}, .pos = {1}})});
      worlds.push_back({zero(site::z(2), {.prompt = {i}, .head = {i}})});
    }
    const std::string each = nn::per_prompt_name(metric);
    const Row swept = tiny().sweep(prompts, worlds, metric, {each})[each].to_vector<double>();
    for (std::size_t w = 0; w < worlds.size(); ++w) {
      expect_row({swept.begin() + static_cast<std::ptrdiff_t>(3 * w),
                  swept.begin() + static_cast<std::ptrdiff_t>(3 * w + 3)},
                 values_of(tiny(), kSingle, metric, prompts, worlds[w]), text);
    }
  }
}

// ---- over a data set ----------------------------------------------------------------------------
TEST(Measure, ManyPromptsEqualEachAlone) {
  std::vector<Example> many;
  for (int i = 0; i < 23; ++i) {
    nn::Tokens prompt;
    for (int k = 0; k < 2 + i % 5; ++k) prompt.push_back((7 * i + 11 * k) % 97);
    many.push_back(example(prompt, {{i}}, {{i + 30}}, {i, i + 1}, i + 1));
    if (i % 4 == 0) many.back().answers[0].push_back(i + 2);
  }
  const std::vector<MetricSpec> specs = {parse_metric("log_prob"),
                                         parse_metric("logit(#3) - mean(logit(@list))"),
                                         parse_metric("loss"), parse_metric("logit(#4)")};
  const Measurement all = measure(tiny(), many, specs);
  int done = 0;
  const Measurement few =
      measure(tiny(), many, specs, {.memory = 5 * 4 * 97, .progress = [&](int d, int total) {
                                      EXPECT_GT(d, done);
                                      EXPECT_EQ(total, 46);
                                      done = d;
                                    }});
  EXPECT_EQ(done, 46);
  for (std::size_t i = 0; i < many.size(); ++i) {
    const Measurement alone = measure(tiny(), {&many[i], 1}, specs);
    const auto top = nn::top_tokens(
        [&] {
          std::vector<float> logits;
          for (const double x : logits_of(many[i].prompt)) logits.push_back(static_cast<float>(x));
          return logits;
        }(),
        1)[0];
    for (const Measurement* m : {&all, &few}) {
      for (std::size_t s = 0; s < specs.size(); ++s)
        EXPECT_NEAR(m->values[s][i], alone.values[s][0], 2e-5) << i << specs[s].text;
      EXPECT_EQ(m->top[i], top.id);
      EXPECT_NEAR(m->top_probability[i], top.probability, 1e-6);
    }
  }
  EXPECT_TRUE(measure(tiny(), {}, specs).top.empty());
}

// ---- mistakes -----------------------------------------------------------------------------------
TEST(Measure, Mistakes) {
  const auto said = [](const std::vector<Example>& examples, const char* text) {
    return message_of<Error>([&] { metric_of(tiny(), examples, parse_metric(text)); });
  };
  EXPECT_THAT(said(kLong, "logit_diff"),
              HasSubstr("line 1: metric: an answer has 3 tokens; of "
                        "such there are log_prob and prob\n  logit_diff"));
  EXPECT_THAT(said(kSingle, "logit(@list)"),
              HasSubstr("several values for a prompt; take them together: mean(...)"));
  EXPECT_THAT(said(kSeveral, "logit(answer) - logit(wrong)"),
              HasSubstr("both sides have several values for a prompt, of answer and of wrong"));
  EXPECT_THAT(said(kSingle, "max(logit(@list), 2)"), HasSubstr("between commas each must be one"));
  EXPECT_THAT(said(kSingle, "mean(logit(@lists))"),
              HasSubstr("line 1: there is no field \"lists\" with tokens"));
  EXPECT_THAT(said({example({1}, {}, {}, {}, 4)}, "prob"),
              HasSubstr("line 4: there is no answer, which the metric \"prob\" reads"));
  EXPECT_THAT(said({example({1}, {{2}}, {}, {}, 4)}, "logit_diff"),
              HasSubstr("line 4: there is no wrong answer"));
  EXPECT_THAT(said({example({1}, {{2}}, {}, {}, 4)}, "loss"),
              HasSubstr("line 4: the loss needs a prompt of at least two tokens"));
  EXPECT_THAT(said(kLong, "loss + prob"), HasSubstr("measure the two one after the other"));
  EXPECT_THAT(said({example({1, 2}, {{2, 3}, {4}}, {}, {}, 4)}, "prob"),
              HasSubstr("line 4: there are 2 answers; where some have several tokens"));
  EXPECT_THAT(said({example({1, 2}, {{2}}, {{3, 4}}, {}, 4)}, "logit_diff"),
              HasSubstr("line 4: a wrong answer of 2 tokens"));
  EXPECT_THAT(said(kSingle, "1 + logit(#97)"), HasSubstr("97 is outside 0 to 96"));
  EXPECT_TRUE(said(kSingle, "1 + logit(#97)").ends_with("\n  1 + logit(#97)\n            ^"));
  EXPECT_THAT(said(kSingle, "logit(\" a\")"), HasSubstr("no tokenizer"));
  const Metric three = metric_of(tiny(), kSingle, parse_metric("logit"));
  EXPECT_ERROR(ShapeError, "3 examples for 2 prompts",
               tiny().run_edited({{1, 2}, {3}}, {}, fetch(value("logit")), &three));
}

}  // namespace
}  // namespace vitrine::interp
