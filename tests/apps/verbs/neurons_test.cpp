// What vitrine neurons says about a prompt and about a text, and that a pass over a text can be
// killed.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <chrono>
#include <cmath>
#include <limits>
#include <map>
#include <random>
#include <set>
#include <thread>

#include "tensor/files/file.h"
#include "tests/apps/program.h"
#include "tests/apps/states.h"
#include "tests/apps/words.h"
#include "tests/support.h"
#include "tests/tensor/temporary_folder.h"

namespace vitrine::test {
namespace {

using nlohmann::json;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;
const Words kJson = {"--format", "json"};
const Words kPrompt = {"neurons", "--prompt", "The capital of Texas is"};

// ---- on a prompt --------------------------------------------------------------------------------
TEST(Neurons, AreOrderedByTheirEffectOnTheAnswer) {
  const json j =
      vitrine(kPrompt + Words{"--answer", " Austin", "--wrong", " Sacramento", "--top", "5"} +
              kJson)
          .json();
  EXPECT_EQ(j["pos"], 4);
  EXPECT_EQ(j["str_tokens"][4], " is");
  EXPECT_TRUE(j["layer"].is_null());
  EXPECT_EQ(j["meta"]["gauge"], "raw");
  EXPECT_NEAR(j["metric"], 12.075, 5e-3);  // as vitrine patch says
  ASSERT_EQ(j["neurons"].size(), 5U);
  double before = INFINITY;
  for (const json& n : j["neurons"]) {
    EXPECT_LE(std::abs(n["effect"].get<double>()), before);
    before = std::abs(n["effect"].get<double>());
    EXPECT_EQ(n["raised"].size(), 5U);
    EXPECT_TRUE(n["lowered"][0]["token"].is_string());
    EXPECT_GT(n["raised"][0]["value"], n["raised"][4]["value"]);
    EXPECT_LT(n["lowered"][0]["value"], n["lowered"][4]["value"]);
  }
  EXPECT_EQ(j["stream"]["layer"], 5);
  EXPECT_EQ(j["stream"]["dimensions"].size(), 5U);
  EXPECT_TRUE(j["stream"]["dimensions"][0]["effect"].is_number());
}

TEST(Neurons, TheActivationsAreThoseOfTheCache) {
  const TemporaryFolder folder;
  const std::string file = folder / "cache.safetensors";
  ASSERT_EQ(vitrine({"cache", "--prompt", "The capital of Texas is", "--sites",
                     "blocks.3.mlp.hook_post", "--out", file})
                .exit,
            0);
  const Tensor post = SafeTensors::open(file).at("blocks.3.mlp.hook_post").select(0, 0);
  const json j =
      vitrine(kPrompt + Words{"--pos", "3", "--layer", "3", "--top", "2000"} + kJson).json();
  ASSERT_EQ(j["neurons"].size(), 1024U);
  EXPECT_TRUE(j["metric"].is_null());
  EXPECT_TRUE(j["neurons"][0]["effect"].is_null());
  for (const json& n : j["neurons"]) {
    EXPECT_EQ(n["layer"], 3);
    EXPECT_NEAR(n["activation"], post.at<float>({3, n["neuron"].get<int>()}), 1e-4);
  }
}

TEST(Neurons, TheTableSaysWhatIsShown) {
  const Outcome o = vitrine(kPrompt + Words{"--answer", " Austin", "--top", "3"});
  ASSERT_EQ(o.exit, 0) << o.err;
  EXPECT_EQ(o.err, "");
  EXPECT_THAT(o.out, AllOf(HasSubstr("neurons at position 4, \" is\", all layers; strongest by "
                                     "their direct effect on the metric\n"
                                     "metric: logit \" Austin\", here 16.627\n"
                                     "gauge: raw\n\n"
                                     "layer  neuron  activation  effect  raises"),
                           HasSubstr("blocks.5.hook_resid_post"), HasSubstr("dimension")));
  const Outcome plain = vitrine(kPrompt + Words{"--layer", "2", "--top", "3"});
  EXPECT_THAT(plain.out, AllOf(HasSubstr("layer 2; strongest by activation (mlp.hook_post)\n"),
                               Not(HasSubstr("effect")), Not(HasSubstr("gauge"))));
  EXPECT_THAT(vitrine(kPrompt + Words{"--gauge", "processed"}).out,
              HasSubstr("gauge: processed\n"));
}

TEST(Neurons, ByIdsWithoutATokenizer) {
  const Words ids = {"neurons",        "--model", tiny_model().string(), "--tokens", "3,14,15",
                     "--answer-token", "7"};
  const json j = vitrine(ids + kJson).json();
  EXPECT_TRUE(j["str_tokens"].is_null());
  EXPECT_TRUE(j["neurons"][0]["raised"][0]["token"].is_null());
  EXPECT_EQ(j["answer"], 7);
  EXPECT_EQ(vitrine(ids).exit, 0);
}

TEST(Neurons, MistakesOnAPrompt) {
  const auto fails = [](int exit, const Words& words, const std::string& said) {
    const Outcome o = vitrine(words);
    EXPECT_EQ(o.exit, exit) << said;
    EXPECT_EQ(o.out, "");
    EXPECT_THAT(o.err, HasSubstr(said));
  };
  fails(2, {"neurons"}, "there is no prompt");
  fails(2, kPrompt + Words{"--layer", "6"}, "there is no layer 6; this model has layers 0 to 5");
  fails(3, kPrompt + Words{"--pos", "5"},
        "there is no position 5; the prompt has 5 tokens, 0 to 4");
  fails(2, kPrompt + Words{"--wrong", " Austin"}, "--wrong without --answer");
  fails(2, kPrompt + Words{"--neuron", "4"}, "give --corpus FILE too");
  fails(2, kPrompt + Words{"--contexts", "4"}, "--contexts is about a text; give --corpus FILE");
  fails(2, kPrompt + Words{"--corpus", "x.txt"}, "give a prompt or --corpus, not both");
  fails(3, kPrompt + Words{"--answer", "two words"}, "two words");
}

// ---- on many prompts ----------------------------------------------------------------------------
// The neurons of a layer in a result of one prompt, or of many, by number.
std::map<int, json> by_number(const json& neurons) {
  std::map<int, json> found;
  for (const json& n : neurons) found.emplace(n["neuron"].get<int>(), n);
  return found;
}

TEST(NeuronsOfPrompts, MeansAreThoseOfSingleRuns) {
  const TemporaryFolder folder;
  const Words layer = {"--layer", "3", "--top", "1024"};
  for (const bool answers : {true, false}) {
    SCOPED_TRACE(answers);
    const json j = result_of(Words{"neurons", "--prompts", state_prompts(folder, answers), "--pos",
                                   "name", "--group-by", "coast"} +
                             layer);
    EXPECT_EQ(j["position"], "name");
    const auto all = by_number(j["all"]["neurons"]), none = by_number(j["groups"][2]["neurons"]);
    ASSERT_EQ(all.size(), 1024u);
    std::vector<std::map<int, json>> single;
    std::vector<double> metric;
    for (std::size_t i = 0; i < 4; ++i) {
      const StatePrompt& s = kStatePrompts[i];
      // The name's last token: what follows does not matter, and is there all the same.
      Words words = Words{"neurons", "--prompt", s.prompt(), "--pos", std::to_string(s.end - 1)};
      if (answers) words = words + Words{"--answer", s.answer(), "--wrong", s.wrong()};
      const json one = result_of(words + layer);
      single.push_back(by_number(one["neurons"]));
      EXPECT_EQ(j["prompts"][i]["pos"], s.end - 1);
      EXPECT_EQ(j["prompts"][i]["neurons"][0]["neuron"], one["neurons"][0]["neuron"]);
      if (!answers) continue;
      metric.push_back(one["metric"].get<double>());
      EXPECT_NEAR(j["prompts"][i]["metric"].get<double>(), metric.back(), 2e-5);
      EXPECT_EQ(j["prompts"][i]["wrong"]["token"], s.wrong());
    }
    if (answers) {
      expect_mean(j["all"]["metric"]["mean"], j["all"]["metric"]["standard_error"], metric, 2e-5);
    } else {
      EXPECT_TRUE(j["all"]["metric"].is_null());
    }
    double last = std::numeric_limits<double>::infinity();
    for (const json& n : j["all"]["neurons"]) {  // the strongest first
      const double mean = std::abs(n[answers ? "effect" : "activation"]["mean"].get<double>());
      EXPECT_LE(mean, last);
      last = mean;
    }
    for (const char* what : {"activation", "effect"}) {
      if (!answers && what == std::string("effect")) {
        EXPECT_TRUE(all.at(0).at(what).is_null());
        continue;
      }
      for (int n = 0; n < 1024; n += 37) {
        std::vector<double> values;
        for (const auto& one : single) values.push_back(one.at(n).at(what).get<double>());
        const json& mean = all.at(n).at(what);
        expect_mean(mean["mean"], mean["standard_error"], values, 2e-5);
        const json& of_group = none.at(n).at(what);
        expect_mean(of_group["mean"], of_group["standard_error"], {values[2], values[3]}, 2e-5);
      }
    }
  }
}

TEST(NeuronsOfPrompts, TablesAndFiles) {
  const TemporaryFolder folder;
  const Words many = {"neurons", "--prompts", state_prompts(folder), "--top", "2"};
  const Outcome o = vitrine(many + Words{"--group-by", "coast", "--each"});
  ASSERT_EQ(o.exit, 0) << o.err;
  EXPECT_THAT(o.out, AllOf(HasSubstr("4 prompts: 3 of 5 tokens, 1 of 6\nneurons at position -1 of "
                                     "each, all layers; strongest by the mean of their direct"),
                           HasSubstr("\ncoast none, 2 prompts\n"), HasSubstr("\nall, 4 prompts\n"),
                           HasSubstr(" ± "), HasSubstr("The capital of New Mexico is"),
                           HasSubstr("strongest neurons and their effects")));
  const json top = result_of(many)["all"]["neurons"];
  EXPECT_EQ(top.size(), 2u);
  EXPECT_EQ(top[0]["raised"].size(), 5u);
  ASSERT_EQ(vitrine(many + Words{"--group-by", "coast", "--out", folder / "n.csv"}).exit, 0);
  const std::string csv = read_text(folder / "n.csv");
  EXPECT_TRUE(
      csv.starts_with("group,layer,neuron,activation.mean,activation.standard_error,"
                      "activation.count,effect.mean,effect.standard_error,effect.count\n"
                      "all,"))
      << csv;
  EXPECT_EQ(std::count(csv.begin(), csv.end(), '\n'), 1 + 2 * 4);
}

TEST(NeuronsOfPrompts, Mistakes) {
  const TemporaryFolder folder;
  const Words many = {"neurons", "--prompts", state_prompts(folder)};
  expect_failure(many + Words{"--pos", "5"}, 3, "line 1: there is no position 5");
  expect_failure(many + Words{"--pos", "city"}, 3, "line 1: there is no role \"city\"");
  expect_failure(many + Words{"--answer", " Austin"}, 2, "give --prompts or --answer, not both");
  expect_failure(many + Words{"--neuron", "3", "--layer", "1"}, 2, "give --corpus FILE too");
  expect_failure(many + Words{"--sort", "mixed"}, 2, "--sort is about a text");
  expect_failure(many + Words{"--corpus", "x.txt"}, 2, "give --prompts or --corpus, not both");
  expect_failure(many + Words{"--layer", "6"}, 2, "there is no layer 6");
  expect_failure(kPrompt + Words{"--pos", "name"}, 2, "--pos is a position of the prompt");
  expect_failure(kPrompt + Words{"--pos", "-6"}, 3, "there is no position -6");
  expect_failure({"neurons", "--corpus", "x.txt", "--pos", "-1"}, 2,
                 "--pos, --answer and --wrong are about a prompt");
  EXPECT_EQ(result_of(kPrompt + Words{"--pos", "-2"})["pos"], 3);
  write_text(folder / "mixed.jsonl",
             "{\"prompt\": \"a b\", \"answer\": \" Austin\"}\n\n{\"prompt\": \"c\"}\n");
  expect_failure({"neurons", "--prompts", folder / "mixed.jsonl"}, 3,
                 "line 3 has no answer and line 1 has one");
}

// ---- over a text --------------------------------------------------------------------------------
class NeuronsOfText : public ::testing::Test {
 protected:
  NeuronsOfText() {
    std::minstd_rand draw(7);
    const Words known = {"The capital of Texas is Austin",
                         "a cat",
                         "went to the store",
                         "seven",
                         "mice.",
                         "and sang",
                         "King"};
    std::string text;
    for (int i = 0; i < 200; ++i) {
      for (unsigned k = 0; k < 3 + draw() % 20; ++k) text += known[draw() % known.size()] + " ";
      text += "\n";
    }
    write_text(file_, text);
  }
  Words command(const std::string& file = "") const {
    return {"neurons", "--corpus", file.empty() ? file_ : file};
  }
  const TemporaryFolder folder_;
  const std::string file_ = folder_ / "text.txt";
};

TEST_F(NeuronsOfText, JsonHasEveryNeuron) {
  const json j = vitrine(command() + Words{"--contexts", "4", "--window", "2"} + kJson).json();
  EXPECT_EQ(j["lines"], 200);
  EXPECT_GT(j["tokens"], 4000);
  EXPECT_TRUE(j["bos"].is_null());
  ASSERT_EQ(j["neurons"].size(), 6U * 1024U);
  std::size_t next = 0;
  for (const json& n : j["neurons"]) {
    ASSERT_EQ(n["layer"], next / 1024);
    ASSERT_EQ(n["neuron"], next++ % 1024);
    ASSERT_EQ(n["contexts"].size(), 4U);
    EXPECT_TRUE(n["raised"].is_null());
    std::set<int> lines, tokens, predicted;
    double before = INFINITY;
    for (const json& c : n["contexts"]) {
      ASSERT_LE(c["activation"], before);
      before = c["activation"];
      lines.insert(c["line"].get<int>());
      tokens.insert(c["tokens"][c["peak"].get<std::size_t>()].get<int>());
      predicted.insert(c["predicted"]["id"].get<int>());
      ASSERT_LE(c["tokens"].size(), 5U);
      ASSERT_EQ(c["tokens"].size(), c["str_tokens"].size());
    }
    ASSERT_EQ(lines.size(), 4U) << "a line is there once";
    ASSERT_EQ(n["distinct_tokens"], tokens.size());
    ASSERT_EQ(n["distinct_predicted"], predicted.size());
  }
}

// One neuron's best context, run on its own: the activation and the prediction are those of that
// line.
TEST_F(NeuronsOfText, AContextIsWhatThePromptGives) {
  const json j = vitrine(command() + Words{"--layer", "4", "--neuron", "33"} + kJson).json();
  ASSERT_EQ(j["neurons"].size(), 1U);
  const json n = j["neurons"][0], c = n["contexts"][0];
  EXPECT_EQ(n["raised"].size(), 8U);
  std::istringstream text(read_text(file_));
  std::string line;
  for (int i = 0; i < c["line"].get<int>(); ++i) std::getline(text, line);
  const Words at = {"--prompt", line, "--format", "json"};
  const json alone = vitrine(Words{"neurons", "--layer", "4", "--top", "1024", "--pos",
                                   std::to_string(c["pos"].get<int>())} +
                             at)
                         .json();
  for (const json& one : alone["neurons"]) {
    if (one["neuron"] != 33) continue;
    EXPECT_NEAR(one["activation"], c["activation"], 1e-4);
  }
  json ids = alone["tokens"];
  EXPECT_EQ(ids[c["pos"].get<std::size_t>()], c["tokens"][c["peak"].get<std::size_t>()]);
  std::string list;
  for (int i = 0; i <= c["pos"].get<int>(); ++i)
    list += (i == 0 ? "" : ",") + std::to_string(ids[static_cast<std::size_t>(i)].get<int>());
  EXPECT_EQ(vitrine({"predict", "--tokens", list, "--format", "json"}).json()["top"][0]["id"],
            c["predicted"]["id"]);
}

TEST_F(NeuronsOfText, TablesShowThePeak) {
  const Outcome few = vitrine(command() + Words{"--top", "3"});
  ASSERT_EQ(few.exit, 0) << few.err;
  EXPECT_EQ(few.err, "");
  EXPECT_THAT(few.out, AllOf(HasSubstr("text.txt: 200 lines, "),
                             HasSubstr("3 of 6,144 neurons, the strongest first"),
                             HasSubstr("of 10  "), HasSubstr("[")));
  const Outcome mixed = vitrine(command() + Words{"--top", "3", "--layer", "1", "--sort", "mixed"});
  EXPECT_THAT(mixed.out, HasSubstr("3 of 1,024 neurons of layer 1, those with the most different"));
  const Words one = command() + Words{"--layer", "1", "--neuron", "7", "--contexts", "3"};
  const Outcome o = vitrine(one);
  EXPECT_THAT(o.out, AllOf(HasSubstr("layer 1, neuron 7: active at "), HasSubstr("raises \""),
                           HasSubstr("3 contexts: "), HasSubstr("activation  line  pos  context"),
                           HasSubstr("]")));
  EXPECT_THAT(vitrine(one + Words{"--color", "always"}).out, HasSubstr("\x1b[1;32m"));
  const std::string out = folder_ / "one.txt";
  EXPECT_EQ(vitrine(one + Words{"--out", out}).out, "");
  EXPECT_EQ(read_text(out), o.out);
  const std::string file = folder_ / "one.json";
  EXPECT_EQ(vitrine(one + kJson + Words{"--out", file}).out, "");
  EXPECT_EQ(json::parse(read_text(file))["neurons"].size(), 1U);
}

TEST_F(NeuronsOfText, ThreadsChangeNothing) {
  const auto neurons = [&](const char* threads) {
    return vitrine(command() + Words{"--threads", threads} + kJson).json()["neurons"];
  };
  EXPECT_TRUE(neurons("1") == neurons("2"));
}

// kill -9 at several moments, then on: the contexts are those of a run that nothing happened to.
TEST_F(NeuronsOfText, KilledAndResumedGivesTheSame) {
  const auto begin = std::chrono::steady_clock::now();
  const json whole = vitrine(command() + kJson).json();
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - begin;

  const std::string checkpoint = folder_ / "checkpoint.safetensors";
  const Words resumable =
      command() + kJson + Words{"--checkpoint", checkpoint, "--save-every", "0"};
  std::minstd_rand draw(static_cast<unsigned>(std::random_device{}()));
  int killed = 0, begun = 0;
  for (int i = 0; i < 8; ++i) {
    Running run(resumable + Words{"--threads", i % 2 == 0 ? "1" : "2"});
    const double part = static_cast<double>(draw()) / static_cast<double>(std::minstd_rand::max());
    std::this_thread::sleep_for(part * 0.7 * seconds);
    run.kill();
    if (run.finish().exit == 1000 + SIGKILL) ++killed;
    if (std::filesystem::exists(checkpoint)) ++begun;
  }
  EXPECT_GE(killed, 4);
  EXPECT_GE(begun, 1);
  const Outcome last = vitrine(resumable);
  ASSERT_EQ(last.exit, 0) << last.err;
  EXPECT_THAT(last.err, HasSubstr("of 200 lines had been read before: "));
  json resumed = last.json();
  EXPECT_TRUE(resumed["neurons"] == whole["neurons"]);
  EXPECT_EQ(resumed["tokens"], whole["tokens"]);
  // Complete, it answers without reading the text through the model again.
  const Outcome again = vitrine(command() + Words{"--checkpoint", checkpoint, "--layer", "0"});
  EXPECT_THAT(again.err, HasSubstr("200 of 200 lines had been read before"));
  const Outcome other = vitrine(command() + Words{"--checkpoint", checkpoint, "--contexts", "3"});
  EXPECT_EQ(other.exit, 3);
  EXPECT_THAT(other.err, HasSubstr("another number of contexts a neuron (10, not 3)"));
}

TEST_F(NeuronsOfText, CtrlCSaves) {
  const std::string checkpoint = folder_ / "checkpoint.safetensors",
                    held_out = test::data() / "held-out.txt";
  const Words words =
      command(held_out) + Words{"--checkpoint", checkpoint, "--save-every", "0", "--threads", "1"};
  Running run(words);
  for (int i = 0; i < 400 && !std::filesystem::exists(checkpoint); ++i)
    std::this_thread::sleep_for(std::chrono::milliseconds(25));
  run.interrupt();
  EXPECT_EQ(run.finish().exit, 130);
  const Outcome o = vitrine(words);
  ASSERT_EQ(o.exit, 0) << o.err;
  EXPECT_THAT(o.err, HasSubstr("lines had been read before"));
}

TEST_F(NeuronsOfText, AnyBytesAndAnyLength) {
  const std::string odd = folder_ / "odd.txt";
  write_text(odd,
             std::string("a NUL \0 and\xff\xfe no UTF-8\n\n", 24) + "last line without an end");
  const Words words = command(odd) + Words{"--layer", "0", "--neuron", "0"};
  const Outcome o = vitrine(words);
  ASSERT_EQ(o.exit, 0) << o.err;
  EXPECT_THAT(o.out, AllOf(HasSubstr("2 lines"), HasSubstr("2 contexts")));
  EXPECT_EQ(vitrine(words + kJson).json()["neurons"][0]["contexts"].size(), 2U);

  std::string giant;  // one line of thousands of tokens
  for (int i = 0; i < 800; ++i) giant += "The old king of the hill ";
  write_text(odd, giant);
  const json j = vitrine(words + kJson).json();
  EXPECT_EQ(j["lines"], 1);
  EXPECT_EQ(j["long_lines"], 1);
  EXPECT_GT(j["tokens"], 4000);
  EXPECT_EQ(j["neurons"][0]["contexts"].size(), 1U);
  EXPECT_THAT(vitrine(words).out, HasSubstr("1 line longer than the context, read in pieces"));
}

TEST_F(NeuronsOfText, ByIdsWithoutATokenizer) {
  const std::string ids = folder_ / "ids.jsonl";
  write_text(ids, "{\"tokens\": [1, 2, 3]}\n{\"tokens\": [96]}\n");
  const Words words =
      command(ids) + Words{"--model", tiny_model().string(), "--layer", "2", "--neuron", "191"};
  const json j = vitrine(words + kJson).json();
  EXPECT_TRUE(j["neurons"][0]["contexts"][0]["str_tokens"].is_null());
  EXPECT_THAT(vitrine(words).out, HasSubstr("[96]"));
  EXPECT_THAT(vitrine({"neurons", "--corpus", file_, "--model", tiny_model().string()}).err,
              HasSubstr("text.txt, line 1: this is text, and the model has no tokenizer"));
}

TEST_F(NeuronsOfText, BosIsNoContext) {
  const json j = vitrine(command() + Words{"--prepend-bos"} + kJson).json();
  EXPECT_EQ(j["bos"], 0);
  EXPECT_EQ(j["tokens"], vitrine(command() + kJson).json()["tokens"]);
  for (const json& n : j["neurons"])
    ASSERT_NE(n["contexts"][0]["tokens"][n["contexts"][0]["peak"].get<std::size_t>()], 0);
}

TEST_F(NeuronsOfText, Mistakes) {
  const auto fails = [](int exit, const Words& words, const std::string& said) {
    const Outcome o = vitrine(words);
    EXPECT_EQ(o.exit, exit) << said;
    EXPECT_EQ(o.out, "");
    EXPECT_THAT(o.err, HasSubstr(said));
  };
  fails(3, command(folder_ / "none.txt"), "none.txt");
  fails(3, command(folder_.path()), folder_.path().string());
  write_text(folder_ / "empty.txt", "");
  fails(3, command(folder_ / "empty.txt"), "empty.txt: there is no text in it");
  fails(2, command() + Words{"--layer", "6"}, "there is no layer 6");
  fails(2, command() + Words{"--layer", "2", "--neuron", "1024"}, "layer 2 has no neuron 1024");
  fails(2, command() + Words{"--neuron", "4"}, "give --layer L too");
  fails(2, command() + Words{"--contexts", "0"}, "--contexts");
  fails(2, command() + Words{"--answer", " Austin"},
        "--pos, --answer and --wrong are about a prompt");
  fails(1, command() + Words{"--checkpoint", folder_ / "none/c"}, "there is no folder");
  fails(2, command() + Words{"--checkpoint", file_ + ".json", "--out", file_ + ".json"},
        "two names");
  fails(3, command() + Words{"--checkpoint", file_}, "text.txt");
}

// A pipe is empty when it is read again.
TEST_F(NeuronsOfText, APipeIsToldFromAnEmptyFile) {
  const Outcome o =
      shell("echo The capital of Texas is Austin. | vitrine neurons --corpus /dev/stdin --quiet");
  EXPECT_EQ(o.exit, 3);
  EXPECT_THAT(o.err, HasSubstr("this is no ordinary file"));
}

}  // namespace
}  // namespace vitrine::test
