// End-to-end training: its loss and gradients beside those of the model with the finished SAE
// spliced in, what it learns, and runs that go on.
#include "sae/end_to_end.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <fstream>

#include "autograd/ops/ops.h"
#include "autograd/transform/gradient.h"
#include "sae/evaluation.h"
#include "sae/folder.h"
#include "sae/trainer.h"
#include "tensor/error.h"
#include "tensor/files/safetensors.h"
#include "tests/support.h"
#include "tests/tensor/expect_error.h"
#include "tests/tensor/temporary_folder.h"

namespace vitrine::test {
namespace {

using sae::Kind;
using ::testing::HasSubstr;

const std::string kSite = "blocks.0.hook_resid_post";

nn::Model tiny() { return nn::load_gpt2((data() / "tiny-gpt2").string(), {.threads = 2}); }

// Lines of ids for the tiny model, 20 tokens each.
std::filesystem::path write(const TemporaryFolder& folder, int count) {
  const auto file = folder.path() / "text.jsonl";
  std::ofstream out(file);
  for (int i = 0; i < count; ++i) {
    out << "{\"tokens\": [";
    for (int t = 0; t < 20; ++t) out << (t > 0 ? "," : "") << (i * i + 7 * t * t + 3 * t * i) % 97;
    out << "]}\n";
  }
  return file;
}

sae::SaeTrainingRules rules_of(const nn::Model& m, Kind kind) {
  sae::SaeTrainingRules r;
  r.kind = kind;
  r.d_in = m.config().d_model;
  r.d_sae = 96;
  r.k = 6;
  r.batch = 120;
  r.sparsity = 0;
  r.aux = 0;
  if (kind == Kind::matching_pursuit) r.residual_threshold = 0;
  r.initial_norm = 0.7;
  r.initial_threshold = 0.02;
  r.rescale_by_decoder_norm = false;
  r.end_to_end = sae::EndToEnd{};
  return r;
}

sae::TrainSettings settings_of(const sae::SaeTrainingRules& rules, std::int64_t steps) {
  sae::TrainSettings s;
  s.jobs = {{"", rules, {kSite}, {}}};
  s.jobs[0].rules.schedule = {nn::Schedule::Shape::constant, 3e-3, 0, steps, 1};
  s.steps = steps;
  s.bias = sae::InitialBias::mean;
  return s;
}

// The batch of six texts that a step is given.
struct OneBatch {
  explicit OneBatch(const nn::Model& m, const sae::SaeTrainingRules& r, sae::TextSourceSpec spec)
      : texts(m, spec) {
    std::vector<std::string> sites = r.end_to_end->sites;
    sites.push_back(kSite);
    sae::SourcePlace place;
    model = sae::ModelBatches(m, texts, sites).next(place, r.batch);
    batch = {.x = model.samples(kSite, 1), .model = &model, .site = kSite};
  }
  sae::TextBatches texts;
  sae::ModelBatch model;
  sae::Batch batch;
};

class EndToEnd : public ::testing::TestWithParam<Kind> {};
INSTANTIATE_TEST_SUITE_P(Kinds, EndToEnd,
                         ::testing::Values(Kind::standard, Kind::topk, Kind::jumprelu,
                                           Kind::matching_pursuit),
                         [](const auto& tested) {
                           return std::string(sae::name_of(tested.param));
                         });

// The gradient of the same loss through the codec that splices finished SAEs.
Results through_the_codec(const OneBatch& one, const sae::Sae& s, const LeafSet& weights) {
  const Spliced spliced =
      splice(one.model.graph, Site{kSite}, sae::codec(s, "sae"), ErrorTerm::drop);
  Builder b(spliced.graph);
  const Value logits = b.output("logits"), clean = b.input("clean.logits", logits.type());
  const Value p = softmax(clean);
  const Value kl =
      sum(p * (log_softmax(clean) - log_softmax(logits))) / static_cast<double>(logits.dim(0));
  b.output("kl", kl);
  const Plan plan =
      compile(gradient(std::move(b).finish(), "kl", weights), fetch(value("kl"), grad(weights)));
  Feeds feeds = one.model.feeds;
  feeds["clean.logits"] = one.model.logits;
  return plan.run(plan.taken(feeds), sae::with_parameters(one.model.model->parameters(), s, "sae"));
}

TEST_P(EndToEnd, LossAndGradientsAreThoseOfTheModelWithTheSaeSplicedIn) {
  const nn::Model m = tiny();
  const TemporaryFolder folder;
  const sae::SaeTrainingRules r = rules_of(m, GetParam());
  const OneBatch one(m, r, {.files = {write(folder, 6)}, .in_order = true});
  const sae::SaeTrainingStep step(r, sae::initial_weights(r, random::Key{3}));
  const auto found = step.gradients(one.batch, m.pool());
  const sae::Sae s = step.finished();
  const bool jump = GetParam() == Kind::jumprelu;
  const std::vector<std::string> names =
      GetParam() == Kind::matching_pursuit
          ? std::vector<std::string>{"W_dec", "b_dec"}
          : std::vector<std::string>{"W_enc", "b_enc", "W_dec", "b_dec"};
  std::string all;
  for (const std::string& name : names) all += (all.empty() ? "sae." : ",sae.") + name;
  const Results want = through_the_codec(one, s, leaves(all));
  EXPECT_GT(want.scalar("kl"), 1e-3);
  EXPECT_NEAR(found.outcome.loss, want.scalar("kl"), 1e-5 * want.scalar("kl") + 1e-7);
  EXPECT_EQ(found.outcome.parts.at("kl_loss") > 0, true);
  for (const std::string& name : names) {
    Tensor g = want.grad("sae." + name);
    if (name == "W_enc") g = g.transpose(0, 1).contiguous();
    expect_relative(found.gradients.at(name), g, 1e-3, name);
  }
  EXPECT_EQ(jump, found.gradients.contains("threshold"));
}

// Central differences of the whole loss, downstream and local errors and the penalty with it.
TEST(EndToEndLoss, GradientsAreItsDifferences) {
  const nn::Model m = tiny();
  const TemporaryFolder folder;
  sae::SaeTrainingRules r = rules_of(m, Kind::standard);
  r.sparsity = 0.01;
  r.end_to_end = sae::EndToEnd{
      .kl = 2, .downstream = 0.3, .local = 0.1, .sites = sae::later_streams(m, kSite)};
  ASSERT_FALSE(r.end_to_end->sites.empty());
  const OneBatch one(m, r, {.files = {write(folder, 6)}, .in_order = true});
  const Parameters weights = sae::initial_weights(r, random::Key{3});
  const auto loss_at = [&](const Parameters& w) {
    return sae::SaeTrainingStep(r, w).gradients(one.batch, m.pool()).outcome.loss;
  };
  const auto found = sae::SaeTrainingStep(r, weights).gradients(one.batch, m.pool());
  EXPECT_EQ(found.outcome.parts.size(), 4U);
  for (const auto& [name, g] : found.gradients) {
    double squares = 0, size = 0;
    for (const double v : g.to_vector<double>()) squares += v * v;
    for (const double v : weights.at(name).to_vector<double>()) size += v * v;
    const double norm = std::sqrt(squares), step = 2e-3 * std::max(1.0, std::sqrt(size));
    double ends[2];
    for (const int sign : {-1, 1}) {
      Parameters moved;
      for (const auto& [other, w] : weights) moved[other] = w.clone();
      const Tensor flat = g.contiguous();
      for (std::int64_t i = 0; i < flat.numel(); ++i)
        moved[name].data<float>()[i] +=
            static_cast<float>(sign * step / norm * flat.data<float>()[i]);
      ends[(sign + 1) / 2] = loss_at(moved);
    }
    EXPECT_NEAR((ends[1] - ends[0]) / (2 * step), norm, 0.02 * norm) << name;
  }
}

// The divergence is the one that evaluation reports: rows that are no samples stay as they are.
TEST(EndToEndLoss, IsWhatEvaluationMeasures) {
  const nn::Model m = tiny();
  const TemporaryFolder folder;
  for (const bool bos : {false, true}) {
    sae::SaeTrainingRules r = rules_of(m, Kind::topk);
    sae::TextSourceSpec spec{.files = {write(folder, 6)}, .in_order = true};
    if (bos) {
      spec.bos = 96;
      spec.excluded = {0, 7, 13};
    }
    sae::TextBatches texts(m, spec);
    r.batch = texts.rows();
    const OneBatch one(m, r, spec);
    EXPECT_EQ(one.model.size.rows > r.batch, bos);
    sae::SaeTrainingStep step(r, sae::initial_weights(r, random::Key{3}));
    sae::Sae s = step.finished();
    s.config.hook_name = kSite;
    const sae::Evaluation e = sae::evaluate(m, s, spec);
    const sae::StepOutcome o = step.step(one.batch, m.pool());
    EXPECT_NEAR(o.loss, e.fidelity->kl, 1e-5 * e.fidelity->kl);
    EXPECT_NEAR(o.l0, e.reconstruction.l0, 1e-9);
    EXPECT_NEAR(o.explained_variance, e.reconstruction.explained_variance, 1e-4);
  }
}

TEST(EndToEndBatches, HaveAsManySamplesAsAskedForAndGoOn) {
  const nn::Model m = tiny();
  const TemporaryFolder folder;
  const sae::TextSourceSpec spec{.files = {write(folder, 5)}, .seed = 4};
  sae::TextBatches texts(m, spec);
  sae::SourcePlace place;
  for (int i = 0; i < 6; ++i) {
    const sae::TextBatch batch = texts.next(place, 50);
    EXPECT_EQ(batch.counted(), 50);
    EXPECT_EQ(batch.prompts.size(), 3U);  // of the last one, a part
    EXPECT_EQ(batch.prompts.back().size(), 10U);
  }
  EXPECT_EQ(place.epoch, 3);  // 18 texts of 5 an epoch
}

// ---- runs ---------------------------------------------------------------------------------------
TEST(EndToEndTrainer, WhatTheModelSaysComesBack) {
  const nn::Model m = tiny();
  const TemporaryFolder folder;
  const auto file = write(folder, 40);
  for (const Kind kind :
       {Kind::standard, Kind::topk, Kind::batchtopk, Kind::jumprelu, Kind::matching_pursuit}) {
    SCOPED_TRACE(std::string(sae::name_of(kind)));
    sae::SaeTrainingRules r = rules_of(m, kind);
    r.rescale_by_decoder_norm = true;
    r.normalise = sae::Normalisation::expected_average_only_in;
    r.sparsity = 1e-4;
    const TemporaryFolder run;
    const auto source = sae::text_source(m, {.files = {file}, .sites = {kSite}});
    sae::SaeTrainer t = sae::SaeTrainer::begin(settings_of(r, 60), *source, run.path());
    double first = 0, last = 0;
    while (!t.done()) {
      const sae::StepOutcome o = t.step(m.pool())[0];
      if (t.steps() <= 5) first += o.parts.at("kl_loss") / 5;
      if (t.steps() > 55) last += o.parts.at("kl_loss") / 5;
    }
    EXPECT_LT(last, 0.6 * first);
    t.save();
    const sae::Sae s = sae::load(run.path());
    EXPECT_THAT(s.config.metadata, HasSubstr("training_end_to_end"));
    if (kind == Kind::batchtopk) continue;  // its threshold is not settled after so few steps
    const sae::Evaluation e = sae::evaluate(m, s, {.files = {file}});
    EXPECT_NEAR(e.fidelity->kl, last, 0.4 * last);
  }
}

TEST(EndToEndTrainer, GoesOnToTheSameBitsWithAnotherNumberOfThreads) {
  const TemporaryFolder folder, whole, parts;
  const auto file = write(folder, 23);
  const nn::Model one = nn::load_gpt2((data() / "tiny-gpt2").string(), {.threads = 1}),
                  three = nn::load_gpt2((data() / "tiny-gpt2").string(), {.threads = 3});
  for (const Kind kind : {Kind::topk, Kind::jumprelu}) {
    SCOPED_TRACE(std::string(sae::name_of(kind)));
    sae::SaeTrainingRules r = rules_of(one, kind);
    r.end_to_end = sae::EndToEnd{
        .kl = 1, .downstream = 0.1, .local = 0, .sites = {"blocks.1.hook_resid_post"}};
    const sae::TextSourceSpec spec{.files = {file}, .sites = {kSite}, .seed = 2};
    const auto a_source = sae::text_source(three, spec), b_source = sae::text_source(one, spec);
    sae::SaeTrainer a = sae::SaeTrainer::begin(settings_of(r, 12), *a_source, whole.path());
    while (!a.done()) a.step(three.pool());
    sae::SaeTrainer b = sae::SaeTrainer::begin(settings_of(r, 12), *b_source, parts.path());
    for (int i = 0; i < 5; ++i) b.step(one.pool());
    b.save();
    for (int i = 0; i < 2; ++i) b.step(one.pool());  // lost: not saved
    const auto c_source = sae::text_source(three, spec);
    sae::SaeTrainer c = sae::SaeTrainer::resume(*c_source, parts.path());
    EXPECT_EQ(c.steps(), 5);
    EXPECT_EQ(c.settings().jobs[0].rules, a.settings().jobs[0].rules);
    while (!c.done()) c.step(three.pool());
    const Parameters x = a.jobs()[0].state(), y = c.jobs()[0].state();
    ASSERT_EQ(x.size(), y.size());
    for (const auto& [name, tensor] : x)
      EXPECT_EQ(max_abs_difference(tensor, y.at(name)), 0) << name;
  }
}

TEST(EndToEndTrainer, SaysWhatCannotBe) {
  const nn::Model m = tiny();
  const TemporaryFolder folder, run;
  const auto said = [&](const sae::SaeTrainingRules& r, sae::ActivationSource& source) {
    return message_of<Error>(
        [&] { sae::SaeTrainer::begin(settings_of(r, 2), source, run.path()); });
  };
  const auto texts = sae::text_source(m, {.files = {write(folder, 9)}, .sites = {kSite}});
  sae::SaeTrainingRules r = rules_of(m, Kind::gated);
  EXPECT_THAT(said(r, *texts), HasSubstr("a gated SAE cannot be trained end to end"));
  r = rules_of(m, Kind::matryoshka);
  r.widths = {48, 96};
  EXPECT_THAT(said(r, *texts), HasSubstr("a matryoshka cannot be trained end to end"));
  r = rules_of(m, Kind::topk);
  r.end_to_end->kl = 0;
  EXPECT_THAT(said(r, *texts), HasSubstr("training on the reconstruction alone"));
  r.end_to_end = sae::EndToEnd{.downstream = 1, .sites = {"blocks.0.hook_mlp_out"}};
  EXPECT_THAT(said(r, *texts), HasSubstr("nothing at 'blocks.0.hook_mlp_out' depends on"));
  r.end_to_end->sites = {"blocks.7.hook_mlp_out"};
  EXPECT_THROW(sae::SaeTrainer::begin(settings_of(r, 2), *texts, run.path()), SiteError);
  r = rules_of(m, Kind::topk);
  save_safetensors(folder.path() / "x.safetensors",
                   {{kSite, Tensor::zeros({200, r.d_in}, DType::f32)}});
  const auto files = sae::file_source({(folder.path() / "x.safetensors").string()}, {kSite});
  EXPECT_THAT(said(r, *files), HasSubstr("files of activations are not enough"));
  sae::TrainSettings both = settings_of(r, 2);
  both.jobs.push_back(both.jobs[0]);
  both.jobs[0].name = "a";
  both.jobs[1].name = "b";
  both.jobs[1].rules.end_to_end.reset();
  EXPECT_THAT(message_of<Error>([&] { sae::SaeTrainer::begin(both, *texts, run.path()); }),
              HasSubstr("all trained end to end, or none is"));
}

}  // namespace
}  // namespace vitrine::test
