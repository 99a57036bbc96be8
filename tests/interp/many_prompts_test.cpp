// What explains many prompts in batches says of each what it says of it alone.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cmath>
#include <map>

#include "interp/attention.h"
#include "interp/attribution.h"
#include "interp/data/measure.h"
#include "interp/decomposition.h"
#include "interp/head_scores.h"
#include "interp/integrated_gradients.h"
#include "interp/lens.h"
#include "interp/neurons.h"
#include "interp/steering.h"
#include "nn/families/sites.h"
#include "tests/support.h"
#include "tests/tensor/expect_error.h"

namespace vitrine::interp {
namespace {

constexpr double kClose = 1e-9;  // of the largest value: models compute in f64 here

void expect_same(double a, double b, double scale, const std::string& what) {
  EXPECT_LE(std::abs(a - b), kClose * std::max(std::abs(scale), 1e-3))
      << what << ": " << a << " " << b;
}

const nn::Model& model_named(const std::string& name) {
  static std::map<std::string, nn::Model> models;
  const auto known = models.find(name);
  if (known != models.end()) return known->second;
  const std::string folder = name == "default" ? "" : (test::data() / "families" / name).string();
  return models.emplace(name, nn::load_model(folder, {.dtype = DType::f64})).first->second;
}

// Prompts of 3 to 9 tokens, some of which come twice, as ids that every model here has.
std::vector<nn::Tokens> prompts_of(const nn::Model& m, int count = 7) {
  std::vector<nn::Tokens> prompts;
  const auto ids = static_cast<std::uint64_t>(m.config().vocabulary - 2);
  for (int i = 0; i < count; ++i) {
    nn::Tokens p;
    for (int t = 0; t < 3 + (i * 4) % 7; ++t)
      p.push_back(t > 3 && t % 2 == 0
                      ? p[1]
                      : 1 + static_cast<int>(random::below(
                                random::Key{7}, static_cast<std::uint64_t>(i * 64 + t), ids)));
    prompts.push_back(p);
  }
  return prompts;
}
std::vector<Asked> asked_of(const nn::Model& m, int count = 7) {
  std::vector<Asked> asked;
  for (const nn::Tokens& p : prompts_of(m, count)) {
    const int i = static_cast<int>(asked.size());
    asked.push_back({p, i % 3 == 1 ? 2 : i % 3 == 2 ? -2 : -1, 5 + i, {}});
    if (i % 2 == 1) asked.back().wrong = 31 - i;
  }
  return asked;
}
std::vector<Pair> pairs_of(const nn::Model& m) {
  std::vector<Pair> pairs;
  for (const nn::Tokens& p : prompts_of(m)) {
    nn::Tokens corrupt = p;
    corrupt[1] = corrupt[1] % 40 + 2;
    const int i = static_cast<int>(pairs.size());
    pairs.push_back({p, corrupt, 5 + i, 31 - i});
  }
  return pairs;
}

class ManyPrompts : public testing::TestWithParam<const char*> {
 protected:
  const nn::Model& model() const { return model_named(GetParam()); }
};
INSTANTIATE_TEST_SUITE_P(Models, ManyPrompts, testing::Values("default", "llama", "gemma2"),
                         [](const auto& m) { return std::string(m.param); });

// ---- batches ------------------------------------------------------------------------------------
TEST(Batches, HoldAsManyPromptsAsTheirLimitsAllow) {
  const std::vector<nn::Tokens> prompts = {{1, 2, 3}, {1}, {1, 2}, {1, 2, 3, 4, 5, 6}, {1}, {2}};
  using Batches = std::vector<std::pair<std::size_t, std::size_t>>;
  EXPECT_EQ(batches(prompts), (Batches{{0, 6}}));
  EXPECT_EQ(batches(prompts, {.rows = 4}), (Batches{{0, 2}, {2, 3}, {3, 4}, {4, 6}}));
  EXPECT_EQ(batches(prompts, {.entries = 12}), (Batches{{0, 2}, {2, 3}, {3, 4}, {4, 6}}));
  EXPECT_EQ(batches(prompts, {.prompts = 4}), (Batches{{0, 4}, {4, 6}}));
  EXPECT_TRUE(batches({}).empty());
}

// ---- the lens -----------------------------------------------------------------------------------
TEST_P(ManyPrompts, LensesAreThoseOfSinglePrompts) {
  const auto asked = asked_of(model());
  const auto all = logit_lens(model(), asked), some = logit_lens(model(), asked, LensRows::asked);
  ASSERT_EQ(all.size(), asked.size());
  for (std::size_t i = 0; i < asked.size(); ++i) {
    const Lens one = logit_lens(model(), asked[i].prompt, *asked[i].answer, asked[i].wrong);
    test::expect_relative(all[i].ln, one.ln, kClose, "ln");
    test::expect_relative(all[i].raw, one.raw, kClose, "raw");
    const std::int64_t at = row_asked(asked[i]);
    ASSERT_EQ(some[i].ln.shape(), (Shape{1 + model().config().layers, 1}));
    for (std::int64_t l = 0; l <= model().config().layers; ++l) {
      expect_same(some[i].ln.at<double>({l, 0}), one.ln.at<double>({l, at}), max_abs(one.ln), "ln");
      expect_same(some[i].raw.at<double>({l, 0}), one.raw.at<double>({l, at}), max_abs(one.raw),
                  "raw");
    }
    // It ends in what the model says.
    const Tensor logits = model().run(asked[i].prompt).logits().to(DType::f64);
    double want = logits.at<double>({0, at, *asked[i].answer});
    if (asked[i].wrong) want -= logits.at<double>({0, at, *asked[i].wrong});
    EXPECT_NEAR(some[i].ln.at<double>({model().config().layers, 0}), want, 1e-4);
  }
}

TEST_P(ManyPrompts, LensTokensAreThoseOfSinglePrompts) {
  const auto prompts = prompts_of(model());
  std::vector<std::vector<std::int64_t>> positions;
  for (std::size_t i = 0; i < prompts.size(); ++i)
    positions.push_back(i % 3 == 0   ? std::vector<std::int64_t>{}
                        : i % 3 == 1 ? std::vector<std::int64_t>{2, 0}
                                     : std::vector<std::int64_t>{1});
  const auto all = lens_tokens(model(), prompts, positions, 3);
  ASSERT_EQ(all.size(), prompts.size());
  for (std::size_t i = 0; i < prompts.size(); ++i) {
    ASSERT_EQ(all[i].size(), positions[i].size());
    for (std::size_t p = 0; p < positions[i].size(); ++p) {
      const Tensor logits = model().run(prompts[i]).logits();
      const Tensor end = logits.select(0, 0).select(0, positions[i][p]);
      double sum = 0;
      for (const double x : end.to_vector<double>()) sum += std::exp(x);
      ASSERT_EQ(std::ssize(all[i][p]), 1 + model().config().layers);
      const auto top = highest(end, 3);
      for (std::size_t k = 0; k < 3; ++k) {
        const LensToken& t = all[i][p].back()[k];
        EXPECT_EQ(t.id, top[k].id);
        EXPECT_NEAR(t.logit, top[k].value, 1e-4);
        EXPECT_NEAR(t.probability, std::exp(top[k].value) / sum, 1e-5);
      }
      const auto one = lens_tokens(model(), prompts[i], {positions[i][p]}, 3)[0];
      for (std::size_t l = 0; l < one.size(); ++l) {
        for (std::size_t k = 0; k < 3; ++k) {
          EXPECT_EQ(all[i][p][l][k].id, one[l][k].id);
          expect_same(all[i][p][l][k].probability, one[l][k].probability, 1, "probability");
        }
      }
    }
  }
}

// ---- decomposition ------------------------------------------------------------------------------
TEST_P(ManyPrompts, DecompositionsAreThoseOfSinglePromptsAndClose) {
  const auto asked = asked_of(model());
  const auto all = decompose(model(), asked);
  ASSERT_EQ(all.size(), asked.size());
  for (std::size_t i = 0; i < asked.size(); ++i) {
    EXPECT_TRUE(all[i].closes()) << all[i].total() << " " << all[i].logit;
    const Decomposition one = decompose(
        model(), asked[i].prompt,
        {.answer = *asked[i].answer, .wrong = asked[i].wrong, .position = row_asked(asked[i])});
    ASSERT_EQ(all[i].parts.size(), one.parts.size());
    for (std::size_t p = 0; p < one.parts.size(); ++p) {
      EXPECT_EQ(all[i].parts[p].name(), one.parts[p].name());
      expect_same(all[i].parts[p].value, one.parts[p].value, one.magnitude(), one.parts[p].name());
    }
    expect_same(all[i].logit, one.logit, one.magnitude(), "logit");
    test::expect_relative(all[i].neurons, one.neurons, kClose, "neurons");
    test::expect_close(all[i].mlp_biases, one.mlp_biases, kClose, "biases");
  }
}

// ---- attribution --------------------------------------------------------------------------------
TEST_P(ManyPrompts, AttributionsAreThoseOfSinglePairs) {
  const auto pairs = pairs_of(model());
  std::vector<AttributionSpec> specs(4);
  specs[0].sites = {"*"};
  specs[1].method = Method::grad_x_act;
  specs[1].by_position = true;
  specs[2].measure = Measure::kl;
  specs[1].direction = Direction::noise;
  specs[3].measure = Measure::log_prob;
  for (const AttributionSpec& spec : specs) {
    const auto all = attribute(model(), pairs, spec);
    ASSERT_EQ(all.size(), pairs.size());
    for (std::size_t i = 0; i < pairs.size(); ++i) {
      const Attribution one = attribute(model(), pairs[i], spec);
      EXPECT_NEAR(all[i].clean, one.clean, 1e-4);
      EXPECT_NEAR(all[i].corrupt, one.corrupt, 1e-4);
      ASSERT_EQ(all[i].sites.size(), one.sites.size());
      double scale = 0;
      for (const SiteScores& s : one.sites) scale = std::max(scale, max_abs(s.values));
      for (std::size_t s = 0; s < one.sites.size(); ++s) {
        EXPECT_EQ(all[i].sites[s].axes, one.sites[s].axes);
        ASSERT_EQ(all[i].sites[s].values.shape(), one.sites[s].values.shape());
        EXPECT_LE(max_abs_difference(all[i].sites[s].values, one.sites[s].values), kClose * scale)
            << one.sites[s].site.name << " of " << scale;
      }
    }
  }
}

TEST_P(ManyPrompts, TheStrongestOverPairsAreVerifiedOnEachPair) {
  const auto pairs = pairs_of(model());
  for (const Method method : {Method::attribution_patching, Method::grad_x_act}) {
    AttributionSpec spec{.method = method};
    spec.sites = {"*.hook_resid_pre,*.hook_z"};
    spec.by_position = true;
    const auto all = attribute(model(), pairs, spec);
    const auto top = verify_top(model(), pairs, all, 12);
    ASSERT_EQ(top.size(), 12u);
    std::vector<std::vector<Verified>> alone;  // all places of each pair
    for (std::size_t i = 0; i < pairs.size(); ++i)
      alone.push_back(verify_top(model(), pairs[i], all[i], 1 << 20));
    int lacking = 0, compared = 0;
    for (std::size_t k = 0; k < top.size(); ++k) {
      const VerifiedOver& v = top[k];
      if (k > 0) {
        EXPECT_LE(v.node.size.mean, top[k - 1].node.size.mean);
      }
      ASSERT_EQ(v.each.size(), pairs.size());
      std::vector<double> scores, effects;
      for (std::size_t i = 0; i < pairs.size(); ++i) {
        // The same place among all of the pair's own.
        std::optional<Verified> found;
        for (const Verified& one : alone[i]) {
          if (one.node.site == v.node.site && one.node.place == v.node.place) found = one;
        }
        const bool there = v.node.place.pos < std::ssize(pairs[i].clean);
        EXPECT_EQ(v.each[i].has_value(), there);
        lacking += there ? 0 : 1;
        if (!there) continue;
        const double exact = found ? *found->exact : 0, score = found ? found->node.score : 0;
        EXPECT_NEAR(*v.each[i], exact, 1e-4);
        effects.push_back(*v.each[i]);
        scores.push_back(score);
      }
      EXPECT_NEAR(v.exact.mean, statistic(effects).mean, 1e-9);
      EXPECT_EQ(v.exact.count, std::ssize(effects));
      EXPECT_NEAR(v.node.score.mean, statistic(scores).mean, 1e-5);
      if (scores.size() < 2) continue;
      EXPECT_NEAR(v.node.score.standard_error, statistic(scores).standard_error, 1e-5);
      ++compared;
    }
    EXPECT_GT(compared, 0);
    EXPECT_GT(lacking, 0);  // else the test compares too little
  }
}

// Scores of a role are summed over its tokens, and what is measured is all of them at once.
TEST_P(ManyPrompts, AttributionsLineUpByRoles) {
  const auto pairs = pairs_of(model());
  std::vector<Example> examples;
  for (const Pair& p : pairs) {
    Example& e = examples.emplace_back(example_of(p));
    const auto at = static_cast<std::int64_t>(examples.size() % 2);
    e.roles["name"] = {at, 2};
  }
  AttributionSpec spec;
  spec.sites = {"*.hook_resid_pre,*.hook_z"};
  spec.by_position = true;
  const auto all = attribute(model(), pairs, spec);
  const std::vector<Position> positions = {parse_position("name"), parse_position("-1")};
  const auto lined = lined_up(all, examples, positions);
  const auto top = verify_top(model(), pairs, lined, 6);
  for (std::size_t i = 0; i < pairs.size(); ++i) {
    const auto length = std::ssize(pairs[i].clean);
    EXPECT_EQ(lined[i].positions.back(), std::vector<std::int64_t>{length - 1});
    for (std::size_t s = 0; s < all[i].sites.size(); ++s) {
      const Tensor &before = all[i].sites[s].values, &after = lined[i].sites[s].values;
      ASSERT_EQ(after.dim(0), 2);
      const std::int64_t width = after.numel() / 2;
      for (std::int64_t k = 0; k < width; ++k) {
        double sum = 0;
        for (const std::int64_t p : lined[i].positions[0])
          sum += before.data<double>()[p * width + k];
        EXPECT_NEAR(after.data<double>()[k], sum, 1e-12);
        EXPECT_EQ(after.data<double>()[width + k], before.data<double>()[(length - 1) * width + k]);
      }
    }
    const auto alone = verify_top(model(), pairs[i], lined[i], 1 << 20);
    for (const VerifiedOver& v : top) {
      for (const Verified& one : alone) {
        if (!(one.node.site == v.node.site) || !(one.node.place == v.node.place)) continue;
        EXPECT_NEAR(v.each[i].value(), one.exact.value(), 1e-4);
      }
    }
    const Verified& first = alone.at(0);
    const nn::Run other = model().run_batch({pairs[i].clean}, fetch(first.node.site));
    const Metric metric = metric_of(model(), {&pairs[i], 1}, spec.measure);
    Where where{.pos = lined[i].positions[static_cast<std::size_t>(first.node.place.pos)]};
    if (first.node.place.head >= 0) where.head = {first.node.place.head};
    const double patched =
        model()
            .run_edited({pairs[i].corrupt},
                        {replace(first.node.site, other.results.raw(first.node.site.name), where)},
                        fetch(value(metric)), &metric)
            .results.scalar(metric.name);
    EXPECT_NEAR(*first.exact, patched - lined[i].corrupt, 1e-4);
  }
}

TEST_P(ManyPrompts, IntegratedGradientsAreThoseOfSinglePairs) {
  const auto pairs = pairs_of(model());
  for (const char* site :
       {"blocks.0.hook_resid_pre", "blocks.1.attn.hook_z", "blocks.1.attn.hook_attn_scores"}) {
    IntegratedSpec spec{.site = {site}, .steps = 4};
    spec.rows = 50;  // several batches
    const auto all = integrated_gradients(model(), pairs, spec);
    ASSERT_EQ(all.size(), pairs.size());
    for (std::size_t i = 0; i < pairs.size(); ++i) {
      const Integrated one = integrated_gradients(model(), pairs[i], spec);
      EXPECT_NEAR(all[i].at_base, one.at_base, 1e-4);
      EXPECT_NEAR(all[i].at_other, one.at_other, 1e-4);
      EXPECT_NEAR(all[i].clean, one.clean, 1e-4);
      EXPECT_NEAR(all[i].at_base, all[i].corrupt, 1e-4);
      test::expect_close(all[i].scores.values, one.scores.values, kClose, site);
    }
  }
}

// ---- neurons ------------------------------------------------------------------------------------
TEST_P(ManyPrompts, NeuronsAreThoseOfSinglePrompts) {
  auto asked = asked_of(model());
  const int neurons = model().config().layers * model().config().d_mlp;
  for (const bool answers : {true, false}) {
    if (!answers) {
      for (Asked& a : asked) a.answer = a.wrong = std::nullopt;
    }
    NeuronSpec spec{.neurons = neurons, .dimensions = 1 << 20, .tokens = 0};
    const auto each = strong_neurons_each(model(), asked, spec);
    const NeuronsOver over = strong_neurons_over(model(), asked, spec);
    ASSERT_EQ(each.size(), asked.size());
    ASSERT_EQ(std::ssize(over.neurons), neurons);
    std::map<std::pair<int, int>, std::vector<double>> activations, effects;
    for (std::size_t i = 0; i < asked.size(); ++i) {
      spec.position = static_cast<int>(row_asked(asked[i]));
      spec.answer = asked[i].answer;
      spec.wrong = asked[i].wrong;
      const StrongNeurons one = strong_neurons(model(), asked[i].prompt, spec);
      EXPECT_EQ(each[i].position, one.position);
      EXPECT_EQ(each[i].metric.has_value(), answers);
      if (answers) {
        EXPECT_NEAR(*each[i].metric, *one.metric, 1e-4);
      }
      std::map<std::pair<int, int>, Neuron> by_id;
      for (const Neuron& n : each[i].neurons) by_id[{n.id.layer, n.id.index}] = n;
      double scale = 0, most = 0;
      for (const Neuron& n : one.neurons) {
        scale = std::max(scale, std::abs(n.effect.value_or(0)));
        most = std::max(most, std::abs(n.activation));
      }
      for (const Neuron& n : one.neurons) {
        const std::pair id(n.id.layer, n.id.index);
        const Neuron& same = by_id.at(id);
        expect_same(same.activation, n.activation, most, "activation");
        activations[id].push_back(n.activation);
        if (!answers) continue;
        expect_same(*same.effect, *n.effect, scale, "effect");
        effects[id].push_back(*n.effect);
      }
    }
    double before = INFINITY;
    for (const MeanNeuron& n : over.neurons) {
      const std::pair id(n.id.layer, n.id.index);
      const Statistic a = statistic(activations.at(id));
      EXPECT_NEAR(n.activation.mean, a.mean, 1e-4);
      EXPECT_NEAR(n.activation.standard_error, a.standard_error, 1e-4);
      EXPECT_EQ(n.activation.count, std::ssize(asked));
      ASSERT_EQ(n.effect.has_value(), answers);
      if (answers) {
        EXPECT_NEAR(n.effect->mean, statistic(effects.at(id)).mean, 1e-5);
        EXPECT_NEAR(n.effect->standard_error, statistic(effects.at(id)).standard_error, 1e-5);
      }
      const double key = std::abs(answers ? n.effect->mean : n.activation.mean);
      EXPECT_LE(key, before);
      before = key;
    }
    EXPECT_EQ(std::ssize(over.dimensions), model().config().d_model);
  }
}

TEST_P(ManyPrompts, NeuronsAreNamedByTheirOwnTokens) {
  const auto each = strong_neurons_each(model(), asked_of(model()), {.neurons = 2, .tokens = 3});
  std::vector<NeuronId> ids;
  for (const StrongNeurons& s : each) {
    for (const Neuron& n : s.neurons) ids.push_back(n.id);
  }
  const auto names = tokens_of(model(), ids, 3);
  for (std::size_t i = 0; i < ids.size(); ++i) {
    const Neuron& n = each[i / 2].neurons[i % 2];
    ASSERT_EQ(n.raised.size(), 3u);
    ASSERT_EQ(n.lowered.size(), 3u);
    for (std::size_t k = 0; k < 3; ++k) {
      EXPECT_EQ(n.raised[k].id, names[i].raised[k].id);
      EXPECT_EQ(n.lowered[k].id, names[i].lowered[k].id);
    }
  }
}

// ---- attention ----------------------------------------------------------------------------------
TEST_P(ManyPrompts, AttentionIsThatOfThePatterns) {
  std::vector<Example> examples;
  for (const nn::Tokens& p : prompts_of(model())) {
    Example e;
    e.prompt = p;
    const auto end = std::ssize(p);
    e.roles = {{"middle", {1, end - 1}}, {"end", {end - 1, end}}};
    examples.push_back(e);
  }
  const AttentionSpec spec{{1, 0},
                           {parse_position("end"), parse_position("1"), parse_position("middle")},
                           {parse_position("middle"), parse_position("0")}};
  const auto each = attention_between(model(), examples, spec);
  ASSERT_EQ(each.size(), examples.size());
  for (std::size_t i = 0; i < examples.size(); ++i) {
    ASSERT_EQ(each[i].shape(), (Shape{2, model().config().heads, 3, 2}));
    const nn::Run run = model().run(examples[i].prompt, sites("*.hook_pattern"));
    const auto end = std::ssize(examples[i].prompt);
    for (std::int64_t l = 0; l < 2; ++l) {
      const Tensor pattern = run[site::pattern(l == 0 ? 1 : 0)].to(DType::f64);  // [1, h, q, k]
      for (std::int64_t h = 0; h < model().config().heads; ++h) {
        for (std::int64_t f = 0; f < 3; ++f) {
          const std::int64_t q = f == 0 ? end - 1 : f == 1 ? 1 : end - 2;
          double middle = 0;
          for (std::int64_t k = 1; k < end - 1; ++k) middle += pattern.at<double>({0, h, q, k});
          EXPECT_NEAR(each[i].at<double>({l, h, f, 0}), middle, 1e-6);
          EXPECT_NEAR(each[i].at<double>({l, h, f, 1}), pattern.at<double>({0, h, q, 0}), 1e-6);
        }
      }
    }
  }
}

// ---- head scores --------------------------------------------------------------------------------
TEST_P(ManyPrompts, HeadScoresOnRepeatedTokensAreTheUsualOnes) {
  // Permutations said twice: each token of the second half has one place before it.
  std::vector<nn::Tokens> prompts;
  for (int s = 0; s < 3; ++s) {
    nn::Tokens p;
    for (int i = 0; i < 6; ++i) p.push_back(2 + (i * 5 + s) % 11);
    p.insert(p.end(), p.begin(), p.begin() + 6);
    prompts.push_back(p);
  }
  const HeadScores usual = head_scores(model(), prompts);
  const HeadScoresOver own = head_scores_on(model(), prompts);
  test::expect_close(own.previous.mean, usual.previous, kClose, "previous");
  test::expect_close(own.duplicate.mean, usual.duplicate, kClose, "duplicate");
  test::expect_close(own.induction.mean, usual.induction, kClose, "induction");
  EXPECT_EQ(own.each.size(), 3u);
}

TEST_P(ManyPrompts, HeadScoresAreSumsOfPatterns) {
  auto prompts = prompts_of(model());
  prompts.push_back({4});        // nothing to attend to
  prompts.push_back({4, 4});     // a duplicate, but nothing after it
  prompts.push_back({4, 5, 6});  // neither
  const HeadScoresOver own = head_scores_on(model(), prompts);
  ASSERT_EQ(own.each.size(), prompts.size());
  for (std::size_t i = 0; i < prompts.size(); ++i) {
    const nn::Tokens& p = prompts[i];
    const nn::Run run = model().run(p, sites("*.hook_pattern"));
    for (const Head& head : all_heads(model().config())) {
      const Tensor pattern = run[site::pattern(head.layer)].to(DType::f64);
      double previous = 0, duplicate = 0, induction = 0;
      int queries = 0, with = 0, after = 0;
      for (std::int64_t q = 1; q < std::ssize(p); ++q) {
        previous += pattern.at<double>({0, head.head, q, q - 1});
        ++queries;
        bool is = false, has = false;
        for (std::int64_t k = 0; k < q; ++k) {
          if (p[static_cast<std::size_t>(k)] != p[static_cast<std::size_t>(q)]) continue;
          is = true;
          duplicate += pattern.at<double>({0, head.head, q, k});
          if (k + 1 >= q) continue;
          has = true;
          induction += pattern.at<double>({0, head.head, q, k + 1});
        }
        with += is ? 1 : 0;
        after += has ? 1 : 0;
      }
      const auto expect = [&](const Tensor& t, double sum, int n, const char* what) {
        if (n == 0) {
          EXPECT_TRUE(std::isnan(of_head(t, head))) << what << " " << i;
        } else {
          EXPECT_NEAR(of_head(t, head), sum / n, 1e-6) << what << " " << i;
        }
      };
      expect(own.each[i].previous, previous, queries, "previous");
      expect(own.each[i].duplicate, duplicate, with, "duplicate");
      expect(own.each[i].induction, induction, after, "induction");
    }
  }
  EXPECT_EQ(own.previous.count.at<double>({0, 0}), static_cast<double>(prompts.size()) - 1);
  // Nothing comes twice, and nothing comes before.
  EXPECT_EQ(max_abs(head_scores_on(model(), std::vector<nn::Tokens>{{1, 2}}).duplicate.count), 0);
  EXPECT_EQ(max_abs(head_scores_on(model(), std::vector<nn::Tokens>{{1}}).previous.count), 0);
  EXPECT_LT(own.induction.count.at<double>({0, 0}), own.duplicate.count.at<double>({0, 0}));
}

// ---- steering -----------------------------------------------------------------------------------
TEST_P(ManyPrompts, SteeredPromptsAreThoseOfSingleRuns) {
  const Site stream = site::resid_post(1);
  const auto asked = asked_of(model());
  const Tensor d = direction_toward(model(), stream, 9);
  const std::vector<double> factors = {0, 1.5, -2};
  for (const Measure measure :
       {Measure::logit_diff, Measure::prob, Measure::log_prob, Measure::kl}) {
    const Tensor table = steered(model(), asked, stream, d, factors, measure);
    ASSERT_EQ(table.shape(), (Shape{3, std::ssize(asked)}));
    for (std::size_t i = 0; i < asked.size(); ++i) {
      const std::vector<nn::Tokens> prompt = up_to_positions({&asked[i], 1});
      const Metric metric = measure != Measure::logit_diff
                                ? metric_of(model(), {&asked[i], 1}, measure)
                            : asked[i].wrong ? nn::logit_diff(*asked[i].answer, *asked[i].wrong)
                                             : nn::logit(*asked[i].answer);
      for (std::size_t f = 0; f < factors.size(); ++f) {
        const nn::Run run =
            model().run_edited(prompt, {add(stream, d, factors[f])}, fetch(value(metric)), &metric);
        const double want = run.results.scalar(metric.name);
        EXPECT_NEAR(table.at<double>({static_cast<std::int64_t>(f), static_cast<std::int64_t>(i)}),
                    want, 2e-5 * std::max(1.0, std::abs(want)))
            << name_of(measure) << " " << factors[f];
      }
    }
  }
}

// Any metric of examples, of whole prompts.
TEST_P(ManyPrompts, SteeredExamplesAreThoseOfSingleRuns) {
  const Site stream = site::resid_post(1);
  const Tensor d = direction_toward(model(), stream, 9);
  const std::vector<double> factors = {0, 1.5};
  std::vector<Example> examples;
  for (const nn::Tokens& p : prompts_of(model(), 4)) {
    const int i = static_cast<int>(examples.size());
    Example& e = examples.emplace_back();
    e.prompt = p;
    e.answers = {{5 + i}};
    e.wrongs = {{31 - i}, {12}};
  }
  const auto check = [&](const char* text) {
    const MetricSpec spec = parse_metric(text);
    const Tensor table = steered(model(), examples, stream, d, factors, spec);
    for (std::size_t i = 0; i < examples.size(); ++i) {
      const std::span one(&examples[i], 1);
      const Metric metric = metric_of(model(), one, spec);
      for (std::size_t f = 0; f < factors.size(); ++f) {
        const double want = model()
                                .run_edited(prompts_to_run(one, spec), {add(stream, d, factors[f])},
                                            fetch(value(metric)), &metric)
                                .results.scalar(metric.name);
        EXPECT_NEAR(table.at<double>({static_cast<std::int64_t>(f), static_cast<std::int64_t>(i)}),
                    want, 2e-5 * std::max(1.0, std::abs(want)))
            << text;
      }
    }
  };
  for (const char* text : {"logit_diff", "kl", "loss", "logit(answer) - max(logit(wrong))"})
    check(text);
  // At positions alone.
  const std::vector<Position> positions = {parse_position("0"), parse_position("-1")};
  const MetricSpec diff = parse_metric("logit_diff");
  const Tensor there =
      steered(model(), examples, stream, d, factors, diff, nullptr, std::nullopt, positions);
  for (std::size_t i = 0; i < examples.size(); ++i) {
    const Metric metric = metric_of(model(), {&examples[i], 1}, diff);
    const Where where{.pos = examples[i].all_at(positions)};
    const double want = model()
                            .run_edited({examples[i].prompt}, {add(stream, d, factors[1], where)},
                                        fetch(value(metric)), &metric)
                            .results.scalar(metric.name);
    EXPECT_NEAR(there.at<double>({1, static_cast<std::int64_t>(i)}), want,
                2e-5 * std::max(1.0, std::abs(want)));
  }
  examples[1].answers = {{3, 4}};
  check("log_prob");
}

TEST_P(ManyPrompts, NormsAreOverTheTokensOfAllPrompts) {
  const std::vector<nn::Tokens> prompts = prompts_of(model(), 4);
  const Site z = site::z(1);
  const Norms all = norms(model(), z, prompts);
  double sum = 0, last = 0, least = INFINITY, most = 0, tokens = 0;
  for (const nn::Tokens& p : prompts) {
    const Norms one = norms(model(), z, p);
    sum += one.mean * static_cast<double>(p.size());
    tokens += static_cast<double>(p.size());
    last += one.last / 4;
    least = std::min(least, one.least);
    most = std::max(most, one.most);
  }
  expect_same(all.mean, sum / tokens, most, "mean");
  expect_same(all.last, last, most, "last");
  expect_same(all.least, least, most, "least");
  expect_same(all.most, most, most, "most");
}

// ---- groups of neurons --------------------------------------------------------------------------
TEST_P(ManyPrompts, NeuronsByGroupAreThoseOfTheGroupAlone) {
  const auto asked = asked_of(model());
  const NeuronSpec spec{.neurons = 5, .dimensions = 3, .tokens = 2};
  const std::vector<PromptGroup> groups = {{"a", {0, 2, 5}}, {"b", {4}}, {"c", {5, 6}}};
  const NeuronsByGroup found = strong_neurons_by_group(model(), asked, groups, spec);
  ASSERT_EQ(found.groups.size(), 3u);
  for (std::size_t g = 0; g < 3; ++g) {
    std::vector<Asked> members;
    for (const std::size_t i : groups[g].members) members.push_back(asked[i]);
    const NeuronsOver alone = strong_neurons_over(model(), members, spec);
    expect_same(found.groups[g].metric->mean, alone.metric->mean, 1, "metric");
    ASSERT_EQ(found.groups[g].neurons.size(), 5u);
    for (std::size_t k = 0; k < 5; ++k) {
      const MeanNeuron &a = found.groups[g].neurons[k], &b = alone.neurons[k];
      EXPECT_EQ(std::pair(a.id.layer, a.id.index), std::pair(b.id.layer, b.id.index));
      expect_same(a.effect->mean, b.effect->mean, 1, "effect");
      EXPECT_EQ(a.effect->count, std::ssize(members));
      EXPECT_EQ(a.raised[0].id, b.raised[0].id);
    }
  }
  const auto each = strong_neurons_each(model(), asked, spec);
  ASSERT_EQ(found.each.size(), asked.size());
  for (std::size_t i = 0; i < asked.size(); ++i) {
    EXPECT_EQ(found.each[i].neurons[0].id.index, each[i].neurons[0].id.index);
    EXPECT_TRUE(found.each[i].neurons[0].raised.empty());
  }
}

// ---- what is refused ----------------------------------------------------------------------------
TEST(AskingMany, WhatIsAskedIsChecked) {
  using test::message_of;
  const nn::Model& m = model_named("llama");
  std::vector<Asked> asked = asked_of(m);
  const auto with = [&](auto change) {
    std::vector<Asked> changed = asked;
    change(changed[2]);
    return changed;
  };
  EXPECT_ERROR(ContextError, "there is no position 40: prompt 2 has",
               decompose(m, with([](Asked& a) { a.position = 40; })));
  EXPECT_ERROR(ContextError, "there is no position -40: prompt 2 has",
               logit_lens(m, with([](Asked& a) { a.position = -40; })));
  EXPECT_ERROR(TokenError, "the answer of prompt 2 has id -3",
               decompose(m, with([](Asked& a) { a.answer = -3; })));
  EXPECT_ERROR(TokenError, "the wrong answer of prompt 2 has id 100000",
               decompose(m, with([](Asked& a) { a.wrong = 100000; })));
  EXPECT_ERROR(Error, "there is no answer of prompt 2",
               decompose(m, with([](Asked& a) { a.answer = a.wrong = std::nullopt; })));
  EXPECT_ERROR(Error, "there is a wrong answer of prompt 2 without an answer",
               strong_neurons_over(m, with([](Asked& a) { a.answer.reset(), a.wrong = 3; })));
  EXPECT_ERROR(Error, "prompt 2 has no answer and prompt 0 has one",
               strong_neurons_over(m, with([](Asked& a) { a.answer = a.wrong = std::nullopt; })));
  const std::vector<PromptGroup> empty = {{"a", {0}}, {"b", {}}}, beyond = {{"a", {0, 100}}};
  EXPECT_ERROR(Error, "group 1 has no prompts", strong_neurons_by_group(m, asked, empty));
  EXPECT_ERROR(Error, "group 0 has prompt 100, but there are 7 prompts",
               strong_neurons_by_group(m, asked, beyond));
  EXPECT_ERROR(ContextError, "prompt 2 is empty",
               logit_lens(m, with([](Asked& a) { a.prompt.clear(); })));
  EXPECT_ERROR(ContextError, "there is no prompt", decompose(m, std::vector<Asked>{}));

  const std::vector<nn::Tokens> prompts = {{1, 2}, {3, 4, 5}};
  const std::vector<std::vector<std::int64_t>> one = {{0}}, far = {{0}, {3}};
  EXPECT_ERROR(ShapeError, "2 prompts and 1 lists of positions", lens_tokens(m, prompts, one, 1));
  EXPECT_ERROR(ContextError, "there is no position 3: prompt 1 has 3 tokens",
               lens_tokens(m, prompts, far, 1));

  std::vector<Pair> pairs = pairs_of(m);
  const auto all = attribute(m, pairs);
  EXPECT_ERROR(ShapeError, "7 pairs and 6 attributions",
               verify_top(m, pairs, std::span(all).first(6), 3));
  const std::vector<Attribution> unlike = {all[0],
                                           attribute(m, pairs[0], {.sites = {"*.hook_resid_pre"}})};
  EXPECT_ERROR(ShapeError, "go together when their sites are the same", strongest(unlike, 3));
  pairs[3].corrupt.push_back(1);
  EXPECT_ERROR(Error, "pair 3: the clean prompt has", attribute(m, pairs));
  EXPECT_ERROR(Error, "pair 3: the clean prompt has", integrated_gradients(m, pairs));

  std::vector<Example> examples(2);
  for (Example& e : examples) e.prompt = {1, 2, 3};
  EXPECT_ERROR(Error, "there is no layer 9",
               attention_between(m, examples, {.layers = {9}, .to = {Position{0, ""}}}));
  EXPECT_ERROR(Error, "name at least one of each", attention_between(m, examples, {}));
  EXPECT_ERROR(ContextError, "there is no role",
               attention_between(m, examples, {.to = {parse_position("subject")}}));
}

}  // namespace
}  // namespace vitrine::interp
