// Tests nn/training/trainer.h: a run that was stopped gives the bits of one that was not.
#include "nn/training/trainer.h"

#include <fmt/format.h>
#include <gmock/gmock.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "nn/tokenizer/save_tokenizer.h"
#include "nn/training/training_text.h"
#include "tensor/files/file.h"
#include "tensor/files/safetensors.h"
#include "tests/nn/training/small_training.h"
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
                         [](const auto& tested) {
                           return tested.param.accumulate == 1 ? "plain"
                                                               : "accumulated_and_averaged";
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
    EXPECT_TRUE(same_bits(loaded.parameters().at(name).to(DType::f32),
                          weights.to(DType::f16).to(DType::f32)));
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

// Of token ids, for a model that knows no text: with an end of text, which stands between
// documents, and without.
TEST(Trainer, NeedsNoTokenizer) {
  for (const std::optional<int> end :
       {std::optional<int>(3), std::optional<int>(50256), std::optional<int>()}) {
    TrainingRun run;
    run.settings.model = small_config(40);
    run.settings.model.eos = end;
    write_text(run.folder / "ids.jsonl",
               "{\"tokens\": [5, 6, 7, 8, 9]}\n{\"tokens\": [10, 11, 12]}\n");
    run.settings.sources = {{(run.folder / "ids.jsonl").string(), 1}};
    run.settings.validation = 0;
    const auto begin = [&](const std::string& name) {
      return Trainer::begin(run.settings, std::nullopt, run.out(name), run.pool);
    };
    Trainer trainer = begin("run");
    EXPECT_FALSE(trainer.has_tokenizer());
    EXPECT_FALSE(fs::exists(run.out() / "tokenizer.json"));
    for (int i = 0; i < 4; ++i) trainer.step(run.pool);
    trainer.save();
    Trainer again = Trainer::resume(run.out());
    EXPECT_EQ(again.steps(), 4);
    train(again, run.pool);
    Trainer whole = begin("whole");
    EXPECT_NEAR(whole.step(run.pool).loss, std::log(40), 0.1);
    train(whole, run.pool);
    expect_same_bits(saved(run.out()).tensors, saved(run.out("whole")).tensors);
    const Model model = load_gpt2(run.out().string(), {.threads = 1});
    EXPECT_FALSE(model.has_tokenizer());
    EXPECT_EQ(model.config(), run.settings.model);
    write_text(run.out("whole") / "vocab.json", "{}");
    EXPECT_ERROR(FileError, "vocab.json' is of something else", begin("whole"));
  }
}

// Models that people have: more embeddings than tokens, and an end of text of another name.
TEST(Trainer, TakesThePaddedVocabularyOfAModel) {
  TrainingRun run;
  WordCounts counts;
  counts.add("the the");
  const Tokenizer tokenizer(train_tokenizer(counts, {.vocabulary = 257, .special = {}}), "none");
  run.settings.model = small_config(260);
  run.settings.model.eos = 2;
  write_text(run.folder / "facts.jsonl", "{\"text\": \"the rat is that\"}\n");
  const Parameters from = lively_weights(run.settings.model, 1);
  const auto begin = [&](const Parameters* weights) {
    return Trainer::begin(run.settings, tokenizer, run.out(), run.pool, {}, weights);
  };
  EXPECT_ERROR(ConfigError, "the tokenizer has 257 tokens, the model 260", begin(nullptr));
  Trainer trainer = begin(&from);
  trainer.step(run.pool);
  trainer.save();
  EXPECT_EQ(Trainer::resume(run.out()).steps(), 1);
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

TEST(Trainer, RefusesSettingsThatItCouldNotGoOnWith) {
  TrainingRun run;
  run.settings.rules.adamw.decay = std::nan("");
  EXPECT_ERROR(Error, "adamw.decay: expected a number", run.begin());
  run.settings.rules.adamw.decay = 0.1;
  run.settings.validation = -1;
  EXPECT_ERROR(Error, "validation: expected a number from 0 to 1, found -1.0", run.begin());
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
           {"null", "expected an object, found null"},
           {"{\"step\": -1}", "step: expected a whole number from 0 to"},
           {"{\"step\": 3, \"seconds\": \"x\"}",
            "seconds: expected a number, 0 or more, found \"x\""},
           {"{\"step\": 3, \"seconds\": 1, \"positions\": 7}",
            "positions: expected a list, found 7"},
           {"{\"step\": 3, \"seconds\": 1, \"positions\": [[0, 0]]}",
            "positions[0]: expected a list of 4 items, found a list of 2 items"},
           {"{\"step\": 3, \"seconds\": 1, \"positions\": [[0, null, 0, 0]]}",
            "positions[0][1]: expected a whole number, 0 or more, found null"}}) {
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

// Changes one entry of a run's state, and gives back what it was.
class Spoiled {
 public:
  explicit Spoiled(fs::path file) : file_(std::move(file)), whole_(read_text(file_)) {}
  ~Spoiled() { write_text(file_, whole_); }
  template <class F>
  void change(const F& f) {
    const SafeTensors from = SafeTensors::open(file_);
    NamedTensors tensors;
    for (const std::string& name : from.names()) tensors.emplace_back(name, from.at(name).clone());
    auto metadata = from.metadata();
    f(tensors, metadata);
    save_safetensors(file_, tensors, metadata);
  }
  void progress(const std::string& pointer, const nlohmann::json& value) {
    change([&](auto&, auto& metadata) {
      auto json = nlohmann::json::parse(metadata.at("progress"));
      json[nlohmann::json::json_pointer(pointer)] = value;
      metadata["progress"] = json.dump();
    });
  }
  void settings(const std::string& pointer, const nlohmann::json& value) {
    change([&](auto&, auto& metadata) {
      auto json = nlohmann::json::parse(metadata.at("settings"));
      json[nlohmann::json::json_pointer(pointer)] = value;
      metadata["settings"] = json.dump();
    });
  }

 private:
  fs::path file_;
  std::string whole_;
};

TEST(Trainer, ChecksItsStateInFull) {
  TrainingRun run({.ema = 0.5});
  Trainer trainer = run.begin();
  for (int i = 0; i < 3; ++i) trainer.step(run.pool);
  trainer.save();
  const fs::path file = run.out() / "training.safetensors";
  const auto expect = [&](const std::string& what, const auto& spoil) {
    Spoiled spoiled(file);
    spoil(spoiled);
    EXPECT_THAT(message_of<Error>([&] { (void)Trainer::resume(run.out()); }), HasSubstr(what));
  };
  for (const nlohmann::json& step : std::vector<nlohmann::json>{-1, 10, 2.5, "3"})
    expect("step", [&](Spoiled& s) { s.progress("/step", step); });
  expect("its 4 steps have taken 192 tokens", [](Spoiled& s) { s.progress("/step", 4); });
  expect("seconds", [](Spoiled& s) { s.progress("/seconds", -1); });
  expect("seconds: expected a number, 0 or more, found \"NaN\"",
         [](Spoiled& s) { s.progress("/seconds", "NaN"); });
  expect("positions[0][2]: expected a whole number, 0 or more, found 0.5",
         [](Spoiled& s) { s.progress("/positions/0/2", 0.5); });
  expect("positions[0]: expected a list of 4 items, found a list of 2 items", [](Spoiled& s) {
    s.progress("/positions/0", {1, 2});
  });
  expect("which it has not at row", [](Spoiled& s) { s.progress("/positions/0/3", 100000); });
  expect("positions[1][1]: expected a whole number, 0 or more, found -1",
         [](Spoiled& s) { s.progress("/positions/1/1", -1); });
  expect("has no such place", [](Spoiled& s) { s.progress("/positions/1/1", 1000); });
  expect("stands in 3 sources of text, not 2", [](Spoiled& s) {
    s.progress("/positions/2", {0, 0, 0, 0});
  });
  // Of sizes that would need all memory, before anything is made of them.
  expect("its settings say 1073741824 layers",
         [](Spoiled& s) { s.settings("/model/n_layer", 1 << 30); });
  expect("'adamw.wte.weight' must be f32[3, 17179869184], but is f32[3, 4272]",
         [](Spoiled& s) { s.settings("/model/vocab_size", 1 << 30); });
  expect("ema: expected a number below 1, found 1", [](Spoiled& s) { s.settings("/ema", 1); });
  expect("'average.h.0.attn.c_attn.bias' has no place in this run",
         [](Spoiled& s) { s.settings("/ema", 0); });
  using Metadata = std::map<std::string, std::string>;
  const auto tensor = [](Spoiled& s, std::int64_t row, float value) {
    s.change([&](NamedTensors& tensors, Metadata&) {
      for (auto& [name, t] : tensors) {
        if (name == "adamw.ln_f.bias") t.select(0, row).data<float>()[1] = value;
      }
    });
  };
  expect("'adamw.ln_f.bias' holds NaN", [&](Spoiled& s) { tensor(s, 1, std::nanf("")); });
  expect("'adamw.ln_f.bias' holds a mean of squares below 0",
         [&](Spoiled& s) { tensor(s, 2, -1); });
  expect("'extra' has no place in this run", [&](Spoiled& s) {
    s.change([](NamedTensors& tensors, Metadata&) {
      tensors.emplace_back("extra", Tensor::zeros({1}, DType::f32));
    });
  });
  EXPECT_EQ(Trainer::resume(run.out()).steps(), 3);
}

// Saves of earlier versions do not say what their texts were, and have them in data/.
TEST(Trainer, GoesOnWithRunsOfEarlierVersions) {
  TrainingRun run;
  Trainer trainer = run.begin();
  for (int i = 0; i < 3; ++i) trainer.step(run.pool);
  trainer.save();
  EXPECT_TRUE(Trainer::resume(run.out()).texts_known());
  Parameters state = saved(run.out()).tensors;
  auto metadata = SafeTensors::open(run.out() / "training.safetensors").metadata();
  metadata.erase("texts");
  save_safetensors(run.out() / "training.safetensors", {state.begin(), state.end()}, metadata);
  fs::rename(run.out() / "vitrine-data", run.out() / "data");
  Trainer again = Trainer::resume(run.out());
  EXPECT_FALSE(again.texts_known());
  train(again, run.pool);
  while (!trainer.done()) trainer.step(run.pool);
  expect_same_bits(again.model(1).parameters(), trainer.model(1).parameters());
  EXPECT_TRUE(Trainer::resume(run.out()).texts_known());
}

TEST(Trainer, CheckingTheTextsCanBeInterrupted) {
  TrainingRun run;
  run.begin();
  int calls = 0;
  EXPECT_ERROR(InterruptedError, "interrupted",
               Trainer::resume(run.out(), [&](std::int64_t done, std::int64_t total) {
                 EXPECT_LE(done, total);
                 return ++calls < 3;
               }));
  EXPECT_EQ(calls, 3);
  EXPECT_EQ(Trainer::resume(run.out(), [](std::int64_t, std::int64_t) { return true; }).steps(), 0);
}

TEST(Trainer, WritesNothingThroughLinks) {
  TrainingRun run;
  const test::TemporaryFolder elsewhere;
  Trainer trainer = run.begin();
  trainer.step(run.pool);
  trainer.save();
  for (const char* name : {"training.safetensors", "model.safetensors", "vitrine-data"}) {
    fs::rename(run.out() / name, elsewhere / name);
    fs::create_symlink(elsewhere / name, run.out() / name);
    EXPECT_THAT(message_of<FileError>([&] { (void)Trainer::resume(run.out()); }),
                testing::AllOf(HasSubstr(name), HasSubstr("is a symbolic link")));
    EXPECT_ERROR(FileError, "is a symbolic link", run.begin());
    fs::remove(run.out() / name);
    fs::rename(elsewhere / name, run.out() / name);
  }
  EXPECT_EQ(Trainer::resume(run.out()).steps(), 1);
  write_text(run.out() / "vitrine-data" / "notes.txt", "mine");
  EXPECT_ERROR(FileError, "holds 'notes.txt', which is none of a run's texts", run.begin());
  EXPECT_EQ(Trainer::resume(run.out()).steps(), 1) << "the run is still there";
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
