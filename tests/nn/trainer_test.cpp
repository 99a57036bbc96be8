// Tests nn/trainer.h: a run that was stopped gives the bits of one that was not.
#include "nn/trainer.h"

#include <fmt/format.h>
#include <gmock/gmock.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "nn/save_tokenizer.h"
#include "nn/training_text.h"
#include "tensor/file.h"
#include "tensor/safetensors.h"
#include "tests/nn/small_training.h"
#include "tests/tensor/expect_error.h"

namespace vitrine::nn {
namespace {

namespace fs = std::filesystem;
using test::message_of;
using ::testing::HasSubstr;

constexpr int kMerges = 10, kSteps = 9;

// Two texts, one of which is read several times in a run.
struct TrainingRun {
  test::TemporaryFolder folder;
  Tokenizer tokenizer = small_tokenizer(kMerges);
  TrainingSettings settings;
  ThreadPool pool{1};

  explicit TrainingRun(const TrainingRules& rules = {}) {
    std::string prose;
    for (int i = 0; i < 60; ++i)
      prose += fmt::format("the cat {} sat on the {}th mat, {} times.\n", i, i * i, 7 * i % 11);
    write_text(folder / "prose.txt", prose);
    write_text(folder / "facts.jsonl",
               "{\"text\": \"the rat is that\"}\n{\"tokens\": [5, 6, 7, 8]}\n"
               "{\"text\": \"that is the cat; it sat on the rat and the rat sat on that\"}\n");
    settings.model = small_config(257 + kMerges);
    settings.rules = rules;
    settings.schedule = {Schedule::Shape::cosine, 1e-2, 2, kSteps, 0.1};
    settings.rows = 48;
    settings.seed = 11;
    settings.sources = {{(folder / "prose.txt").string(), 1},
                        {(folder / "facts.jsonl").string(), 2}};
    settings.split = Split::line;
    settings.validation = 0.1;
  }
  fs::path out(const std::string& name = "run") const { return folder / name; }
  Trainer begin(const std::string& name = "run") {
    return Trainer::begin(settings, tokenizer, out(name), pool);
  }
  void copy(const std::string& from, const std::string& to) const {
    fs::copy(out(from), out(to), fs::copy_options::recursive);
  }
};

struct Saved {
  Parameters tensors;
  nlohmann::json progress;
};
Saved saved(const fs::path& folder) {
  const SafeTensors file = SafeTensors::open(folder / "training.safetensors");
  Saved s;
  for (const std::string& name : file.names()) s.tensors[name] = file.at(name).clone();
  s.progress = nlohmann::json::parse(file.metadata().at("progress"));
  return s;
}

void train(Trainer& trainer, ThreadPool& pool) {
  while (!trainer.done()) trainer.step(pool);
  trainer.save();
}

class Resumed : public ::testing::TestWithParam<TrainingRules> {};

TEST_P(Resumed, GivesTheBitsOfAnUninterruptedRun) {
  TrainingRun run(GetParam());
  Trainer trainer = run.begin();
  std::vector<std::int64_t> epochs;
  while (true) {
    trainer.save();
    run.copy("run", fmt::format("after-{}", trainer.steps()));
    const auto positions = saved(run.out()).progress.at("positions");
    epochs.push_back(positions.at(1).at(0));
    if (trainer.done()) break;
    trainer.step(run.pool);
  }
  EXPECT_EQ(trainer.steps(), kSteps);
  EXPECT_GT(epochs.back(), 2) << "the second text should have been read several times";
  const Saved want = saved(run.out());

  for (const int at : {0, 1, 2, 5, 8}) {
    const fs::path folder = run.out(fmt::format("after-{}", at));
    Trainer again = Trainer::resume(folder);
    EXPECT_EQ(again.steps(), at);
    EXPECT_EQ(again.settings(), run.settings);
    EXPECT_EQ(again.training_tokens(), trainer.training_tokens());
    ThreadPool pool(1 + at % 3);
    train(again, pool);
    const Saved got = saved(folder);
    expect_same_bits(got.tensors, want.tensors);
    EXPECT_EQ(got.progress, want.progress);
    EXPECT_EQ(read_text(folder / "model.safetensors"), read_text(run.out() / "model.safetensors"));
  }
}

INSTANTIATE_TEST_SUITE_P(Rules, Resumed,
                         ::testing::Values(TrainingRules{},
                                           TrainingRules{.accumulate = 2, .ema = 0.7}),
                         [](const auto& info) {
                           return info.param.accumulate == 1 ? "plain" : "accumulated_and_averaged";
                         });

TEST(Trainer, ResumedTwiceInOneSitting) {
  TrainingRun run;
  Trainer trainer = run.begin();
  run.copy("run", "other");
  train(trainer, run.pool);
  for (int i = 0; i < kSteps; ++i) {
    Trainer other = Trainer::resume(run.out("other"));
    EXPECT_EQ(other.steps(), i);
    other.step(run.pool);
    other.save();
  }
  expect_same_bits(saved(run.out("other")).tensors, saved(run.out()).tensors);
}

TEST(Trainer, LearnsAndCounts) {
  TrainingRun run;
  Trainer trainer = run.begin();
  EXPECT_EQ(trainer.steps(), 0);
  EXPECT_EQ(trainer.tokens_of_step(), 48);
  EXPECT_EQ(trainer.rate(), run.settings.schedule.rate(0));
  const double first = trainer.step(run.pool).loss;
  EXPECT_NEAR(first, std::log(257.0 + kMerges), 0.1);
  double last = 0;
  while (!trainer.done()) last = trainer.step(run.pool).loss;
  EXPECT_LT(last, first - 0.5);
  EXPECT_EQ(trainer.steps(), kSteps);

  trainer.add_seconds(1.5);
  trainer.add_seconds(2);
  trainer.save();
  EXPECT_EQ(Trainer::resume(run.out()).seconds(), 3.5);
}

TEST(Trainer, TheFolderIsAModel) {
  for (const double ema : {0.0, 0.5}) {
    TrainingRun run({.ema = ema});
    Trainer trainer = run.begin();
    EXPECT_TRUE(Trainer::exists(run.out()));
    train(trainer, run.pool);
    const Model mine = trainer.model(1), loaded = load_gpt2(run.out().string(), {.threads = 1});
    EXPECT_EQ(loaded.config(), run.settings.model);
    expect_same_bits(loaded.parameters(), mine.parameters());
    EXPECT_EQ(loaded.token("<|endoftext|>"), mine.token("<|endoftext|>"));
    const Tensor logits = mine.run("the cat sat").logits();
    EXPECT_TRUE(same_bits(loaded.run("the cat sat").logits(), logits));
    const Parameters state = saved(run.out()).tensors;
    const Tensor weights = state.at("adamw.ln_f.bias").select(0, 0);
    EXPECT_EQ(same_bits(loaded.parameters().at("ln_f.bias"), weights), ema == 0);
  }
}

TEST(Trainer, TheModelMayBeStoredInHalfPrecision) {
  TrainingRun run;
  Trainer trainer = run.begin();
  train(trainer, run.pool);
  const Parameters state = saved(run.out()).tensors;
  trainer.save(DType::f16);
  expect_same_bits(saved(run.out()).tensors, state);
  const Model mine = trainer.model(1), loaded = load_gpt2(run.out().string(), {.threads = 1});
  for (const auto& [name, weights] : mine.parameters())
    EXPECT_TRUE(same_bits(loaded.parameters().at(name), weights.to(DType::f16).to(DType::f32)));
}

TEST(Trainer, KeepsValidationApart) {
  TrainingRun run;
  const Trainer trainer = run.begin();
  std::int64_t tokens = 0;
  for (const TextSource& s : run.settings.sources) {
    for_each_document(s.file, Split::line, [&](const Document& d) {
      tokens += d.is_tokens ? std::ssize(d.tokens) : std::ssize(run.tokenizer.encode(d.text));
    });
  }
  EXPECT_GT(trainer.validation().tokens(), 0);
  EXPECT_EQ(trainer.validation().tokens() + trainer.training_tokens(), tokens);
}

TEST(Trainer, RefusesTokenizersThatDoNotFit) {
  TrainingRun run;
  run.settings.model.vocabulary = 500;
  EXPECT_ERROR(ConfigError, "the tokenizer has 267 tokens, the model 500", run.begin());
  WordCounts counts;
  counts.add("the the");
  run.tokenizer = Tokenizer(train_tokenizer(counts, {.vocabulary = 257, .special = {}}), "none");
  run.settings.model.vocabulary = 257;
  EXPECT_ERROR(ConfigError, "no <|endoftext|>", run.begin());
  EXPECT_FALSE(fs::exists(run.out()));
}

TEST(Trainer, RefusesTextsThatDoNotFit) {
  TrainingRun run;
  write_text(run.folder / "facts.jsonl", "{\"tokens\": [1, 267]}");
  EXPECT_ERROR(TokenError, "no token 267", run.begin());
  write_text(run.folder / "facts.jsonl", "");
  EXPECT_ERROR(FileError, "facts.jsonl: there is no text in it", run.begin());
  fs::remove(run.folder / "facts.jsonl");
  EXPECT_ERROR(FileError, "facts.jsonl", run.begin());
  run.settings.sources.clear();
  EXPECT_ERROR(FileError, "there is no text to train on", run.begin());
}

TEST(Trainer, NeedsAFolderThatCanBeWritten) {
  TrainingRun run;
  write_text(run.out(), "a file");
  EXPECT_ERROR(SaveError, "the folder cannot be made", run.begin());
  // A folder stands where a file of the model is to go.
  fs::create_directories(run.out("other") / "model.safetensors" / "inner");
  EXPECT_ERROR(SaveError, "model.safetensors", run.begin("other"));
}

TEST(Trainer, BeginningAgainReplacesTheRun) {
  TrainingRun run;
  Trainer trainer = run.begin();
  train(trainer, run.pool);
  const std::string state = read_text(run.out() / "training.safetensors");

  // A beginning that fails changes nothing.
  TrainingSettings settings = run.settings;
  run.settings.sources.push_back({(run.folder / "missing.txt").string(), 1});
  EXPECT_ERROR(FileError, "missing.txt", run.begin());
  EXPECT_ERROR(InterruptedError, "",
               Trainer::begin(settings, run.tokenizer, run.out(), run.pool,
                              [](std::int64_t, std::int64_t) { return false; }));
  EXPECT_EQ(read_text(run.out() / "training.safetensors"), state);
  EXPECT_EQ(Trainer::resume(run.out()).steps(), kSteps);

  run.settings = settings;
  run.begin();
  Trainer again = Trainer::resume(run.out());
  EXPECT_EQ(again.steps(), 0);
  train(again, run.pool);
  EXPECT_EQ(read_text(run.out() / "training.safetensors"), state);
}

TEST(Trainer, ResumesOnlyWhatBelongsTogether) {
  TrainingRun run;
  EXPECT_FALSE(Trainer::exists(run.out()));
  EXPECT_ERROR(FileError, "training.safetensors", Trainer::resume(run.out()));
  Trainer trainer = run.begin();
  for (int i = 0; i < 3; ++i) trainer.step(run.pool);
  trainer.save();
  const auto resume = [&] { return Trainer::resume(run.out()); };
  const fs::path file = run.out() / "training.safetensors";
  const std::string whole = read_text(file);
  const auto write = [&](const auto& change) {
    const SafeTensors from = SafeTensors::open(file);
    NamedTensors tensors;
    for (const std::string& name : from.names()) tensors.emplace_back(name, from.at(name).clone());
    auto metadata = from.metadata();
    change(tensors, metadata);
    save_safetensors(file, tensors, metadata);
  };
  write([](auto&, auto& metadata) { metadata.erase("progress"); });
  EXPECT_ERROR(CheckpointError, "it does not say 'progress'", resume());
  write_text(file, whole);
  write([](auto&, auto& metadata) { metadata["progress"] = "{\"step\": 3}"; });
  EXPECT_ERROR(CheckpointError, "'progress' cannot be read", resume());
  write_text(file, whole);
  for (const auto& [progress, what] : std::vector<std::pair<std::string, std::string>>{
           {"null", "it is null; it must be an object"},
           {"{\"step\": -1}", "'step' is -1; it must be a whole number from 0 to"},
           {"{\"step\": 3, \"seconds\": \"x\"}", "'seconds' is \"x\"; it must be a number"},
           {"{\"step\": 3, \"seconds\": 1, \"positions\": 7}",
            "'positions' is 7; it must be a list"},
           {"{\"step\": 3, \"seconds\": 1, \"positions\": [[0, 0]]}",
            "'positions[0]' is a list of 2 items; it must be a list of 4 items"},
           {"{\"step\": 3, \"seconds\": 1, \"positions\": [[0, null, 0, 0]]}",
            "'positions[0][1]' is null; it must be a whole number"}}) {
    write([&, text = progress](auto&, auto& metadata) { metadata["progress"] = text; });
    EXPECT_THAT(message_of<CheckpointError>(resume),
                ::testing::AllOf(::testing::HasSubstr("'progress' cannot be read: " + what),
                                 ::testing::Not(::testing::HasSubstr("json.exception"))));
    write_text(file, whole);
  }
  write([](auto& tensors, auto&) { tensors.pop_back(); });
  EXPECT_ERROR(CheckpointError, "but is not there", resume());
  write_text(file, whole.substr(0, whole.size() / 2));
  EXPECT_ERROR(FileError, "training.safetensors", resume());
  write_text(file, whole);
  EXPECT_EQ(resume().steps(), 3);

  run.copy("run", "other");
  write_text(run.out("other") / "tokenizer.json", "{}");
  EXPECT_ANY_THROW(Trainer::resume(run.out("other")));
  save_tokenizer(small_tokenizer(3), run.out("other"));
  EXPECT_ERROR(ConfigError, "the tokenizer has 260 tokens, the model 267",
               Trainer::resume(run.out("other")));

  TokenizedWriter shorter(run.out() / "vitrine-data", source_name(0));
  shorter.add(std::vector<int>{1});
  shorter.finish();
  EXPECT_ERROR(CheckpointError, "are not those that the run was begun with", resume());
}

// The folder of the run becomes a file: the last save cannot be replaced.
TEST(Trainer, SaysWhenItCannotSave) {
  TrainingRun run;
  Trainer trainer = run.begin();
  trainer.step(run.pool);
  fs::rename(run.out(), run.out("moved"));
  EXPECT_ERROR(SaveError, "training.safetensors", trainer.save());
  fs::rename(run.out("moved"), run.out());
  EXPECT_EQ(Trainer::resume(run.out()).steps(), 0);
  trainer.save();
  EXPECT_EQ(Trainer::resume(run.out()).steps(), 1);
}

}  // namespace
}  // namespace vitrine::nn
