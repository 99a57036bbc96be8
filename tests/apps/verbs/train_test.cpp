// vitrine train and evaluate: a run that is killed, interrupted or out of disk goes on to the same
// weights.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <chrono>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "tensor/files/file.h"
#include "tensor/files/safetensors.h"
#include "tests/apps/program.h"
#include "tests/tensor/temporary_folder.h"

namespace vitrine::test {
namespace {

using nlohmann::json;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

std::string words(int count) {
  std::string text;
  std::minstd_rand draw(7);
  const std::vector<std::string> known = {"the", "old",  "cat",   "sat",  "on",  "a",
                                          "mat", "with", "seven", "mice", "and", "sang"};
  for (int i = 0; i < count; ++i) {
    text += (i == 0 ? "" : i % 9 == 0 ? ".\n" : " ") + known[draw() % known.size()];
  }
  return text;
}

class Train : public ::testing::Test {
 protected:
  Train() {
    write_text(folder_ / "text.txt", words(3000));
    write_text(folder_ / "more.jsonl", R"({"text": "The capital of Texas is Austin."})"
                                       "\n"
                                       R"({"tokens": [70, 71, 72, 70, 71, 72]})"
                                       "\n");
    const Outcome o = vitrine({"tokenizer", "train", "--data", folder_ / "text.txt", "--vocabulary",
                               "290", "--out", folder_ / "tokenizer"});
    EXPECT_EQ(o.exit, 0) << o.err;
  }
  std::vector<std::string> command(const std::string& out, int steps) const {
    return {"train",
            "--preset",
            "tiny",
            "--data",
            folder_ / "text.txt",
            "--data",
            (folder_ / "more.jsonl").string() + ":0.2",
            "--tokenizer",
            folder_ / "tokenizer",
            "--out",
            folder_ / out,
            "--steps",
            std::to_string(steps),
            "--batch-tokens",
            "96",
            "--save-every",
            "4",
            "--log-every",
            "2",
            "--evaluate-every",
            "20",
            "--sample",
            "the old"};
  }
  Outcome resume(const std::string& out, std::vector<std::string> options = {}) const {
    options.insert(options.begin(),
                   {"train", "--resume", "--out", folder_ / out, "--save-every", "4", "--log-every",
                    "2", "--evaluate-every", "20", "--sample", "the old"});
    return vitrine(options);
  }
  std::string weights(const std::string& out) const {
    return read_text(folder_ / out / "model.safetensors");
  }
  // The log without what depends on the clock.
  // Saves come with lines, so that every line is of the same steps in each run.
  std::vector<json> log(const std::string& out) const {
    std::vector<json> lines;
    std::istringstream text(read_text(folder_ / out / "log.jsonl"));
    for (std::string line; std::getline(text, line);) {
      json one = json::parse(line);
      if (one.contains("command")) continue;
      one.erase("seconds");
      one.erase("tokens_per_second");
      lines.push_back(one);
    }
    return lines;
  }
  test::TemporaryFolder folder_;
};

TEST_F(Train, MakesAModelAndALog) {
  const Outcome o = vitrine(command("run", 40));
  ASSERT_EQ(o.exit, 0) << o.err;
  EXPECT_THAT(o.out, AllOf(HasSubstr("steps"), HasSubstr("validation loss")));
  EXPECT_THAT(o.err,
              AllOf(HasSubstr("parameters: 2 layers of width 64"), HasSubstr("step     40 of 40"),
                    HasSubstr("validation loss"), HasSubstr("the old →")));
  EXPECT_THAT(o.err, HasSubstr("checked: no row of 'logits' depends on a later token: proved"));
  EXPECT_THAT(o.err, HasSubstr("nats, ln(290) is 5.670"));
  const std::vector<json> lines = log("run");
  EXPECT_EQ(lines.size(), 20u + 2u);
  EXPECT_LT(lines[20]["loss"], lines[0]["loss"]);
  const json evaluation = lines.back();
  EXPECT_EQ(evaluation["step"], 40);
  EXPECT_GT(evaluation["validation_loss"], 0);
  EXPECT_GT(evaluation["induction"]["first"], 0);
  EXPECT_EQ(evaluation["samples"][0]["prompt"], "the old");
  const std::string model = folder_ / "run";
  EXPECT_EQ(vitrine({"predict", "--model", model, "--prompt", "the old"}).exit, 0);
  const json loss =
      vitrine({"evaluate", folder_ / "text.txt", "--model", model, "--format", "json"}).json();
  EXPECT_LT(loss["loss"], 4);
  EXPECT_NEAR(std::log(loss["ppl_token"].get<double>()), loss["loss"], 1e-9);
  EXPECT_NEAR(std::log2(loss["ppl_byte"].get<double>()), loss["bits_per_byte"], 1e-9);
  EXPECT_GT(loss["bytes"], loss["tokens"]);
}

TEST_F(Train, TakesTheRangeOfNewWeightsAndTheMemoryOfAdamW) {
  const auto losses = [&](const std::string& name, const std::vector<std::string>& more) {
    std::vector<std::string> run = command(name, 4);
    run.insert(run.end(), more.begin(), more.end());
    const Outcome o = vitrine(run);
    EXPECT_EQ(o.exit, 0) << o.err;
    std::vector<double> found;
    for (const json& line : log(name)) {
      if (line.contains("loss")) found.push_back(line["loss"]);
    }
    return found;
  };
  const std::vector<double> usual = losses("usual", {});
  ASSERT_EQ(usual.size(), 2u);
  EXPECT_GT(losses("wide", {"--initializer-range", "0.1"})[0], usual[0] + 0.1);
  EXPECT_NE(losses("memory", {"--beta2", "0.999"})[1], usual[1]);
  for (const char* option : {"--initializer-range", "--beta2"}) {
    std::vector<std::string> run = command("wrong", 4);
    run.insert(run.end(), {option, "-1"});
    const Outcome o = vitrine(run);
    EXPECT_EQ(o.exit, 2);
    EXPECT_THAT(o.err, HasSubstr(option));
  }
}

// kill -9 at ten moments, then on, once with another number of threads: the weights and the log are
// those of a run that nothing happened to.
TEST_F(Train, KilledTenTimesGivesTheSameBits) {
  constexpr int kSteps = 160;
  std::vector<std::string> whole = command("whole", kSteps);
  whole.insert(whole.end(), {"--threads", "1"});
  const auto begin = std::chrono::steady_clock::now();
  ASSERT_EQ(vitrine(whole).exit, 0);
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - begin;

  std::minstd_rand draw(static_cast<unsigned>(std::random_device{}()));
  std::vector<std::string> words = command("killed", kSteps);
  int killed = 0;
  for (int i = 0; i < 10; ++i) {
    Running run(words);
    const double part = static_cast<double>(draw()) / static_cast<double>(std::minstd_rand::max());
    std::this_thread::sleep_for(part * 0.1 * seconds);
    run.kill();
    if (run.finish().exit == 1000 + SIGKILL) ++killed;
    // Killed before its first save, it has nothing to go on with.
    if (std::filesystem::exists(folder_ / "killed" / "training.safetensors")) {
      words = {"train",    "--resume",    "--out",     folder_ / "killed",    "--save-every",
               "4",        "--log-every", "2",         "--evaluate-every",    "20",
               "--sample", "the old",     "--threads", i % 2 == 0 ? "2" : "1"};
    }
  }
  EXPECT_GE(killed, 5);  // what is left may come after the end
  if (std::filesystem::exists(folder_ / "killed" / "training.safetensors")) {
    ASSERT_EQ(resume("killed", {"--threads", "3"}).exit, 0);
  } else {
    ASSERT_EQ(vitrine(command("killed", kSteps)).exit, 0);
  }
  EXPECT_TRUE(weights("killed") == weights("whole"));
  EXPECT_EQ(log("killed"), log("whole"));
}

TEST_F(Train, CtrlCSavesAndGoesOn) {
  std::vector<std::string> forever = command("run", 100'000);
  ASSERT_EQ(vitrine(command("whole", 20)).exit, 0);
  Running run(forever);
  for (int i = 0; i < 200 && !std::filesystem::exists(folder_ / "run" / "log.jsonl"); ++i)
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
  run.interrupt();
  EXPECT_EQ(run.finish().exit, 130);
  EXPECT_TRUE(std::filesystem::exists(folder_ / "run" / "training.safetensors"));
  const Outcome o = resume("run", {"--steps", "5"});
  EXPECT_EQ(o.exit, 2);
  EXPECT_THAT(o.err, HasSubstr("--steps cannot be given with --resume"));
}

// Files may not grow beyond 300 kB, as on a disk that fills up: the state does not fit.
TEST_F(Train, AFullDiskLeavesTheLastSave) {
  std::vector<std::string> part = command("run", 20);
  part.insert(part.end(), {"--stop-after", "10"});
  ASSERT_EQ(vitrine(part).exit, 0);
  const std::string state = read_text(folder_ / "run" / "training.safetensors"),
                    model = weights("run");
  ASSERT_GT(state.size(), 600'000u);
  const std::string folder = folder_ / "run";
  // Steps 11 to 20 of a run that stopped in time.
  const Outcome o =
      shell("ulimit -f 600; vitrine train --resume --save-every 3 --out '" + folder + "'");
  EXPECT_EQ(o.exit, 1);
  EXPECT_THAT(o.err, AllOf(HasSubstr("training.safetensors"), HasSubstr("cannot write")));
  EXPECT_TRUE(read_text(folder_ / "run" / "training.safetensors") == state);
  EXPECT_TRUE(weights("run") == model);
  EXPECT_EQ(resume("run").exit, 0);
}

// A model learns on from where it is, and a run may stop early.
TEST_F(Train, FromAModelAndInParts) {
  std::vector<std::string> part = command("part", 40);
  part.insert(part.end(), {"--stop-after", "25", "--format", "json"});
  const Outcome first = vitrine(part);
  ASSERT_EQ(first.exit, 0) << first.err;
  EXPECT_EQ(first.json()["steps"], 25);
  EXPECT_THAT(first.err, HasSubstr("saved after step 25 of 40"));
  const Outcome on = vitrine({"train", "--from", folder_ / "part", "--data", folder_ / "text.txt",
                              "--batch-tokens", "96", "--steps", "2", "--rate", "1e-9", "--format",
                              "json", "--out", folder_ / "on"});
  ASSERT_EQ(on.exit, 0) << on.err;
  EXPECT_EQ(
      vitrine({"info", "--model", folder_ / "on", "--format", "json"}).json()["config"]["layers"],
      2);
  const auto loss = [&](const std::string& model) {
    return vitrine(
               {"evaluate", folder_ / "text.txt", "--model", folder_ / model, "--format", "json"})
        .json()["loss"]
        .get<double>();
  };
  EXPECT_NEAR(loss("on"), loss("part"), 1e-4);
  const Outcome past = resume("part", {"--stop-after", "10", "--format", "json"});
  ASSERT_EQ(past.exit, 0) << past.err;
  EXPECT_EQ(past.json()["steps"], 25) << "that step is behind it";
  ASSERT_EQ(resume("part").exit, 0);
  ASSERT_EQ(vitrine(command("whole", 40)).exit, 0);
  EXPECT_TRUE(weights("part") == weights("whole"));
}

TEST_F(Train, AModelWithoutATokenizerLearnsFromIds) {
  std::string lines;
  for (int i = 0; i < 60; ++i) lines += "{\"tokens\": [1, 2, 3, 4, 5, 6, 7, 8]}\n";
  write_text(folder_ / "ids.jsonl", lines);
  const std::string ids = folder_ / "ids.jsonl", out = folder_ / "ids";
  const std::vector<std::string> from = {
      "train", "--from", tiny_model().string(), "--out", out, "--batch-tokens", "96"};
  const auto train = [&](std::vector<std::string> more) {
    more.insert(more.begin(), from.begin(), from.end());
    return vitrine(more);
  };
  Outcome o = train({"--data", folder_ / "text.txt"});
  EXPECT_EQ(o.exit, 3);
  EXPECT_THAT(o.err,
              AllOf(HasSubstr("text.txt, line 1: this is text, and the model has no tokenizer"),
                    HasSubstr("{\"tokens\": [1, 2, 3]}")));
  o = train({"--data", ids, "--sample", "the"});
  EXPECT_EQ(o.exit, 3);
  EXPECT_THAT(o.err, HasSubstr("--sample is a text, and the model has no tokenizer"));
  o = train({"--data", ids, "--steps", "4", "--stop-after", "2", "--validation", "0.3", "--format",
             "json"});
  ASSERT_EQ(o.exit, 0) << o.err;
  EXPECT_GT(o.json()["loss"].get<double>(), 0);
  EXPECT_TRUE(o.json()["bits_per_byte"].is_null());
  EXPECT_TRUE(o.json()["ppl_byte"].is_null());
  EXPECT_THAT(o.err, Not(HasSubstr("bits a byte")));
  o = vitrine({"train", "--resume", "--out", out});
  ASSERT_EQ(o.exit, 0) << o.err;
  EXPECT_THAT(o.out, Not(HasSubstr("bits a byte")));
  EXPECT_EQ(vitrine({"predict", "--model", out, "--tokens", "1,2,3"}).exit, 0);
}

TEST_F(Train, AContextTooShortForInduction) {
  std::vector<std::string> c = command("short", 2);
  c.insert(c.end(), {"--context", "3", "--format", "json"});
  const Outcome o = vitrine(c);
  ASSERT_EQ(o.exit, 0) << o.err;
  EXPECT_TRUE(o.json()["induction"].is_null());
}

TEST_F(Train, BadInput) {
  const std::string text = folder_ / "text.txt", tokenizer = folder_ / "tokenizer",
                    out = folder_ / "out";
  const auto train = [&](const std::string& data) {
    return vitrine({"train", "--preset", "tiny", "--data", data, "--tokenizer", tokenizer, "--out",
                    out, "--steps", "2"});
  };
  write_text(folder_ / "empty.txt", "");
  Outcome o = train(folder_ / "empty.txt");
  EXPECT_EQ(o.exit, 3);
  EXPECT_THAT(o.err, AllOf(HasSubstr("empty.txt"), HasSubstr("no text in it to train on")));
  o = train(folder_ / "absent.txt");
  EXPECT_EQ(o.exit, 3);
  EXPECT_THAT(o.err, HasSubstr("absent.txt"));
  write_text(folder_ / "ids.jsonl", "{\"tokens\": [5, 290]}\n");
  o = train(folder_ / "ids.jsonl");
  EXPECT_EQ(o.exit, 3);
  EXPECT_THAT(o.err, AllOf(HasSubstr("ids.jsonl, line 1"), HasSubstr("no token 290")));
  EXPECT_FALSE(std::filesystem::exists(folder_ / "out" / "training.safetensors"));
  // Bytes that are no UTF-8 are trained on as they are; so is a document longer than the context.
  write_text(folder_ / "bytes.txt", std::string("\xff\xfe\x80 and \xc3", 9) + words(2000));
  o = train(folder_ / "bytes.txt");
  EXPECT_EQ(o.exit, 0) << o.err;
  o = train(text);
  EXPECT_EQ(o.exit, 2);
  EXPECT_THAT(o.err, HasSubstr("holds a run already: add --resume"));
  o = vitrine({"train", "--resume", "--out", folder_ / "nowhere"});
  EXPECT_EQ(o.exit, 2);
  EXPECT_THAT(o.err, HasSubstr("holds no run to go on with"));
  o = vitrine({"train", "--data", text});
  EXPECT_EQ(o.exit, 2);
  EXPECT_THAT(o.err, HasSubstr("give --out DIR"));
  o = vitrine({"train", "--resume", "--out", out, "--seed", "3"});
  EXPECT_EQ(o.exit, 2);
  EXPECT_THAT(o.err, HasSubstr("--seed cannot be given with --resume"));
  o = vitrine({"train", "--from", tiny_model().string(), "--layers", "2", "--data", text, "--out",
               folder_ / "other"});
  EXPECT_EQ(o.exit, 2);
  EXPECT_THAT(o.err, HasSubstr("--layers cannot be given with --from"));
  o = vitrine({"train", "--preset", "atlass", "--data", text, "--tokenizer", tokenizer, "--out",
               folder_ / "other"});
  EXPECT_EQ(o.exit, 2);
  EXPECT_THAT(o.err, HasSubstr("atlas"));
}

// What people have put into a folder stays as it was, unless they say otherwise; and then only names of the run are
// replaced.
TEST_F(Train, AFolderThatIsInUseIsLeftAlone) {
  namespace fs = std::filesystem;
  fs::create_directories(folder_ / "project/data/raw");
  write_text(folder_ / "project/data/raw/notes.txt", "notes");
  write_text(folder_ / "project/config.json", "{\"mine\": 1}");
  Outcome o = vitrine(command("project", 2));
  EXPECT_EQ(o.exit, 3);
  EXPECT_THAT(o.err, AllOf(HasSubstr("project' is not empty"), HasSubstr("--overwrite")));
  EXPECT_EQ(read_text(folder_ / "project/config.json"), "{\"mine\": 1}");
  EXPECT_EQ(read_text(folder_ / "project/data/raw/notes.txt"), "notes");
  std::vector<std::string> overwrite = command("project", 2);
  overwrite.push_back("--overwrite");
  o = vitrine(overwrite);
  EXPECT_EQ(o.exit, 0) << o.err;
  EXPECT_EQ(read_text(folder_ / "project/data/raw/notes.txt"), "notes");
  EXPECT_EQ(resume("project", {"--overwrite"}).exit, 2);
  // The new model would be read with it.
  write_text(folder_ / "project/generation_config.json", "{\"eos_token_id\": 7}");
  o = vitrine(overwrite);
  EXPECT_EQ(o.exit, 3);
  EXPECT_THAT(o.err, AllOf(HasSubstr("project/generation_config.json' is of something else")));
  write_text(folder_ / "file", "mine");
  o = vitrine(command("file", 2));
  EXPECT_EQ(o.exit, 3);
  EXPECT_EQ(read_text(folder_ / "file"), "mine");
}

// Killed before its first save, a run leaves names of its own, and is begun anew.
TEST_F(Train, ABeginningThatWasKilledIsNotInTheWay) {
  namespace fs = std::filesystem;
  const fs::path run = folder_ / "run";
  fs::create_directories(run / "vitrine-data");
  for (const char* name : {"tokenizer.json", "vocab.json", "merges.txt", "vitrine-lock",
                           "tokenizer.json.tmp.4711-0123abcd"})
    write_text(run / name, "half");
  Outcome o = vitrine(command("run", 2));
  EXPECT_EQ(o.exit, 3) << "whose are they?";
  write_text(run / "vitrine-beginning", "");
  write_text(run / "notes.txt", "mine");
  o = vitrine(command("run", 2));
  EXPECT_EQ(o.exit, 3);
  EXPECT_THAT(o.err, HasSubstr("it holds 'notes.txt'"));
  fs::remove(run / "notes.txt");
  o = vitrine(command("run", 2));
  EXPECT_EQ(o.exit, 0) << o.err;
  EXPECT_FALSE(fs::exists(run / "vitrine-beginning"));
  EXPECT_FALSE(fs::exists(run / "tokenizer.json.tmp.4711-0123abcd"));
  fs::remove(run / "training.safetensors");  // a model now
  EXPECT_EQ(vitrine(command("run", 2)).exit, 3);
}

TEST_F(Train, TwoProcessesAreNotInOneFolder) {
  Running first(command("run", 100000));
  const auto state = folder_ / "run" / "training.safetensors";
  for (int i = 0; i < 200 && !std::filesystem::exists(state); ++i)
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
  ASSERT_TRUE(std::filesystem::exists(state));
  const Outcome second = resume("run");
  EXPECT_EQ(second.exit, 3);
  EXPECT_THAT(second.err, HasSubstr("another process is working in"));
  first.kill();
  first.finish();
  write_text(folder_ / "run" / "training.safetensors.tmp.4711-0123abcd", "left by a kill");
  write_text(folder_ / "run" / "mine.tmp.4711-0123abcd", "not left by a kill");
  EXPECT_EQ(resume("run", {"--stop-after", "1"}).exit, 0);
  EXPECT_FALSE(std::filesystem::exists(folder_ / "run" / "training.safetensors.tmp.4711-0123abcd"));
  EXPECT_TRUE(std::filesystem::exists(folder_ / "run" / "mine.tmp.4711-0123abcd"));
}

// With other texts, or another tokenizer, the same state would go on to something else.
TEST_F(Train, SaysWhenTheTextsOfARunAreNotKnown) {
  std::vector<std::string> part = command("run", 8);
  part.insert(part.end(), {"--stop-after", "4"});
  ASSERT_EQ(vitrine(part).exit, 0);
  const auto file = folder_ / "run" / "training.safetensors";
  const SafeTensors state = SafeTensors::open(file);
  NamedTensors tensors;
  for (const std::string& name : state.names()) tensors.emplace_back(name, state.at(name).clone());
  auto metadata = state.metadata();
  metadata.erase("texts");
  save_safetensors(file, tensors, metadata);
  Outcome o = resume("run", {"--stop-after", "5"});
  EXPECT_EQ(o.exit, 0);
  EXPECT_THAT(o.err, AllOf(HasSubstr("was saved by an earlier version"),
                           HasSubstr("whether they are still the same")));
  o = resume("run");
  EXPECT_EQ(o.exit, 0);
  EXPECT_THAT(o.err, Not(HasSubstr("earlier version")));
}

TEST_F(Train, ARunGoesOnWithItsOwnTextsAlone) {
  namespace fs = std::filesystem;
  write_text(folder_ / "other.txt", words(2000) + "!!");
  for (const char* name : {"a", "b"}) {
    std::vector<std::string> c = command(name, 8);
    c.insert(c.end(), {"--stop-after", "2"});
    if (name[0] == 'b') c[4] = folder_ / "other.txt";
    ASSERT_EQ(vitrine(c).exit, 0);
  }
  fs::rename(folder_ / "a/vitrine-data", folder_ / "a-data");
  fs::copy(folder_ / "b/vitrine-data", folder_ / "a/vitrine-data", fs::copy_options::recursive);
  const Outcome o = resume("a");
  EXPECT_EQ(o.exit, 3);
  EXPECT_THAT(o.err, HasSubstr("are not those that the run was begun with"));
  fs::remove_all(folder_ / "a/vitrine-data");
  fs::rename(folder_ / "a-data", folder_ / "a/vitrine-data");
  EXPECT_EQ(resume("a").exit, 0);
}

TEST_F(Train, SigtermSavesAsCtrlCDoes) {
  for (const int signal : {SIGTERM, SIGHUP}) {
    const std::string name = "run" + std::to_string(signal);
    Running running(command(name, 100000));
    const auto state = folder_ / name / "training.safetensors";
    for (int i = 0; i < 200 && !std::filesystem::exists(state); ++i)
      std::this_thread::sleep_for(std::chrono::milliseconds(50));
    std::this_thread::sleep_for(std::chrono::milliseconds(300));
    running.send(signal);
    EXPECT_EQ(running.finish().exit, 130);
    std::vector<std::string> more = {"--stop-after", "1", "--format", "json"};
    EXPECT_GT(resume(name, more).json()["steps"].get<int>(), 0);
  }
}

// Progress is no result: where it cannot be written, nothing ends and no file gets it.
TEST_F(Train, StderrThatIsGoneEndsNothing) {
  std::string line = "vitrine";
  for (const std::string& word : command("run", 4)) line += " '" + word + "'";
  EXPECT_EQ(shell(line + " 2> /dev/full").exit, 0);
  EXPECT_EQ(shell("vitrine predict --top x 2>&-").exit, 2);
  std::string again = line;
  again.replace(again.find("/run'"), 5, "/run2'");
  EXPECT_EQ(shell(again + " 2>&-").exit, 0);
  std::string log = read_text(folder_ / "run2" / "log.jsonl");
  for (std::size_t at = 0; at < log.size(); at = log.find('\n', at) + 1)
    EXPECT_FALSE(
        json::parse(log.substr(at, log.find('\n', at) - at), nullptr, false).is_discarded());
  EXPECT_EQ(shell("vitrine predict --prompt a >&-").exit, 1);
}

TEST_F(Train, ALogThatCannotBeWrittenEndsNothing) {
  namespace fs = std::filesystem;
  std::vector<std::string> part = command("run", 8);
  part.insert(part.end(), {"--stop-after", "4", "--quiet"});
  ASSERT_EQ(vitrine(part).exit, 0);
  fs::rename(folder_ / "run/log.jsonl", folder_ / "log");
  fs::create_directories(folder_ / "run/log.jsonl");
  const Outcome o = resume("run", {"--format", "json", "--quiet"});
  EXPECT_EQ(o.exit, 0);
  EXPECT_THAT(o.err, HasSubstr("run/log.jsonl: the log cannot be written: "));
  EXPECT_EQ(o.err.find("the log cannot"), o.err.rfind("the log cannot")) << "once";
  EXPECT_EQ(o.json()["steps"], 8);
  ASSERT_EQ(vitrine(command("whole", 8)).exit, 0);
  EXPECT_TRUE(weights("run") == weights("whole"));
}

// `vitrine train 2>&1 | head -1`: the run goes on to its end.
TEST_F(Train, AReaderThatGoesEndsNothing) {
  std::string line = "vitrine";
  for (const std::string& word : command("run", 6)) line += " '" + word + "'";
  const std::string closed = folder_ / "closed";
  const Outcome o = shell("{ while [ ! -e '" + closed + "' ]; do sleep 0.02; done; " + line +
                          " 2>&1; echo \"exit $?\" > '" + (folder_ / "code").string() +
                          "'; } | { exec <&-; : > '" + closed + "'; sleep 1; }");
  EXPECT_EQ(o.exit, 0);
  for (int i = 0; i < 200 && !std::filesystem::exists(folder_ / "code"); ++i)
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
  EXPECT_EQ(read_text(folder_ / "code"), "exit 141\n") << "of the result, at the end";
  EXPECT_EQ(resume("run", {"--format", "json"}).json()["steps"], 6);
}

TEST_F(Train, LinksInARunAreNotFollowed) {
  namespace fs = std::filesystem;
  std::vector<std::string> part = command("run", 8);
  part.insert(part.end(), {"--stop-after", "4"});
  ASSERT_EQ(vitrine(part).exit, 0);
  for (const char* name :
       {"log.jsonl", "config.json", "training.safetensors", "vitrine-lock", "vitrine-data"}) {
    const fs::path file = folder_ / "run" / name, elsewhere = folder_ / "elsewhere";
    fs::rename(file, elsewhere);
    fs::create_symlink(elsewhere, file);
    const Outcome o = resume("run");
    EXPECT_EQ(o.exit, 3) << name;
    EXPECT_THAT(o.err, AllOf(HasSubstr(name), HasSubstr("is a symbolic link")));
    fs::remove(file);
    fs::rename(elsewhere, file);
  }
  EXPECT_EQ(resume("run").exit, 0);
}

// Texts are mapped: what is cut off them is missed at any instruction.
TEST_F(Train, ATextThatIsCutOffMeanwhileIsSaid) {
  std::string line = "vitrine";
  for (const std::string& word : command("run", 100000)) line += " '" + word + "'";
  const std::string run = folder_ / "run";
  const Outcome o =
      shell(line + " --quiet & p=$!; while [ ! -e '" + run +
            "/training.safetensors' ]; do sleep 0.05; done; " + "sleep 0.3; truncate -s 0 '" + run +
            "/vitrine-data/source-0-00000.safetensors'; wait $p");
  EXPECT_EQ(o.exit, 1);
  EXPECT_THAT(o.err, HasSubstr("a file that was being read became shorter"));
}

// A gauge changes weights and not what the model says.
TEST(Evaluate, EveryGaugeGivesTheSameLoss) {
  test::TemporaryFolder folder;
  write_text(folder / "text.txt", words(300));
  const auto loss = [&](const std::string& gauge) {
    return vitrine({"evaluate", folder / "text.txt", "--format", "json", "--gauge", gauge})
        .json()["loss"]
        .get<double>();
  };
  const double raw = loss("raw");
  for (const char* gauge :
       {"processed", "fold_ln", "center_writing_weights", "center_unembed", "fold_value_biases"})
    EXPECT_NEAR(loss(gauge), raw, 1e-5 * raw) << gauge;
}

// Also in the middle of a text that is one document.
TEST(Evaluate, CtrlCIsHeardAtOnce) {
  test::TemporaryFolder folder;
  write_text(folder / "long.txt", words(400000));
  Running running({"evaluate", folder / "long.txt", "--threads", "1"});
  std::this_thread::sleep_for(std::chrono::milliseconds(1500));
  const auto asked = std::chrono::steady_clock::now();
  running.interrupt();
  EXPECT_EQ(running.finish().exit, 130);
  EXPECT_LT(std::chrono::duration<double>(std::chrono::steady_clock::now() - asked).count(), 5);
  const Outcome o = vitrine({"evaluate", folder.path()});
  EXPECT_EQ(o.exit, 3);
  EXPECT_THAT(o.err, HasSubstr("it is a folder"));
}

TEST(Evaluate, WindowsAndErrors) {
  test::TemporaryFolder folder;
  write_text(folder / "text.txt", words(500));
  const std::string text = folder / "text.txt";
  const auto loss = [&](const std::vector<std::string>& options) {
    std::vector<std::string> all = {"evaluate", text, "--format", "json"};
    all.insert(all.end(), options.begin(), options.end());
    return vitrine(all).json();
  };
  const json whole = loss({}), narrow = loss({"--window", "16"});
  EXPECT_EQ(whole["tokens"], narrow["tokens"]);
  EXPECT_EQ(whole["bytes"], narrow["bytes"]);
  EXPECT_LT(whole["loss"], narrow["loss"]);
  EXPECT_EQ(loss({"--prepend-bos"})["tokens"].get<int>(), whole["tokens"].get<int>() + 1);
  EXPECT_GT(loss({"--split", "line"})["documents"], 50);
  EXPECT_EQ(vitrine({"evaluate", text}).exit, 0);
  EXPECT_EQ(vitrine({"evaluate", folder / "absent"}).exit, 3);
  write_text(folder / "short.txt", "x");
  EXPECT_THAT(vitrine({"evaluate", folder / "short.txt"}).err, HasSubstr("nothing to predict"));
  EXPECT_EQ(vitrine({"evaluate", text, "--window", "100000"}).exit, 2);
  write_text(folder / "ids.jsonl", "{\"tokens\": [1, 2, 3]}\n");
  EXPECT_TRUE(vitrine({"evaluate", folder / "ids.jsonl", "--model", tiny_model().string(),
                       "--format", "json"})
                  .json()["bits_per_byte"]
                  .is_null());
}

}  // namespace
}  // namespace vitrine::test
