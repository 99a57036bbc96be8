// vitrine predict --prompts, evaluate --prompts: means over prompts, beside single runs.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "tensor/files/file.h"
#include "tests/apps/program.h"
#include "tests/apps/words.h"
#include "tests/tensor/temporary_folder.h"

namespace vitrine::test {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;

struct State {
  const char* name;
  const char* capital;
  const char* coast;
};
constexpr State kStates[] = {{"Texas", "Austin", "south"},
                             {"California", "Sacramento", "west"},
                             {"Ohio", "Columbus", "none"},
                             {"New Mexico", "Sacramento", "none"}};  // wrong, on purpose

std::string states_file(const TemporaryFolder& folder) {
  std::string lines;
  for (const State& s : kStates) {
    lines +=
        json{{"prompt", fmt::format("The capital of {} is", s.name)},
             {"answer", fmt::format(" {}", s.capital)},
             {"wrong", s.capital == std::string("Austin") ? " Columbus" : " Austin"},
             {"coast", s.coast},
             {"cities", s.name == std::string("Ohio") ? json{" Austin"}
                                                      : json{" Columbus", " Phoenix", " Denver"}}}
            .dump() +
        "\n";
  }
  write_text(folder / "states.jsonl", lines);
  return folder / "states.jsonl";
}

// The logits of all tokens after a prompt, by id, from a single run.
std::map<std::string, json> single(const State& s) {
  std::map<std::string, json> by_token;
  const json j = vitrine({"predict", "--prompt", fmt::format("The capital of {} is", s.name),
                          "--format", "json", "--top", "6000"})
                     .json();
  int rank = 0;
  for (json t : j["top"]) {
    t["rank"] = rank++;
    by_token.emplace(t["token"], t);
  }
  return by_token;
}

TEST(MeasuredPrompts, EqualSingleRuns) {
  const TemporaryFolder folder;
  const Words files = {"--prompts", states_file(folder), "--format", "json"};
  const json j =
      vitrine(Words{"predict", "--metric", "logit(answer) - mean(logit(@cities))"} + files).json();
  EXPECT_EQ(j["metrics"], json({"logit_diff", "prob", "rank", "accuracy",
                                "logit(answer) - mean(logit(@cities))"}));
  double sum = 0, squares = 0;
  for (std::size_t i = 0; i < 4; ++i) {
    const json& got = j["prompts"][i];
    const auto logits = single(kStates[i]);
    const json& answer = logits.at(fmt::format(" {}", kStates[i].capital));
    const auto logit = [&](const char* token) { return logits.at(token)["logit"].get<double>(); };
    const double diff = answer["logit"].get<double>() - logit(i == 0 ? " Columbus" : " Austin");
    EXPECT_EQ(got["line"], i + 1);
    EXPECT_NEAR(got["logit_diff"].get<double>(), diff, 2e-5);
    EXPECT_NEAR(got["prob"].get<double>(), answer["prob"].get<double>(), 1e-5);
    EXPECT_EQ(got["rank"], answer["rank"]);
    EXPECT_EQ(got["accuracy"], answer["rank"] == 0 ? 1 : 0);
    EXPECT_EQ(logits.at(got["top"]["token"])["rank"], 0);
    EXPECT_NEAR(got["top"]["prob"].get<double>(), logits.at(got["top"]["token"])["prob"], 1e-5);
    const double cities =
        i == 2 ? logit(" Austin") : (logit(" Columbus") + logit(" Phoenix") + logit(" Denver")) / 3;
    EXPECT_NEAR(got["logit(answer) - mean(logit(@cities))"].get<double>(),
                answer["logit"].get<double>() - cities, 2e-5);
    sum += diff, squares += diff * diff;
  }
  const json& all = j["all"]["logit_diff"];
  EXPECT_EQ(j["all"]["prompts"], 4);
  EXPECT_NEAR(all["mean"].get<double>(), sum / 4, 2e-5);
  EXPECT_NEAR(all["standard_error"].get<double>(), std::sqrt((squares - sum * sum / 4) / 3 / 4),
              2e-5);
  EXPECT_EQ(all["count"], 4);
  EXPECT_TRUE(j["group_by"].is_null());
  EXPECT_EQ(j["groups"], json::array());
  // The same by evaluate.
  const json e = vitrine(Words{"evaluate", "--metric", "logit_diff"} + files).json();
  EXPECT_EQ(e["metrics"], json({"logit_diff"}));
  EXPECT_EQ(e["all"]["logit_diff"], all);
  const json usual = vitrine(Words{"evaluate"} + files).json();
  EXPECT_EQ(usual["metrics"], json({"logit_diff", "prob", "log_prob", "rank", "accuracy", "loss"}));
}

TEST(MeasuredPrompts, Groups) {
  const TemporaryFolder folder;
  const Words files = {"predict", "--prompts", states_file(folder), "--group-by", "coast"};
  const json j = vitrine(files + Words{"--format", "json"}).json();
  EXPECT_EQ(j["group_by"], "coast");
  ASSERT_EQ(j["groups"].size(), 3u);
  EXPECT_EQ(j["groups"][2]["name"], "none");
  EXPECT_EQ(j["groups"][2]["prompts"], 2);
  EXPECT_NEAR(j["groups"][2]["prob"]["mean"].get<double>(),
              (j["prompts"][2]["prob"].get<double>() + j["prompts"][3]["prob"].get<double>()) / 2,
              1e-12);
  EXPECT_TRUE(j["groups"][0]["prob"]["standard_error"].is_null());
  const Outcome o = vitrine(files + Words{"--each"});
  EXPECT_EQ(o.exit, 0) << o.err;
  EXPECT_THAT(o.out, HasSubstr("4 prompts: 3 of 5 tokens, 1 of 6\n\n"));
  EXPECT_THAT(o.out, HasSubstr("coast  prompts"));
  EXPECT_THAT(o.out, HasSubstr("\nnone         2"));
  EXPECT_THAT(o.out, HasSubstr("\nall          4"));
  EXPECT_THAT(o.out, HasSubstr("The capital of Texas is"));
  EXPECT_THAT(o.out, HasSubstr(" ± "));
  const Outcome absent =
      vitrine({"predict", "--prompts", states_file(folder), "--group-by", "cost"});
  EXPECT_EQ(absent.exit, 3);
  EXPECT_THAT(absent.err, HasSubstr("line 1: there is no field \"cost\" to group by"));
}

TEST(MeasuredPrompts, WhatAPromptDoesNotHaveIsLeftOut) {
  const std::string lines =
      "{\"prompt_tokens\": [1, 2, 3], \"answer_token\": 4, \"wrong_token\": 5}\n"
      "{\"prompt_tokens\": [1, 2], \"answer_token\": [[4, 5]]}\n"
      "{\"prompt_tokens\": [7]}\n";
  const Words tiny = {"--model", tiny_model(), "--prompts", "-"};
  const json j = vitrine(Words{"evaluate", "--format", "json"} + tiny, {.input = lines}).json();
  const std::pair<const char*, int> counts[] = {{"logit_diff", 1}, {"prob", 2},     {"log_prob", 2},
                                                {"rank", 1},       {"accuracy", 1}, {"loss", 2}};
  for (const auto& [name, count] : counts) EXPECT_EQ(j["all"][name]["count"], count) << name;
  EXPECT_TRUE(j["prompts"][2]["prob"].is_null());
  EXPECT_TRUE(j["prompts"][2]["top"]["id"].is_number());
  const Outcome needs = vitrine(Words{"evaluate", "--metric", "prob"} + tiny, {.input = lines});
  EXPECT_EQ(needs.exit, 3);
  EXPECT_THAT(needs.err, HasSubstr("stdin:3: there is neither \"answer\" nor \"answer_token\""));
  const Outcome each = vitrine(Words{"predict", "--each"} + tiny, {.input = lines});
  EXPECT_EQ(each.exit, 0) << each.err;
}

TEST(MeasuredPrompts, DivergenceOfAnEditedModelFromTheUnedited) {
  const TemporaryFolder folder;
  const auto kl = [&](const std::string& edit) {
    const Outcome o = vitrine({"evaluate", "--prompts", states_file(folder), "--metric", "kl",
                               "--edit", edit, "--format", "json"});
    EXPECT_EQ(o.exit, 0) << o.err;
    return o.json()["all"]["kl"]["mean"].get<double>();
  };
  EXPECT_GT(kl("zero 2.mlp_out"), 1e-3);
  EXPECT_NEAR(kl("scale 2.mlp_out factor=1"), 0, 1e-6);
}

TEST(MeasuredPrompts, Mistakes) {
  const TemporaryFolder folder;
  const std::string file = states_file(folder);
  const auto refused = [](const Words& words, int exit, const std::string& said) {
    const Outcome o = vitrine(words);
    EXPECT_EQ(o.exit, exit) << o.err;
    EXPECT_THAT(o.err, HasSubstr(said));
  };
  refused({"predict", "--prompts", file, "--metric", "logit(answer) -"}, 2,
          "--metric: expected a number, a metric (logit_diff, prob, ...), a function or '(', not "
          "the end\n  logit(answer) -\n                 ^");
  refused({"evaluate", "--prompts", file, "--metric", "logit(\" two tokens\")"}, 3,
          "not one, in the vocabulary of ");
  refused({"evaluate", "--prompts", file, "--metric", "loss - kl"}, 2,
          "nothing is edited here (--edit): it would be 0\n  loss - kl\n       ^");
  refused({"evaluate"}, 2, "give FILE, a text, or --prompts FILE");
  refused({"evaluate", file, "--prompts", file}, 2, "give FILE, a text, or --prompts, not both");
  refused({"evaluate", "--prompts", file, "--window", "8"}, 2, "--window is about a text");
  refused({"evaluate", file, "--metric", "loss"}, 2, "--metric is about the prompts of a file");
}

TEST(MeasuredPrompts, EditsSayWhatTheyChangePromptByPrompt) {
  const TemporaryFolder folder;
  const std::string file = states_file(folder);
  for (const char* verb : {"predict", "evaluate"}) {
    const auto run = [&](bool edited) {
      std::vector<std::string> words = {verb, "--prompts", file, "--format", "json"};
      if (edited) words.insert(words.end(), {"--edit", "zero blocks.1.attn.hook_z head=0,2"});
      return vitrine(words).json();
    };
    const json plain = run(false), edited = run(true);
    EXPECT_FALSE(plain["all"].contains("logit_diff_change")) << verb;
    double sum = 0, squares = 0;
    const auto count = static_cast<double>(plain["prompts"].size());
    for (std::size_t i = 0; i < plain["prompts"].size(); ++i) {
      const double change = edited["prompts"][i]["logit_diff"].get<double>() -
                            plain["prompts"][i]["logit_diff"].get<double>();
      EXPECT_NEAR(edited["prompts"][i]["logit_diff_change"].get<double>(), change, 1e-9) << verb;
      sum += change;
      squares += change * change;
    }
    const json& all = edited["all"]["logit_diff_change"];
    EXPECT_NEAR(all["mean"].get<double>(), sum / count, 1e-9);
    EXPECT_LT(all["mean"].get<double>(), -1);  // these heads bring the state
    const double variance = (squares - sum * sum / count) / (count - 1);
    EXPECT_NEAR(all["standard_error"].get<double>(), std::sqrt(variance / count), 1e-6);
  }
}

}  // namespace
}  // namespace vitrine::test
