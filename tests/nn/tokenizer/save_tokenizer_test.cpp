// Tests nn/tokenizer/save_tokenizer.h: what is saved loads again and gives the same ids.
#include "nn/tokenizer/save_tokenizer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <nlohmann/json.hpp>
#include <random>
#include <string>

#include "nn/tokenizer/train_tokenizer.h"
#include "tensor/error.h"
#include "tensor/files/file.h"
#include "tests/support.h"
#include "tests/tensor/expect_error.h"
#include "tests/tensor/temporary_folder.h"

namespace vitrine::nn {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;
using ::testing::UnorderedElementsAre;

// Words, numbers, other alphabets, and bytes that are not UTF-8.
std::string random_text(std::mt19937& random) {
  const char* const parts[] = {"the",     " quick", "ing", " ",    "\n",       "12",
                               "'re",     "北",     "é",   "\xff", "\x80\xe2", "<|endoftext|>",
                               "<extra>", "\"",     "\\",  "Ġ"};
  std::string text;
  for (unsigned length = random() % 30; length > 0; --length) {
    text += parts[random() % std::size(parts)];
  }
  return text;
}

void expect_same(const Tokenizer& a, const Tokenizer& b) {
  EXPECT_EQ(a.tokens(), b.tokens());
  EXPECT_EQ(a.ignore_merges(), b.ignore_merges());
  ASSERT_EQ(a.merges().size(), b.merges().size());
  ASSERT_EQ(a.added_tokens().size(), b.added_tokens().size());
  for (const AddedToken& token : a.added_tokens()) {
    EXPECT_EQ(b.find(token.content), token.id);
  }
  std::mt19937 random(5);
  for (int i = 0; i < 300; ++i) {
    const std::string text = random_text(random);
    for (const Special special : {Special::as_text, Special::as_tokens}) {
      ASSERT_EQ(a.encode(text, special), b.encode(text, special)) << text;
    }
  }
}

// Through tokenizer.json, and through vocab.json and merges.txt.
void expect_round_trip(const Tokenizer& tokenizer) {
  const test::TemporaryFolder folder;
  save_tokenizer(tokenizer, folder.path());
  expect_same(tokenizer, Tokenizer::load(folder.path()));
  fs::remove(folder / "tokenizer.json");
  expect_same(tokenizer, Tokenizer::load(folder.path()));
}

Tokenizer trained() {
  std::mt19937 random(1);
  WordCounts counts;
  for (int i = 0; i < 100; ++i) counts.add(random_text(random));
  return Tokenizer(train_tokenizer(counts, {.vocabulary = 300}), "trained");
}

TEST(SaveTokenizer, ATrainedOne) {
  expect_round_trip(trained());
  const test::TemporaryFolder folder;
  save_tokenizer(trained(), folder / "made" / "for it");
  EXPECT_TRUE(fs::exists(folder / "made" / "for it" / "tokenizer.json"));
  save_tokenizer(trained(), folder.path());
  EXPECT_THAT(folder.names(),
              UnorderedElementsAre("made", "tokenizer.json", "vocab.json", "merges.txt"));
  save_tokenizer(trained(), folder.path());  // over the files that are there
  expect_same(trained(), Tokenizer::load(folder.path()));
}

TEST(SaveTokenizer, TheOneThatShips) {
  const Tokenizer shipped = Tokenizer::load(VITRINE_DEFAULT_MODEL);
  expect_round_trip(shipped);
  const test::TemporaryFolder folder;
  save_tokenizer(shipped, folder.path());
  for (const char* file : {"vocab.json", "merges.txt", "tokenizer.json"}) {
    EXPECT_EQ(read_text(folder / file), read_text(fs::path(VITRINE_DEFAULT_MODEL) / file)) << file;
  }
}

TEST(SaveTokenizer, AsHuggingFaceWritesIt) {
  const fs::path original = test::shared() / "reference/atlas-gpt2";
  VITRINE_NEEDS_SHARED("reference/atlas-gpt2");
  const Tokenizer written = Tokenizer::load(original);
  expect_round_trip(written);
  const test::TemporaryFolder folder;
  save_tokenizer(written, folder.path());
  EXPECT_EQ(Json::parse(read_text(folder / "vocab.json")),
            Json::parse(read_text(original / "vocab.json")));
  EXPECT_EQ(read_text(folder / "merges.txt"), read_text(original / "merges.txt"));
  Json ours = Json::parse(read_text(folder / "tokenizer.json"));
  const Json theirs = Json::parse(read_text(original / "tokenizer.json"));
  for (Json& merge : ours["model"]["merges"]) {
    const std::string text = merge;
    const std::size_t space = text.find(' ');
    merge = {text.substr(0, space), text.substr(space + 1)};
  }
  EXPECT_EQ(ours, theirs);
}

TEST(SaveTokenizer, OtherAddedTokensAndUnusedIds) {
  const auto json = [](const char* ignore_merges) {
    return std::string(R"({"version": "1.0", "added_tokens": [
      {"id": 4, "content": "<|endoftext|>", "normalized": false, "special": true},
      {"id": 8, "content": "<extra> \"北\"", "normalized": true, "special": false}],
      "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false},
      "decoder": {"type": "ByteLevel"},
      "model": {"type": "BPE", "ignore_merges": )") +
           ignore_merges +
           R"(, "vocab": {"a": 0, "b": 1, "ab": 2, "Ġ": 3, "<|endoftext|>": 4, "ba": 6},
           "merges": ["a b"]}})";
  };
  const Tokenizer tokenizer = Tokenizer::parse_tokenizer_json(json("false"), "here");
  const test::TemporaryFolder folder;
  save_tokenizer(tokenizer, folder.path());
  EXPECT_THAT(folder.names(), UnorderedElementsAre("tokenizer.json", "vocab.json", "merges.txt",
                                                   "added_tokens.json"));
  const auto check = [&](bool all) {
    const Tokenizer again = Tokenizer::load(folder.path());
    EXPECT_EQ(again.tokens(), tokenizer.tokens());
    EXPECT_EQ(again.encode("abba ab"), tokenizer.encode("abba ab"));
    EXPECT_EQ(again.encode("ab<extra> \"北\"<|endoftext|>", Special::as_tokens),
              (std::vector<int>{2, 8, 4}));
    ASSERT_EQ(again.added_tokens().size(), 2u);
    if (!all) return;
    EXPECT_TRUE(again.added_tokens()[1].normalized);
    EXPECT_FALSE(again.added_tokens()[1].special);
  };
  check(true);
  fs::remove(folder / "tokenizer.json");
  check(false);

  const test::TemporaryFolder alone;  // vocab.json could not say that pieces are not split
  const Tokenizer whole = Tokenizer::parse_tokenizer_json(json("true"), "here");
  save_tokenizer(whole, alone.path());
  EXPECT_THAT(alone.names(), UnorderedElementsAre("tokenizer.json"));
  EXPECT_EQ(whole.encode("ba"), std::vector<int>{6});
  EXPECT_EQ(Tokenizer::load(alone.path()).encode("ba"), std::vector<int>{6});
}

TEST(SaveTokenizer, WhatIsPutBeforeEveryText) {
  WordCounts counts;
  counts.add("a b");
  Vocabulary vocabulary = train_tokenizer(counts, {.vocabulary = 257});
  vocabulary.first = {*Tokenizer(vocabulary, "trained").end_of_text(), 3};
  const Tokenizer tokenizer(vocabulary, "trained");
  const test::TemporaryFolder folder;
  save_tokenizer(tokenizer, folder.path());  // vocab.json could not say it
  EXPECT_THAT(folder.names(), UnorderedElementsAre("tokenizer.json"));
  const Tokenizer again = Tokenizer::load(folder.path());
  EXPECT_EQ(again.first(), tokenizer.first());
  EXPECT_EQ(again.encode_prompt("a b"), tokenizer.encode_prompt("a b"));
  const Json template_ = Json::parse(read_text(folder / "tokenizer.json"))["post_processor"];
  EXPECT_EQ(template_["type"], "TemplateProcessing");
  EXPECT_EQ(template_["pair"].size(), 6u);  // first and text, twice
  EXPECT_EQ(template_["special_tokens"]["<|endoftext|>"]["ids"],
            Json::array({*tokenizer.end_of_text()}));
}

TEST(SaveTokenizer, RefusesWhatTheFilesCannotSay) {
  const test::TemporaryFolder folder;
  Vocabulary alike;
  alike.tokens = {" a", "Ġa"};
  alike.added = {{1, "Ġa"}};
  EXPECT_ERROR(SaveError, "two of its tokens are spelled \"Ġa\"",
               save_tokenizer(Tokenizer(alike, "here"), folder.path()));
  Vocabulary bytes;
  bytes.tokens = {"\xff"};
  bytes.added = {{0, "\xff"}};
  EXPECT_ERROR(SaveError, "is not UTF-8", save_tokenizer(Tokenizer(bytes, "here"), folder.path()));
  EXPECT_TRUE(folder.names().empty());
  write_text(folder / "file", "");
  EXPECT_ERROR(SaveError, "cannot make the folder",
               save_tokenizer(trained(), folder / "file" / "x"));
}

}  // namespace
}  // namespace vitrine::nn
