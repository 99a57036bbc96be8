// Metrics beside their formulas, and what an SAE does to a model beside a splice of it.
#include "sae/evaluation.h"

#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <map>
#include <numeric>

#include "autograd/sweep/sweep.h"
#include "autograd/transform/gradient.h"
#include "autograd/transform/intervention.h"
#include "nn/model/metrics.h"
#include "sae/features/feature_contexts.h"
#include "sae/features/feature_traces.h"
#include "tensor/error.h"
#include "tensor/files/safetensors.h"
#include "tests/sae/small_sae.h"
#include "tests/support.h"
#include "tests/tensor/expect_error.h"
#include "tests/tensor/temporary_folder.h"

namespace vitrine::test {
namespace {

nn::Model tiny() { return nn::load_gpt2((data() / "tiny-gpt2").string(), {.threads = 2}); }

sae::Sae sae_of(const nn::Model& m, const std::string& site, sae::SaeConfig config = {}) {
  config.d_in = m.config().d_model;
  config.d_sae = 70;
  config.join_heads = site.ends_with("hook_z");
  config.hook_name = site;
  return small_sae(config);
}

std::vector<nn::Tokens> lines(int count) {
  std::vector<nn::Tokens> all;
  for (int i = 0; i < count; ++i) {
    nn::Tokens one;
    for (int t = 0; t < 3 + 5 * i % 23; ++t) one.push_back((11 * i + 5 * t * t) % 97);
    all.push_back(one);
  }
  return all;
}
std::filesystem::path write(const TemporaryFolder& folder, const std::vector<nn::Tokens>& all) {
  const auto file = folder.path() / "text.jsonl";
  std::ofstream out(file);
  for (const nn::Tokens& one : all) {
    out << "{\"tokens\": [";
    for (std::size_t t = 0; t < one.size(); ++t) out << (t > 0 ? "," : "") << one[t];
    out << "]}\n";
  }
  return file;
}

TEST(SaeEvaluation, EveryMetricIsItsFormula) {
  const sae::Sae s = small_sae({});
  const TemporaryFolder folder;
  const Tensor x = draw("x", {40, 12});
  save_safetensors(folder.path() / "x.safetensors", {{"x", x}});
  const auto source = sae::file_source({(folder.path() / "x.safetensors").string()}, {"x"});
  ThreadPool pool;
  const sae::Reconstruction r = sae::evaluate(s, *source, pool);
  const auto coded = sae::Encoder(s).encode(x);
  double l0 = 0, l1 = 0, error = 0, squares = 0, legacy = 0, cosine = 0, ratio = 0;
  std::vector<double> mean(12, 0);
  std::vector<bool> fired(20, false);
  for (int i = 0; i < 40 * 12; ++i)
    mean[static_cast<std::size_t>(i % 12)] += x.data<float>()[i] / 40.0;
  for (int i = 0; i < 40; ++i) {
    double e = 0, a = 0, b = 0, ab = 0, spread = 0;
    for (int c = 0; c < 12; ++c) {
      const double u = x.data<float>()[i * 12 + c],
                   v = coded.reconstruction.data<float>()[i * 12 + c];
      e += (u - v) * (u - v);
      a += u * u;
      b += v * v;
      ab += u * v;
      spread += std::pow(u - mean[static_cast<std::size_t>(c)], 2);
    }
    for (int j = 0; j < 20; ++j) {
      const double f = coded.features.data<float>()[i * 20 + j];
      l0 += f > 0 ? 1.0 / 40 : 0;
      l1 += f / 40;
      if (f > 0) fired[static_cast<std::size_t>(j)] = true;
    }
    error += e / 40;
    squares += a / 40;
    legacy += (1 - e / spread) / 40;
    cosine += ab / std::sqrt(a * b) / 40;
    ratio += std::sqrt(b / a) / 40;
  }
  double of_mean = 0;
  for (const double m : mean) of_mean += m * m;
  EXPECT_EQ(r.rows, 40);
  EXPECT_NEAR(r.l0, l0, 1e-9);
  EXPECT_NEAR(r.l1, l1, 1e-6);
  EXPECT_NEAR(r.mse, error, 1e-6);
  EXPECT_NEAR(r.explained_variance, 1 - error / (squares - of_mean), 1e-6);
  EXPECT_NEAR(r.explained_variance_legacy, legacy, 1e-6);
  EXPECT_NEAR(r.cosine, cosine, 1e-6);
  EXPECT_NEAR(r.norm_ratio, ratio, 1e-6);
  EXPECT_NEAR(r.dead, static_cast<double>(std::count(fired.begin(), fired.end(), false)) / 20,
              1e-9);
  std::int64_t in_bins = 0;
  for (const std::int64_t n : r.density_histogram()) in_bins += n;
  EXPECT_EQ(in_bins, std::count(fired.begin(), fired.end(), true));
}

double mean_loss(const nn::Model& m, const Graph& graph, const std::vector<nn::Tokens>& prompts,
                 const Feeds& more, const Parameters& parameters) {
  const std::int64_t n = nn::next_tokens(prompts);
  Feeds feeds = nn::batch_feeds(prompts);
  feeds.insert(more.begin(), more.end());
  const Graph g = with_metric(graph, nn::next_token_loss(n));
  return compile(g, fetch(value("loss")))
      .run(feeds, parameters, {.pool = &m.pool()})
      .scalar("loss");
}

// Without its error term, a spliced SAE gives the cross-entropy that evaluate reports; with it, the
// model's own.
TEST(SaeEvaluation, TheCrossEntropyIsThatOfTheSplicedModel) {
  const nn::Model m = tiny();
  const TemporaryFolder folder;
  const auto prompts = lines(30);
  const auto file = write(folder, prompts);
  for (const char* site : {"blocks.1.hook_mlp_out", "blocks.1.attn.hook_z"}) {
    SCOPED_TRACE(site);
    const sae::Sae s = sae_of(m, site);
    const sae::Evaluation e = sae::evaluate(m, s, {.files = {file}});
    ASSERT_TRUE(e.fidelity.has_value());
    const Graph model = m.build(nn::batch_size(prompts));
    const Parameters p = sae::with_parameters(m.parameters(), s, "sae");
    const auto spliced = [&](ErrorTerm error) {
      return mean_loss(m, splice(model, Site{site}, sae::codec(s, "sae"), error).graph, prompts, {},
                       p);
    };
    EXPECT_EQ(e.fidelity->predictions, nn::next_tokens(prompts));
    EXPECT_NEAR(e.fidelity->ce_clean, nn::loss(m, prompts).mean, 1e-5);
    EXPECT_NEAR(e.fidelity->ce_sae, spliced(ErrorTerm::drop), 1e-5);
    EXPECT_NEAR(e.fidelity->ce_clean, spliced(ErrorTerm::keep), 1e-5);
    EXPECT_GT(std::abs(e.fidelity->ce_sae - e.fidelity->ce_clean), 1e-3);

    const Interventions off{zero(Site{site})};
    const Graph zeroed = intervene(model, off);
    EXPECT_NEAR(
        e.fidelity->ce_zero,
        mean_loss(m, zeroed, prompts, with_interventions(zeroed, off, nn::batch_feeds(prompts)), p),
        1e-5);
    EXPECT_GT(e.fidelity->kl, 0);
    EXPECT_NE(e.fidelity->ce_mean, e.fidelity->ce_zero);
    EXPECT_NE(e.fidelity->ce_resample, e.fidelity->ce_mean);
    EXPECT_NEAR(
        e.fidelity->score(e.fidelity->ce_zero),
        (e.fidelity->ce_zero - e.fidelity->ce_sae) / (e.fidelity->ce_zero - e.fidelity->ce_clean),
        1e-12);
  }
}

// An SAE that gives back what it gets: W_enc = [I, -I], W_dec = [I; -I].
TEST(SaeEvaluation, APerfectSaeScoresOne) {
  const nn::Model m = tiny();
  const std::int64_t d = m.config().d_model;
  sae::Sae s = small_sae({.d_in = d, .d_sae = 2 * d});
  s.config.hook_name = "blocks.0.hook_resid_post";
  for (auto& [name, tensor] : s.weights) tensor = Tensor::zeros(tensor.shape(), DType::f32);
  for (std::int64_t i = 0; i < d; ++i) {
    s.weights["W_enc"].data<float>()[i * 2 * d + i] = 1;
    s.weights["W_enc"].data<float>()[i * 2 * d + d + i] = -1;
    s.weights["W_dec"].data<float>()[i * d + i] = 1;
    s.weights["W_dec"].data<float>()[(d + i) * d + i] = -1;
  }
  const TemporaryFolder folder;
  const sae::Evaluation e = sae::evaluate(m, s, {.files = {write(folder, lines(20))}});
  EXPECT_NEAR(e.reconstruction.explained_variance, 1, 1e-6);
  EXPECT_NEAR(e.reconstruction.cosine, 1, 1e-6);
  EXPECT_NEAR(e.fidelity->score(e.fidelity->ce_zero), 1, 1e-4);
  EXPECT_NEAR(e.fidelity->score(e.fidelity->ce_mean), 1, 1e-4);
  EXPECT_NEAR(e.fidelity->kl, 0, 1e-5);
}

// Features are sites: ablating one in the spliced model takes away its part of the stream.
TEST(SaeSpliced, AFeatureIsASiteOfTheModel) {
  const nn::Model m = tiny();
  const sae::Sae s = sae_of(m, "blocks.1.hook_mlp_out");
  const std::vector<nn::Tokens> prompt = {{5, 17, 40, 3}};
  const Spliced g = splice(m.build(nn::batch_size(prompt)), Site{"blocks.1.hook_mlp_out"},
                           sae::codec(s, "sae"), ErrorTerm::keep);
  EXPECT_EQ(g.acts.name, "blocks.1.hook_mlp_out.hook_sae_acts_post");
  const Parameters p = sae::with_parameters(m.parameters(), s, "sae");
  const Results clean =
      compile(g.graph, fetch(g.acts, Site{"blocks.1.hook_mlp_out"}, value("logits")))
          .run(nn::batch_feeds(prompt), p, {.pool = &m.pool()});
  expect_close(clean["logits"], m.run(prompt).logits(), 1e-5, "logits");
  std::int64_t j = 0;
  while (clean[g.acts].at<float>({0, 2, static_cast<int>(j)}) == 0) ++j;
  const double f = clean[g.acts].at<float>({0, 2, static_cast<int>(j)});
  const Interventions off{zero(g.acts, {.pos = {2}, .feature = {j}})};
  const Graph edited = intervene(g.graph, off);
  const Results after = compile(edited, fetch(Site{"blocks.1.hook_mlp_out"}))
                            .run(with_interventions(edited, off, nn::batch_feeds(prompt)), p);
  for (int i = 0; i < m.config().d_model; ++i) {
    for (int t = 0; t < 4; ++t) {
      const double lost = clean[Site{"blocks.1.hook_mlp_out"}].at<float>({0, t, i}) -
                          after[Site{"blocks.1.hook_mlp_out"}].at<float>({0, t, i});
      const double want =
          t == 2 ? f * s.weights.at("W_dec").at<float>({static_cast<int>(j), i}) : 0;
      EXPECT_NEAR(lost, want, 1e-5);
    }
  }
}

// They are swept and differentiated like any other, with the error kept, detached or dropped.
TEST(SaeSpliced, FeaturesAreSweptAndDifferentiated) {
  const nn::Model m = tiny();
  const sae::Sae s = sae_of(m, "blocks.0.hook_mlp_out");
  const std::vector<nn::Tokens> prompt = {{5, 17, 40, 3}};
  const Parameters p = sae::with_parameters(m.parameters(), s, "sae");
  const Metric metric = nn::logit_diff(7, 30);
  const Feeds feeds = nn::batch_feeds(prompt);
  for (const ErrorTerm error : {ErrorTerm::keep, ErrorTerm::detach, ErrorTerm::drop}) {
    SCOPED_TRACE(std::string(name_of(error)));
    const Spliced g = splice(m.build(nn::batch_size(prompt)), Site{"blocks.0.hook_mlp_out"},
                             sae::codec(s, "sae"), error);
    const Graph with_metric_of = with_metric(g.graph, metric);
    // d metric / d f_j is that of the site along decoder row j.
    const Graph slopes =
        gradient(with_metric_of, metric.name, sites(g.acts.name + ",blocks.0.hook_mlp_out"));
    const Results r =
        compile(slopes, fetch(g.acts, grad(g.acts), grad(Site{"blocks.0.hook_mlp_out"})))
            .run(feeds, p, {.pool = &m.pool()});
    const Tensor of_acts = r.grad(g.acts), of_site = r.grad(Site{"blocks.0.hook_mlp_out"});
    std::vector<Interventions> worlds;
    for (int j = 0; j < 70; ++j) {
      double along = 0;
      for (int i = 0; i < m.config().d_model; ++i)
        along += s.weights.at("W_dec").at<float>({j, i}) * of_site.at<float>({0, 1, i});
      EXPECT_NEAR(of_acts.at<float>({0, 1, j}), along, 1e-4 * std::max(1.0, std::abs(along)));
      if (r[g.acts].at<float>({0, 1, j}) > 0)
        worlds.push_back({zero(g.acts, {.pos = {1}, .feature = {j}})});
    }
    ASSERT_GT(worlds.size(), 5U);
    const Swept swept = sweep(with_metric_of, feeds, p, worlds, {metric.name}, {.pool = &m.pool()});
    const std::vector<double> values = swept[metric.name].to_vector<double>();
    for (std::size_t w = 0; w < worlds.size(); ++w) {
      const Graph edited = intervene(with_metric_of, worlds[w]);
      const double alone = compile(edited, fetch(value(metric)))
                               .run(with_interventions(edited, worlds[w], feeds), p)
                               .scalar(metric.name);
      EXPECT_NEAR(values[w], alone, 1e-4 * std::max(1.0, std::abs(alone)));
    }
  }
}

// ---- contexts -----------------------------------------------------------------------------------
TEST(FeatureContexts, AreThoseOfALoopOverLines) {
  const nn::Model m = tiny();
  const sae::Sae s = sae_of(m, "blocks.1.hook_mlp_out");
  const TemporaryFolder folder;
  const auto prompts = lines(40);
  const auto file = write(folder, prompts);
  const sae::FeatureContexts c =
      sae::collect_features(m, s, file, {.contexts = 3, .samples = 2000, .tokens_together = 50});
  const sae::FeatureContexts sampled =
      sae::collect_features(m, s, file, {.contexts = 3, .samples = 500, .tokens_together = 50});
  const Parameters p = sae::with_parameters(m.parameters(), s, "sae");
  std::vector<std::vector<float>> peaks(70);
  // What is nearly 0 may be 0 in another batch, where sums are rounded in another order.
  constexpr float kClear = 1e-4F;
  std::vector<std::int64_t> clearly(70, 0);
  std::vector<double> sums(70, 0);
  std::int64_t tokens = 0;
  for (const nn::Tokens& one : prompts) {
    const Tensor f = sae::features_of(m, s, {one});
    tokens += std::ssize(one);
    for (std::size_t j = 0; j < 70; ++j) {
      float best = 0;
      for (std::int64_t t = 0; t < std::ssize(one); ++t) {
        const float v = f.at<float>({static_cast<int>(t), static_cast<int>(j)});
        clearly[j] += v > kClear ? 1 : 0;
        sums[j] += v;
        best = std::max(best, v);
      }
      if (best > 0) peaks[j].push_back(best);
    }
  }
  EXPECT_EQ(c.tokens, tokens);
  EXPECT_EQ(c.lines, 40);
  for (std::size_t j = 0; j < 70; ++j) {
    const auto feature = static_cast<std::int64_t>(j);
    // With room for all, the sample is everything.
    const auto samples = c.samples_of(feature);
    ASSERT_LT(c.fired[j], 2000);
    EXPECT_EQ(std::ssize(sampled.samples_of(feature)),
              std::min<std::int64_t>(500, sampled.fired[j]));
    EXPECT_EQ(std::ssize(samples), c.fired[j]) << j;
    EXPECT_EQ(std::count_if(samples.begin(), samples.end(),
                            [](const nn::Peak& x) { return x.activation > kClear; }),
              clearly[j])
        << j;
    EXPECT_NEAR(c.sums[j], sums[j], 1e-3 * std::max(1.0, sums[j]));
    std::sort(peaks[j].rbegin(), peaks[j].rend());
    peaks[j].resize(std::min<std::size_t>(3, peaks[j].size()));
    const auto found = c.peaks.of(feature);
    ASSERT_EQ(found.size(), peaks[j].size()) << j;
    for (std::size_t k = 0; k < found.size(); ++k) {
      EXPECT_NEAR(found[k].activation, peaks[j][k], 1e-4 * std::max(1.0F, peaks[j][k]));
      // Where it says it is, the feature has this value.
      const nn::Tokens& line = prompts[static_cast<std::size_t>(found[k].line - 1)];
      EXPECT_NEAR(
          sae::features_of(m, s, {line}).at<float>({found[k].position, static_cast<int>(j)}),
          found[k].activation, 1e-4 * std::max(1.0F, peaks[j][k]));
    }
    double share = 0;
    for (const sae::Interval& in : sae::intervals(c, feature, 5)) share += in.share;
    if (c.fired[j] > 0) {
      EXPECT_NEAR(share, 1, 1e-9);
    }
  }
}

TEST(FeatureContexts, NeighboursAreNearestByCosine) {
  sae::Sae s = small_sae({});
  float* w = s.weights["W_dec"].data<float>();
  for (int i = 0; i < 12; ++i) {
    w[7 * 12 + i] = 3 * w[2 * 12 + i];   // the same direction
    w[9 * 12 + i] = -1 * w[2 * 12 + i];  // the opposite
  }
  const auto near = sae::neighbours(s, 2, 19);
  ASSERT_EQ(near.size(), 19U);
  EXPECT_EQ(near[0].feature, 7);
  EXPECT_NEAR(near[0].cosine, 1, 1e-6);
  EXPECT_EQ(near.back().feature, 9);
  // Of many at once the same, but for the precision of products.
  ThreadPool pool(2);
  const std::vector<std::int64_t> all = {9, 2, 0};
  const auto each = sae::neighbours(s, all, 5, pool);
  for (std::size_t i = 0; i < all.size(); ++i) {
    const auto alone = sae::neighbours(s, all[i], 5);
    ASSERT_EQ(each[i].size(), 5U);
    for (std::size_t k = 0; k < 5; ++k) EXPECT_NEAR(each[i][k].cosine, alone[k].cosine, 1e-5);
  }
  EXPECT_EQ(each[1][0].feature, 7);
}

// The second pass: what is active around the peaks, and how often each feature is how active.
TEST(FeatureContexts, TracesAreThoseOfALoopOverLines) {
  const nn::Model m = tiny();
  const sae::Sae s = sae_of(m, "blocks.1.hook_mlp_out");
  const TemporaryFolder folder;
  const auto prompts = lines(40);
  const auto file = write(folder, prompts);
  const sae::FeatureSpec spec{.contexts = 3, .tokens_together = 50};
  const sae::FeatureContexts c = sae::collect_features(m, s, file, spec);
  std::vector<sae::FeaturePlace> places;
  for (std::int64_t j = 0; j < c.features(); ++j) {
    for (const nn::Peak& p : c.peaks.of(j)) places.push_back({j, p.line, p.position});
  }
  ASSERT_GT(places.size(), 50U);
  const auto t = sae::trace_features(m, s, file, c, places, {.window = 2, .bins = 7}, spec);
  for (std::size_t i = 0; i < places.size(); ++i) {
    const auto& [feature, line, position] = places[i];
    const Tensor f = sae::features_of(m, s, {prompts[static_cast<std::size_t>(line - 1)]});
    std::map<std::int32_t, float> found(t.around[i].begin(), t.around[i].end());
    for (std::int32_t offset = -2; offset <= 2; ++offset) {
      const std::int64_t at = position + offset;
      if (offset == 0 || at < 0 || at >= f.dim(0)) {
        EXPECT_FALSE(found.contains(offset));
        continue;
      }
      const float want = f.at<float>({at, feature});
      EXPECT_NEAR(found.contains(offset) ? found[offset] : 0, want > 0 ? want : 0, 1e-4);
    }
  }
  for (std::int64_t j = 0; j < c.features(); ++j) {
    const auto counts = t.counts_of(j);
    EXPECT_EQ(std::accumulate(counts.begin(), counts.end(), std::int64_t{0}),
              c.fired[static_cast<std::size_t>(j)]);
    if (c.fired[static_cast<std::size_t>(j)] > 0) {
      EXPECT_GT(counts.back(), 0) << "the peak is in the last bin";
    }
  }
}

// What is trained at a site can be measured there.
TEST(SaeEvaluation, SitesWithHeadsAreRead) {
  const nn::Model m = tiny();
  const TemporaryFolder folder;
  const auto file = write(folder, lines(8));
  const auto width = m.config().d_model, each = width / m.config().heads;
  for (const char* name : {"blocks.1.attn.hook_q", "blocks.1.attn.hook_k", "blocks.1.attn.hook_v",
                           "blocks.1.attn.hook_z", "blocks.1.attn.hook_result"}) {
    sae::SaeConfig config;
    const Graph graph = m.build(nn::Model::Uniform{1, 1});
    config.d_in = numel(graph.site(name).type.shape);
    config.d_sae = 70;
    config.hook_name = name;
    const sae::Sae s = small_sae(config);
    const sae::Evaluation e = sae::evaluate(m, s, {.files = {file}});
    ASSERT_TRUE(e.fidelity) << name;
    EXPECT_TRUE(std::isfinite(e.fidelity->ce_sae)) << name;
    const Tensor f = sae::features_of(m, s, {lines(2)[1]});
    EXPECT_EQ(f.shape(), (Shape{std::ssize(lines(2)[1]), 70})) << name;
    // The same as those of the site's values, which were fetched.
    const auto got = m.run(std::vector<nn::Tokens>{lines(2)[1]}, Site{name});
    expect_close(f, sae::Encoder(s).encode(got[name].reshape({f.dim(0), config.d_in})).features,
                 1e-4, name);
  }
  // Of one head: what it does to the model is what it does to that head.
  sae::SaeConfig config;
  config.d_in = each;
  config.d_sae = 70;
  config.hook_name = "blocks.1.attn.hook_z";
  EXPECT_ERROR(ConfigError, "does not say which head (hook_head_index)",
               sae::evaluate(m, small_sae(config), {.files = {file}}));
  EXPECT_ERROR(ConfigError, "does not say which head",
               sae::features_of(m, small_sae(config), lines(1)));
  config.head = 1;
  const sae::Sae one = small_sae(config);
  const sae::Evaluation e = sae::evaluate(m, one, {.files = {file}});
  ASSERT_TRUE(e.fidelity);
  sae::SaeConfig all = config;
  all.d_in = width;
  all.head.reset();
  const sae::Evaluation whole = sae::evaluate(m, small_sae(all), {.files = {file}});
  EXPECT_NEAR(e.fidelity->ce_clean, whole.fidelity->ce_clean, 1e-6);
  EXPECT_LT(std::abs(e.fidelity->ce_zero - e.fidelity->ce_clean),
            std::abs(whole.fidelity->ce_zero - whole.fidelity->ce_clean));
  const auto got = m.run(std::vector<nn::Tokens>{lines(2)[1]}, Site{config.hook_name});
  const Tensor f = sae::features_of(m, one, {lines(2)[1]});
  const Tensor heads = got[config.hook_name].reshape({f.dim(0), m.config().heads, each});
  expect_close(f, sae::Encoder(one).encode(heads.select(1, 1).contiguous()).features, 1e-4,
               "of one head");
}

TEST(SaeEvaluation, WhatHasNoValueIsNotANumber) {
  const sae::Sae s = small_sae({});
  const TemporaryFolder folder;
  save_safetensors(folder.path() / "x.safetensors", {{"x", draw("x", {1, 12})}});
  const auto source = sae::file_source({(folder.path() / "x.safetensors").string()}, {"x"});
  ThreadPool pool;
  const sae::Reconstruction r = sae::evaluate(s, *source, pool);
  EXPECT_TRUE(std::isnan(r.explained_variance));
  EXPECT_TRUE(std::isnan(r.explained_variance_legacy));
  EXPECT_GT(r.mse, 0);
  // Pieces of one token predict nothing.
  const nn::Model m = tiny();
  const auto file = write(folder, lines(3));
  EXPECT_FALSE(sae::evaluate(m, sae_of(m, "blocks.1.hook_mlp_out"), {.files = {file}, .context = 1})
                   .fidelity);
}

TEST(SaeEvaluation, AnSaeThatDoesNotSayItsSiteIsNamed) {
  const nn::Model m = tiny();
  const sae::Sae s = small_sae({});
  const TemporaryFolder folder;
  const auto file = write(folder, lines(2));
  EXPECT_ERROR(ConfigError, "does not say the site", sae::evaluate(m, s, {.files = {file}}));
  sae::Sae other = s;
  other.config.hook_name = "blocks.1.hook_mlp_out";
  EXPECT_ERROR(ShapeError, "width 12", sae::evaluate(m, other, {.files = {file}}));
}

}  // namespace
}  // namespace vitrine::test
