// Whole training runs: known features are found; a run that is cut off goes on to the same bits.
#include "sae/trainer.h"

#include <gtest/gtest.h>

#include <cstring>
#include <nlohmann/json.hpp>

#include "sae/folder.h"
#include "tensor/error.h"
#include "tensor/files/safetensors.h"
#include "tests/sae/small_sae.h"
#include "tests/sae/synthetic.h"
#include "tests/support.h"
#include "tests/tensor/expect_error.h"
#include "tests/tensor/temporary_folder.h"

namespace vitrine::test {
namespace {

using sae::Kind;

sae::TrainSettings settings_for(sae::SaeTrainingRules rules, std::int64_t steps) {
  sae::TrainSettings s;
  rules.schedule.steps = steps;
  s.jobs = {{"", rules, {"x"}, {}}};
  s.steps = steps;
  s.buffer.rows = 20'000;
  s.bias = sae::InitialBias::mean;
  return s;
}

sae::SaeTrainingRules rules_of(Kind kind) {
  sae::SaeTrainingRules r;
  r.kind = kind;
  r.d_in = 32;
  r.d_sae = 80;
  r.k = 3;
  r.batch = 512;
  r.schedule = {nn::Schedule::Shape::linear, 4e-3, 20, 1, 0.05};
  r.dead_after = 512 * 60;
  r.sparsity = kind == Kind::jumprelu ? 0.05 : kind == Kind::gated ? 0.5 : 0.25;
  r.bandwidth = 0.2;
  if (kind == Kind::matryoshka) r.widths = {40, 80};
  return r;
}

struct Recovery {
  std::string name;
  sae::SaeTrainingRules rules;
  double cosine;
};
void PrintTo(const Recovery& r, std::ostream* out) { *out << r.name; }

class SaeRecovery : public ::testing::TestWithParam<Recovery> {};
INSTANTIATE_TEST_SUITE_P(Kinds, SaeRecovery,
                         ::testing::Values(Recovery{"topk", rules_of(Kind::topk), 0.9},
                                           Recovery{"batchtopk", rules_of(Kind::batchtopk), 0.9},
                                           Recovery{"matryoshka", rules_of(Kind::matryoshka), 0.9},
                                           Recovery{"standard", rules_of(Kind::standard), 0.9},
                                           Recovery{"jumprelu", rules_of(Kind::jumprelu), 0.9},
                                           Recovery{"gated", rules_of(Kind::gated), 0.9},
                                           Recovery{"matching_pursuit",
                                                    rules_of(Kind::matching_pursuit), 0.9}),
                         [](const auto& tested) { return tested.param.name; });

TEST_P(SaeRecovery, FindsTheFeaturesThatActivationsAreMadeOf) {
  SyntheticSource source(32, 60, 3);
  const TemporaryFolder folder;
  const Recovery& r = GetParam();
  sae::SaeTrainer t = sae::SaeTrainer::begin(settings_for(r.rules, 700), source, folder.path());
  ThreadPool pool;
  sae::StepOutcome last;
  const double before = mean_max_cosine(t.finished(0).weights.at("W_dec"), source.truth());
  while (!t.done()) last = t.step(pool)[0];
  const double found = mean_max_cosine(t.finished(0).weights.at("W_dec"), source.truth());
  EXPECT_LT(before, 0.7);
  EXPECT_GE(found, r.cosine) << "L0 " << last.l0 << ", explained " << last.explained_variance
                             << ", dead " << last.dead;
  EXPECT_GT(last.explained_variance, 0.8);
}

// ---- going on -----------------------------------------------------------------------------------
void expect_same_bits(const Parameters& a, const Parameters& b) {
  ASSERT_EQ(a.size(), b.size());
  for (const auto& [name, tensor] : a) {
    const Tensor x = tensor.contiguous(), y = b.at(name).contiguous();
    ASSERT_EQ(x.bytes(), y.bytes()) << name;
    EXPECT_EQ(std::memcmp(x.view().data, y.view().data, static_cast<std::size_t>(x.bytes())), 0)
        << name;
  }
}

TEST(SaeTrainer, GoesOnToTheSameBitsWithAnotherNumberOfThreads) {
  for (const Kind kind :
       {Kind::topk, Kind::batchtopk, Kind::standard, Kind::jumprelu, Kind::matching_pursuit}) {
    SCOPED_TRACE(std::string(sae::name_of(kind)));
    sae::SaeTrainingRules rules = rules_of(kind);
    rules.dead_after = 2000;  // some are dead, so the auxiliary loss is at work
    sae::TrainSettings s = settings_for(rules, 24);
    s.buffer.rows = 3000;  // a batch straddles two buffers
    SyntheticSource source(32, 60, 3, 7000);
    const TemporaryFolder whole, parts;
    ThreadPool one(1), three(3);
    sae::SaeTrainer a = sae::SaeTrainer::begin(s, source, whole.path());
    while (!a.done()) a.step(three);
    sae::SaeTrainer b = sae::SaeTrainer::begin(s, source, parts.path());
    for (int i = 0; i < 9; ++i) b.step(one);
    b.save();
    for (int i = 0; i < 4; ++i) b.step(one);  // lost: not saved
    sae::SaeTrainer c = sae::SaeTrainer::resume(source, parts.path());
    EXPECT_EQ(c.steps(), 9);
    while (!c.done()) c.step(three);
    expect_same_bits(a.jobs()[0].state(), c.jobs()[0].state());
  }
}

TEST(SaeTrainer, SeveralSaesInOnePassAreThoseOfSeveralPasses) {
  SyntheticSource source(32, 60, 3);
  ThreadPool pool;
  sae::TrainSettings both = settings_for(rules_of(Kind::topk), 6);
  both.jobs = {{"a", rules_of(Kind::topk), {"x"}, {}}, {"b", rules_of(Kind::gated), {"x"}, {}}};
  const TemporaryFolder together;
  sae::SaeTrainer t = sae::SaeTrainer::begin(both, source, together.path());
  while (!t.done()) t.step(pool);
  t.save();
  EXPECT_EQ(sae::load(together.path() / "b").config.architecture, sae::SaeArchitecture::gated);
  for (std::size_t i = 0; i < 2; ++i) {
    sae::TrainSettings one = both;
    one.jobs = {both.jobs[i]};
    one.jobs[0].name = "";
    const TemporaryFolder alone;
    sae::SaeTrainer u = sae::SaeTrainer::begin(one, source, alone.path());
    while (!u.done()) u.step(pool);
    expect_same_bits(t.jobs()[i].state(), u.jobs()[0].state());
  }
}

TEST(SaeTrainer, AnotherSourceIsNotGoneOnWith) {
  SyntheticSource source(32, 60, 3);
  const TemporaryFolder folder;
  sae::SaeTrainer::begin(settings_for(rules_of(Kind::topk), 6), source, folder.path());
  class Other : public SyntheticSource {
   public:
    using SyntheticSource::SyntheticSource;
    std::string fingerprint() const override { return "another"; }
  } other(32, 60, 3);
  EXPECT_NE(message_of<CheckpointError>([&] {
              sae::SaeTrainer::resume(other, folder.path());
            }).find("trained on other activations"),
            std::string::npos);
}

// What resuming says of a state that `change` has changed; "" when it goes on.
using StateChange = std::function<void(NamedTensors&, std::map<std::string, std::string>&)>;
std::string said_of_changed_state(sae::ActivationSource& source,
                                  const std::filesystem::path& folder, const StateChange& change) {
  const std::filesystem::path file = folder / "training.safetensors", kept = folder / "kept";
  std::filesystem::copy_file(file, kept, std::filesystem::copy_options::overwrite_existing);
  {
    const SafeTensors from = SafeTensors::open(kept);
    NamedTensors tensors;
    for (const std::string& name : from.names()) tensors.emplace_back(name, from.at(name).clone());
    auto metadata = from.metadata();
    change(tensors, metadata);
    save_safetensors(file, tensors, metadata);
  }
  std::string said;
  try {
    sae::SaeTrainer::resume(source, folder);
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::input) << error.what();
    said = error.what();
  }
  std::filesystem::rename(kept, file);
  return said;
}

TEST(SaeTrainer, EveryFieldOfASavedStateIsRefusedByItsName) {
  SyntheticSource source(32, 60, 3);
  const TemporaryFolder folder;
  sae::TrainSettings settings = settings_for(rules_of(Kind::matryoshka), 6);
  settings.prepend_bos = true;
  sae::SaeTrainer t = sae::SaeTrainer::begin(settings, source, folder.path());
  ThreadPool pool;
  t.step(pool);
  t.save();
  EXPECT_EQ(said_of_changed_state(source, folder.path(), [](auto&, auto&) {}), "");
  for (const char* key : {"settings", "progress"}) {
    const auto whole = nlohmann::json::parse(
        SafeTensors::open(folder / "training.safetensors").metadata().at(key));
    int fields = 0;
    const nlohmann::json flat = whole.flatten();
    for (const auto& [path, value] : flat.items()) {
      const nlohmann::json::json_pointer at(path);
      const std::string field = at.back();
      // In its place: something of another type; and nothing.
      for (const bool gone : {false, true}) {
        const bool item = field.find_first_not_of("0123456789") == std::string::npos;
        if (gone && (item || field == "prepend_bos")) continue;  // it may be absent
        nlohmann::json changed = whole;
        if (gone) changed[at.parent_pointer()].erase(field);
        else changed[at] = nlohmann::json::object();
        const std::string said = said_of_changed_state(
            source, folder.path(), [&](auto&, auto& metadata) { metadata[key] = changed.dump(); });
        EXPECT_NE(said.find((item ? "[" + field + "]" : field) + ": expected"), std::string::npos)
            << path << ": " << said;
        EXPECT_NE(said.find(gone ? "found no such field" : "found an empty object"),
                  std::string::npos)
            << said;
        EXPECT_NE(said.find("training.safetensors"), std::string::npos) << said;
        EXPECT_EQ(said.find("json.exception"), std::string::npos) << said;
      }
      ++fields;
    }
    EXPECT_GT(fields, key == std::string("settings") ? 40 : 5);
  }
  // The rules are those that a run can be begun with.
  EXPECT_NE(said_of_changed_state(source, folder.path(),
                                  [](auto&, auto& metadata) {
                                    auto json = nlohmann::json::parse(metadata["settings"]);
                                    json["jobs"][0]["rules"]["k"] = 81;
                                    metadata["settings"] = json.dump();
                                  })
                .find("k is 81; choose more than 0 and at most the 80 features"),
            std::string::npos);
}

TEST(SaeTrainer, CountsOutOfRangeAreRefused) {
  SyntheticSource source(32, 60, 3);
  const TemporaryFolder folder;
  sae::SaeTrainer t =
      sae::SaeTrainer::begin(settings_for(rules_of(Kind::batchtopk), 6), source, folder.path());
  ThreadPool pool;
  t.step(pool);
  t.save();
  const auto said = [&]<class T>(const std::string& name, std::int64_t at, T value) {
    return said_of_changed_state(source, folder.path(),
                                 [&](NamedTensors& tensors, std::map<std::string, std::string>&) {
                                   for (auto& [own, tensor] : tensors) {
                                     const Tensor found = tensor;
                                     if (own == "0." + name) found.template data<T>()[at] = value;
                                   }
                                 });
  };
  constexpr std::int64_t kHuge = INT64_MAX;
  for (const std::int64_t steps : {std::int64_t{-1}, std::int64_t{2}, kHuge})
    EXPECT_THAT(said("counts", 0, steps), ::testing::HasSubstr("'counts' says"));
  EXPECT_THAT(said("counts", 1, std::int64_t{5}),
              ::testing::HasSubstr("'counts' says 5 samples after 1 steps of 512"));
  for (const std::int64_t most : {std::int64_t{-2}, std::int64_t{81}, kHuge})
    EXPECT_THAT(said("counts", 2, most), ::testing::HasSubstr("features of a sample, of 80"));
  for (const double threshold : {-1.0, std::nan(""), HUGE_VAL})
    EXPECT_THAT(said("measured", 0, threshold), ::testing::HasSubstr("measured'"));
  for (const double l0 : {-2.0, 80.5, std::nan("")})
    EXPECT_THAT(said("measured", 1, l0), ::testing::HasSubstr("measured'"));
  for (const std::int64_t samples : {std::int64_t{-1}, std::int64_t{513}, kHuge}) {
    EXPECT_THAT(said("silent", 3, samples), ::testing::HasSubstr("'silent' says"));
    EXPECT_THAT(said("fired", 3, samples), ::testing::HasSubstr("'fired' says"));
  }
  EXPECT_THAT(said("adam.W_enc", 7, HUGE_VALF), ::testing::HasSubstr("NaN or an infinity"));
  EXPECT_THAT(said_of_changed_state(source, folder.path(),
                                    [](NamedTensors& tensors, auto&) {
                                      for (auto& [own, tensor] : tensors) {
                                        if (own == "scales")
                                          tensor = Tensor::zeros({1, 1}, DType::f64);
                                      }
                                    }),
              ::testing::HasSubstr("'scales' must be 1 numbers above 0"));
  // More features than there are weights of: nothing is made room for.
  EXPECT_THAT(said_of_changed_state(source, folder.path(),
                                    [](auto&, auto& metadata) {
                                      auto json = nlohmann::json::parse(metadata["settings"]);
                                      json["jobs"][0]["rules"]["d_sae"] = 1'000'000'000;
                                      metadata["settings"] = json.dump();
                                    }),
              ::testing::HasSubstr("SAE 0: 'adam.W_enc' must be"));
}

TEST(SaeTrainer, AnotherWidthIsNamed) {
  SyntheticSource source(31, 60, 3);
  const TemporaryFolder folder;
  EXPECT_EQ(message_of<ShapeError>([&] {
              sae::SaeTrainer::begin(settings_for(rules_of(Kind::topk), 6), source, folder.path());
            }),
            "'x' has activations of width 31, but the SAE reads 32");
}

// ---- scales, options ----------------------------------------------------------------------------
TEST(SaeTrainer, AScaleThatWasTrainedWithIsFolded) {
  SyntheticSource source(32, 60, 3);
  for (const Kind kind : {Kind::topk, Kind::batchtopk, Kind::jumprelu, Kind::matching_pursuit}) {
    sae::SaeTrainingRules rules = rules_of(kind);
    rules.normalise = sae::Normalisation::expected_average_only_in;
    rules.threshold_rate = 0.1;
    const TemporaryFolder folder;
    sae::SaeTrainer t = sae::SaeTrainer::begin(settings_for(rules, 120), source, folder.path());
    ThreadPool pool;
    sae::StepOutcome last;
    while (!t.done()) last = t.step(pool)[0];
    // The finished SAE reconstructs unscaled rows as well as training did scaled ones.
    sae::SourcePlace place;
    const Tensor x = source.read(place)[0];
    const auto coded = sae::Encoder(t.finished(0), &pool).encode(x);
    double error = 0, total = 0, mean[32] = {};
    for (std::int64_t i = 0; i < x.numel(); ++i) mean[i % 32] += x.data<float>()[i] / 1000.0;
    for (std::int64_t i = 0; i < x.numel(); ++i) {
      error += std::pow(x.data<float>()[i] - coded.reconstruction.data<float>()[i], 2);
      total += std::pow(x.data<float>()[i] - mean[i % 32], 2);
    }
    EXPECT_NEAR(1 - error / total, last.explained_variance, 0.05) << sae::name_of(kind);
  }
}

TEST(SaeTrainer, UnitNormDecodersKeepTheirNorm) {
  SyntheticSource source(32, 60, 3);
  sae::SaeTrainingRules rules = rules_of(Kind::topk);
  rules.unit_norm = true;
  const TemporaryFolder folder;
  sae::SaeTrainer t = sae::SaeTrainer::begin(settings_for(rules, 10), source, folder.path());
  ThreadPool pool;
  while (!t.done()) t.step(pool);
  const Tensor w = t.jobs()[0].weights().at("W_dec");
  for (std::int64_t j = 0; j < 80; ++j) {
    double squares = 0;
    for (std::int64_t i = 0; i < 32; ++i) squares += std::pow(w.data<float>()[j * 32 + i], 2);
    EXPECT_NEAR(squares, 1, 1e-5);
  }
}

TEST(SaeTrainer, DeadFeaturesAreResampledFromBadlyReconstructedRows) {
  SyntheticSource source(32, 60, 3);
  sae::SaeTrainingRules rules = rules_of(Kind::standard);
  rules.dead_after = 512;
  rules.resample_every = 5;
  Parameters w = sae::initial_weights(rules, random::Key{1});
  for (int j = 0; j < 10; ++j) w["b_enc"].data<float>()[j] = -100;  // never fire
  sae::SaeTrainingStep step(rules, w);
  ThreadPool pool;
  sae::ShuffledRows rows(source, {.rows = 5000});
  for (int i = 0; i < 4; ++i) step.step({rows.next(512)[0]}, pool);
  EXPECT_EQ(step.dead_features(), 10);
  step.step({rows.next(512)[0]}, pool);
  EXPECT_EQ(step.dead_features(), 0);
  for (int j = 0; j < 10; ++j) {
    EXPECT_EQ(step.weights().at("b_enc").data<float>()[j], 0);
    double squares = 0;
    for (int i = 0; i < 32; ++i)
      squares += std::pow(step.weights().at("W_dec").data<float>()[j * 32 + i], 2);
    EXPECT_NEAR(squares, 1, 1e-5);
  }
}

// ---- steps --------------------------------------------------------------------------------------
TEST(SaeTrainingStep, ActivationsThatAreNotNumbersChangeNothing) {
  for (const Kind kind : {Kind::topk, Kind::standard}) {
    const sae::SaeTrainingRules rules = rules_of(kind);
    sae::SaeTrainingStep step(rules, sae::initial_weights(rules, random::Key{1}));
    const Tensor x = draw("x", {512, 32});
    x.data<float>()[7 * 32 + 3] = std::nanf("");
    ThreadPool pool;
    Parameters before;
    for (const auto& [name, tensor] : step.state()) before[name] = tensor.clone();
    const std::string said = message_of<NumericError>([&] { step.step({x}, pool); });
    EXPECT_NE(said.find("row 7 of the activations has nan at place 3; no weight has been changed"),
              std::string::npos)
        << said;
    expect_same_bits(before, step.state());
  }
}

// A table that is too small for some samples undoes the step, which is done again: the weights are
// those of a step with room for all.
TEST(SaeTrainingStep, ATableThatIsTooSmallIsMadeLarger) {
  for (const Kind kind : {Kind::batchtopk, Kind::standard, Kind::jumprelu, Kind::gated}) {
    const sae::SaeTrainingRules rules = rules_of(kind);
    const Parameters w = sae::initial_weights(rules, random::Key{1});
    sae::SaeTrainingStep small(rules, w), large(rules, w);
    small.fix_view(4);
    large.fix_view(80);
    ThreadPool pool;
    const Tensor x = draw("x", {512, 32});
    const sae::StepOutcome a = small.step({x}, pool), b = large.step({x}, pool);
    EXPECT_TRUE(a.capacity == 0 || a.capacity > 4) << sae::name_of(kind);
    EXPECT_NEAR(a.loss, b.loss, 1e-4 * b.loss);
    EXPECT_EQ(a.l0, b.l0);
    for (const auto& [name, tensor] : small.weights())
      expect_close(tensor, large.weights().at(name), 1e-4, name);
  }
}

TEST(SaeTrainingStep, TranscodersGiveAnotherActivation) {
  sae::SaeTrainingRules rules = rules_of(Kind::batchtopk);
  rules.transcoder = rules.skip = true;
  rules.rescale_by_decoder_norm = false;
  rules.apply_b_dec_to_input = false;
  rules.d_out = 24;
  rules.k = 8;
  sae::SaeTrainingStep step(rules, sae::initial_weights(rules, random::Key{1}));
  ThreadPool pool;
  const Tensor mix = draw("mix", {32, 24}, 0.2);
  double first = 0, last = 0;
  for (int i = 0; i < 120; ++i) {
    const Tensor x = draw("x" + std::to_string(i), {512, 32});
    Tensor y = Tensor::zeros({512, 24}, DType::f32);  // relu(x) mix
    for (int r = 0; r < 512; ++r) {
      for (int c = 0; c < 24; ++c) {
        for (int k = 0; k < 32; ++k)
          y.data<float>()[r * 24 + c] +=
              std::max(0.0F, x.data<float>()[r * 32 + k]) * mix.data<float>()[k * 24 + c];
      }
    }
    last = step.step({x, y}, pool, 4e-3).explained_variance;
    if (i == 0) first = last;
  }
  EXPECT_LT(first, 0.05);
  EXPECT_GT(last, 0.7);
  const sae::Sae sae = step.finished();
  EXPECT_TRUE(sae.config.transcoder && sae.config.skip);
  EXPECT_EQ(sae::Encoder(sae).encode(draw("x", {3, 32})).reconstruction.shape(), (Shape{3, 24}));
}

// Their decoders begin at 0, where a norm has no gradient.
TEST(SaeTrainingStep, TranscodersWhosePenaltyHasNormsTrain) {
  for (const Kind kind : {Kind::standard, Kind::jumprelu}) {
    sae::SaeTrainingRules rules = rules_of(kind);
    rules.transcoder = true;
    rules.apply_b_dec_to_input = rules.rescale_by_decoder_norm = false;
    rules.penalty = sae::Penalty::tanh;
    rules.sparsity = 0.001;
    sae::SaeTrainingStep step(rules, sae::initial_weights(rules, random::Key{1}));
    ThreadPool pool;
    double first = 0, last = 0;
    for (int i = 0; i < 60; ++i) {
      const Tensor x = draw("x" + std::to_string(i), {512, 32}), y = x.clone();
      for (std::int64_t j = 0; j < y.numel(); ++j)
        y.data<float>()[j] = std::max(0.0F, y.data<float>()[j]);
      last = step.step({x, y}, pool, 4e-3).explained_variance;
      if (i == 0) first = last;
    }
    EXPECT_LT(first, 0.05) << sae::name_of(kind);
    EXPECT_GT(last, 0.3) << sae::name_of(kind);
  }
}

TEST(SaeRules, ContradictionsAreNamed) {
  const auto said = [](const std::function<void(sae::SaeTrainingRules&)>& change) {
    sae::SaeTrainingRules r = rules_of(Kind::topk);
    change(r);
    return message_of<Error>([&] { sae::check_rules(r); });
  };
  EXPECT_EQ(said([](auto& r) { r.k = 2.5; }), "topk needs a whole k, not 2.5; batchtopk takes any");
  EXPECT_EQ(said([](auto& r) { r.k = 81; }),
            "k is 81; choose more than 0 and at most the 80 features");
  EXPECT_EQ(said([](auto& r) { r.d_out = 5; }),
            "an SAE gives back its 32 inputs, not 5; a transcoder may give others");
  EXPECT_EQ(
      message_of<Error>([] { sae::parse_kind("topj"); }),
      "there is no kind of SAE 'topj' (did you mean topk?); there are standard, topk, batchtopk, "
      "matryoshka_batchtopk, jumprelu, gated, matching_pursuit");
}

TEST(SaeRules, ComeBackFromJson) {
  sae::SaeTrainingRules r = rules_of(Kind::matryoshka);
  r.penalty = sae::Penalty::tanh;
  r.seed = 77;
  EXPECT_EQ(sae::parse_rules(sae::to_json(r), "here"), r);
}

}  // namespace
}  // namespace vitrine::test
