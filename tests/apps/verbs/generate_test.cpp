#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tensor/files/file.h"
#include "tests/apps/program.h"
#include "tests/tensor/temporary_folder.h"

namespace vitrine::test {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;

json generate(std::vector<std::string> more) {
  more.insert(more.begin(), {"generate", "--format", "json"});
  const Outcome o = vitrine(more);
  EXPECT_EQ(o.exit, 0) << o.err;
  return o.json();
}

TEST(Generate, GreedyContinuesWithTheMostProbableTokens) {
  const json j = generate({"--prompt", "The capital of Texas is", "--max-tokens", "4"});
  EXPECT_EQ(j["text"].get<std::string>().substr(0, 7), " Austin");
  // Each new token is what predict says after the tokens before it.
  json tokens = j["prompt_tokens"];
  ASSERT_FALSE(j["tokens"].empty());
  for (const json& id : j["tokens"]) {
    std::string list;
    for (const json& t : tokens) list += (list.empty() ? "" : ",") + t.dump();
    EXPECT_EQ(vitrine({"predict", "--tokens", list, "--format", "json"}).json()["top"][0]["id"],
              id);
    tokens.push_back(id);
  }
}

TEST(Generate, TextIsPromptAndContinuation) {
  const json j = generate({"--prompt", "The capital of Texas is", "--max-tokens", "8"});
  const Outcome o =
      vitrine({"generate", "--prompt", "The capital of Texas is", "--max-tokens", "8"});
  EXPECT_EQ(o.exit, 0);
  EXPECT_EQ(o.err, "");
  EXPECT_EQ(o.out, "The capital of Texas is" + j["text"].get<std::string>() + "\n");
  const test::TemporaryFolder folder;
  EXPECT_EQ(vitrine({"generate", "--prompt", "The capital of Texas is", "--max-tokens", "8",
                     "--out", folder / "text"})
                .out,
            "");
  EXPECT_EQ(read_text(folder / "text"), o.out);
}

TEST(Generate, StopsAtTheEndOfText) {
  const json j = generate({"--prompt", "The capital of France is", "--max-tokens", "200"});
  EXPECT_EQ(j["stopped"], "end of text");
  EXPECT_LT(j["tokens"].size(), 200u);
  EXPECT_THAT(j["text"].get<std::string>(), ::testing::Not(HasSubstr("<|endoftext|>")));
  for (const json& id : j["tokens"]) EXPECT_NE(id, 0);
}

TEST(Generate, ASeedGivesTheSameTextAgain) {
  const auto sampled = [](const std::string& seed) {
    return generate({"--tokens", "300,400,500", "--model", default_model(), "--temperature", "1.2",
                     "--seed", seed, "--max-tokens", "12"})["tokens"];
  };
  EXPECT_EQ(sampled("1"), sampled("1"));
  EXPECT_NE(sampled("1"), sampled("2"));
}

TEST(Generate, TopKOrTopPAloneDraw) {
  const auto tokens = [](std::vector<std::string> more) {
    more.insert(more.end(), {"--prompt", "It was", "--max-tokens", "12"});
    return generate(more)["tokens"];
  };
  const json greedy = tokens({});
  EXPECT_EQ(tokens({"--top-k", "1"}), greedy);  // nothing else to draw from
  EXPECT_NE(tokens({"--top-k", "50"}), greedy);
  EXPECT_NE(tokens({"--top-p", "0.95"}), greedy);
  EXPECT_EQ(tokens({"--top-k", "50", "--temperature", "0"}), greedy);
}

TEST(Generate, TheDefaultCountGivesWayToTheContext) {
  std::string ids = "1";
  for (int i = 1; i < 30; ++i) ids += ",1";  // of a context of 32
  const json j = generate({"--model", tiny_model(), "--tokens", ids});
  EXPECT_EQ(j["tokens"].size(), 3u);  // the last is not read, so it needs no place
  EXPECT_EQ(j["stopped"], "length");
  EXPECT_TRUE(j["text"].is_null());  // no tokenizer
  const Outcome o =
      vitrine({"generate", "--model", tiny_model(), "--tokens", ids, "--max-tokens", "4"});
  EXPECT_EQ(o.exit, 3);
  EXPECT_THAT(o.err, HasSubstr("context is 32; ask for at most 3"));
  EXPECT_EQ(o.out, "");
}

TEST(Generate, WithoutATokenizerIdsArePrinted) {
  const Outcome o =
      vitrine({"generate", "--model", tiny_model(), "--tokens", "1,2", "--max-tokens", "3"});
  EXPECT_EQ(o.exit, 0) << o.err;
  EXPECT_THAT(o.out, ::testing::MatchesRegex("1 2 [0-9]+ [0-9]+ [0-9]+\n"));
}

TEST(Generate, OnlyWholeCharactersArePrinted) {
  // Bytes that are drawn at random make no text: what comes out must be UTF-8 all the same.
  const Outcome o = vitrine({"generate", "--tokens", "173,254", "--temperature", "1000",
                             "--max-tokens", "60", "--seed", "5"});
  EXPECT_EQ(o.exit, 0) << o.err;
  EXPECT_NO_THROW(json(o.out).dump());  // throws for what is not UTF-8
}

}  // namespace
}  // namespace vitrine::test
