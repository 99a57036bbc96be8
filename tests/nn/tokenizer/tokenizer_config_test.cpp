// Tests nn/tokenizer/tokenizer_config.cpp: tokens that only the files beside a vocabulary name. The expected
// ids are those that transformers' AutoTokenizer gives for the same folder.
#include "nn/tokenizer/tokenizer_config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tensor/error.h"
#include "tensor/files/file.h"
#include "tests/tensor/expect_error.h"
#include "tests/tensor/temporary_folder.h"

namespace vitrine::nn {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

// A slow GPT-2 folder: <s> and </s> are tokens of the vocabulary, "<", "s" and ">" are as well.
class SlowFolder : public ::testing::Test {
 protected:
  SlowFolder() {
    write_text(folder_ / "vocab.json",
               R"({"<s>": 0, "</s>": 1, "a": 2, "b": 3, "<": 4, ">": 5, "/": 6, "s": 7, "ab": 8})");
    write_text(folder_ / "merges.txt", "#version: 0.2\na b\n");
  }
  void write(const char* name, std::string_view text) { write_text(folder_ / name, text); }
  Tokenizer load() const { return Tokenizer::load(folder_.path()); }
  std::vector<int> ids(std::string_view text) const {
    return load().encode(text, Special::as_tokens);
  }
  const test::TemporaryFolder folder_;
};

TEST_F(SlowFolder, WithoutOtherFilesOnlyEndOfTextIsSpecial) {
  EXPECT_THAT(ids("<s>ab"), ElementsAre(4, 7, 5, 8));
  EXPECT_THAT(ids("ab<|endoftext|>"), ElementsAre(8, 9));  // GPT2Tokenizer adds it
}

TEST_F(SlowFolder, TokensThatTheDecoderListsSplitTheText) {
  write("tokenizer_config.json", R"({"tokenizer_class": "GPT2Tokenizer", "add_prefix_space": false,
      "added_tokens_decoder": {
        "0": {"content": "<s>", "lstrip": false, "normalized": true, "rstrip": false,
              "single_word": false, "special": true},
        "9": {"content": "ab s", "special": false},
        "1": {"content": "</s>", "special": true}},
      "bos_token": "<s>", "eos_token": "</s>", "unk_token": "</s>"})");
  EXPECT_THAT(ids("<s>ab</s>ab s"), ElementsAre(0, 8, 1, 9));
  const Tokenizer tokenizer = load();
  EXPECT_EQ(tokenizer.vocabulary_size(), 10);  // no <|endoftext|>: all its roles are taken
  ASSERT_EQ(tokenizer.added_tokens().size(), 3u);
  EXPECT_TRUE(tokenizer.added_tokens()[0].special);
  EXPECT_TRUE(tokenizer.added_tokens()[0].normalized);
  EXPECT_FALSE(tokenizer.added_tokens()[2].special);
  EXPECT_TRUE(tokenizer.added_tokens()[2].normalized);
  EXPECT_THAT(tokenizer.encode("<s>"), ElementsAre(4, 7, 5));  // as text
}

TEST_F(SlowFolder, NewTokensGetTheNextFreeIds) {
  write("tokenizer_config.json", R"({"bos_token": "<s>", "eos_token": {"__type": "AddedToken",
      "content": "</s>", "lstrip": false, "normalized": true, "rstrip": false,
      "single_word": false}, "unk_token": null, "pad_token": "<pad>", "image_token": "<img>",
      "additional_special_tokens": ["<x>", "<s>",
      {"__type": "AddedToken", "content": "<y>"}]})");
  // In the order pad_token, image_token, then the list.
  EXPECT_THAT(ids("<s></s><pad><img><x><y>"), ElementsAre(0, 1, 9, 10, 11, 12));
  EXPECT_EQ(load().vocabulary_size(), 13);
  EXPECT_TRUE(load().added_tokens()[4].special);
  EXPECT_FALSE(load().added_tokens()[5].special);
  EXPECT_TRUE(load().added_tokens()[5].normalized);
}

TEST_F(SlowFolder, TheMapAndAddedTokensOfOlderFolders) {
  write("special_tokens_map.json", R"({"bos_token": "<s>", "unk_token": "<s>", "eos_token":
      {"content": "</s>", "lstrip": false, "rstrip": false, "single_word": false,
       "normalized": true}, "additional_special_tokens": ["<new>"],
      "image_token": {"content": "<i>"}})");
  write("added_tokens.json", R"({"<new>": 10, "word": 9})");
  EXPECT_THAT(ids("<s>ab<new>word</s><i>"), ElementsAre(0, 8, 10, 9, 1, 11));
  const Tokenizer tokenizer = load();
  for (const AddedToken& token : tokenizer.added_tokens()) {
    EXPECT_EQ(token.special, token.content != "word") << token.content;
    EXPECT_EQ(token.normalized, token.content == "word" || token.content == "</s>")
        << token.content;
  }
  // A list of all of them in tokenizer_config.json takes the place of both files.
  write("tokenizer_config.json", R"({"added_tokens_decoder": {"0": {"content": "<s>"}},
      "bos_token": "<s>", "eos_token": "<s>", "unk_token": "<s>"})");
  EXPECT_THAT(ids("<s></s>"), ElementsAre(0, 4, 6, 7, 5));
}

TEST_F(SlowFolder, BesideTokenizerJsonTokensItDoesNotHaveAreAdded) {
  write("tokenizer.json", R"({"added_tokens": [{"id": 2, "content": "<s>", "special": true}],
      "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false},
      "decoder": {"type": "ByteLevel"},
      "model": {"type": "BPE", "vocab": {"a": 0, "b": 1}, "merges": []}})");
  EXPECT_THAT(ids("<s>a"), ElementsAre(2, 0));
  EXPECT_EQ(load().vocabulary_size(), 3);  // no GPT2Tokenizer, no <|endoftext|>
  write("tokenizer_config.json", R"({"tokenizer_class": "GPT2Tokenizer", "bos_token": "<s>",
      "pad_token": "<pad>", "unk_token": null})");
  EXPECT_THAT(ids("<s>a<|endoftext|><pad>"), ElementsAre(2, 0, 3, 4));
}

TEST_F(SlowFolder, ABeginningOfTextTokenIsPutBeforePrompts) {
  write("tokenizer_config.json", R"({"add_bos_token": true, "bos_token": "<s>"})");
  EXPECT_THAT(load().first(), ElementsAre(0));
  EXPECT_THAT(load().encode_prompt("ab"), ElementsAre(0, 8));
  EXPECT_THAT(load().encode_prompt(""), ElementsAre(0));
  EXPECT_THAT(load().encode_prompt("<s>ab", Special::as_tokens), ElementsAre(0, 0, 8));
  EXPECT_THAT(load().encode("ab"), ElementsAre(8));
  write("tokenizer_config.json", R"({"add_bos_token": true, "add_eos_token": false})");
  EXPECT_THAT(load().encode_prompt("ab"), ElementsAre(9, 8));  // the default, <|endoftext|>
  write("tokenizer_config.json", R"({"add_bos_token": true, "bos_token": null})");
  EXPECT_THAT(load().encode_prompt("ab"), ElementsAre(8));  // there is none
  write("tokenizer_config.json", R"({"add_eos_token": true, "eos_token": null})");
  EXPECT_THAT(load().encode_prompt("ab"), ElementsAre(8));
  write("tokenizer_config.json", R"({"add_eos_token": true})");
  EXPECT_ERROR(
      ConfigError,
      "tokenizer_config.json: add_eos_token: expected false, found true; putting a token after",
      load());
  write("tokenizer_config.json", R"({"add_bos_token": 1})");
  EXPECT_ERROR(FileError, "add_bos_token: expected true or false, found 1", load());
  // Transformers passes over both beside a tokenizer.json, whose post_processor says it.
  write("tokenizer.json", R"({"pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false},
      "decoder": {"type": "ByteLevel"}, "model": {"type": "BPE", "vocab": {"a": 0, "b": 1},
      "merges": []}})");
  write("tokenizer_config.json", R"({"add_bos_token": true, "add_eos_token": true,
      "bos_token": "a", "eos_token": "a"})");
  EXPECT_THAT(load().encode_prompt("ab"), ElementsAre(0, 1));
}

TEST_F(SlowFolder, AGapLeavesNoPlaceForATokenWithoutAnId) {
  write("vocab.json", R"({"a": 0, "b": 1, "ab": 5})");
  EXPECT_EQ(load().vocabulary_size(), 6);  // <|endoftext|> is left out
  write("tokenizer_config.json", R"({"pad_token": "<pad>"})");
  EXPECT_ERROR(FileError, "the token \"<pad>\" is not among these and no file says its id", load());
  write("added_tokens.json", R"({"<pad>": 3})");
  EXPECT_EQ(load().find("<pad>"), 3);
  write("tokenizer_config.json", R"({"add_bos_token": true})");
  EXPECT_ERROR(FileError, "the token \"<|endoftext|>\" is not among these", load());
}

TEST_F(SlowFolder, WhatWouldChangeTheIdsIsRefusedByName) {
  const auto refused = [&](const char* config, const char* what) {
    write("tokenizer_config.json", config);
    EXPECT_ERROR(ConfigError, what, load());
  };
  refused(R"({"add_prefix_space": true})", "add_prefix_space: expected false, found true");
  refused(R"({"split_special_tokens": true})", "split_special_tokens: expected false, found true");
  refused(R"({"tokenizer_class": "RobertaTokenizer"})",
          "tokenizer_class: expected \"GPT2Tokenizer\", found \"RobertaTokenizer\"; no other is "
          "supported beside vocab.json");
  refused(R"({"added_tokens_decoder": {"0": {"content": "<s>", "single_word": true}}})",
          "added_tokens_decoder.0.single_word: expected false, found true");
  refused(R"({"additional_special_tokens": [{"content": "<x>", "single_word": true}]})",
          "additional_special_tokens[0].single_word: expected false, found true");
  refused(R"({"pad_token": {"content": "<x>", "colour": 3}})",
          "pad_token.colour: this field is not known");
}

TEST_F(SlowFolder, ATokenMayTakeTheWhiteSpaceAroundIt) {
  write("tokenizer_config.json", R"({"unk_token": null, "bos_token": null, "eos_token": null,
      "pad_token": {"__type": "AddedToken", "content": "<x>", "lstrip": true},
      "mask_token": {"__type": "AddedToken", "content": "<y>", "rstrip": true}})");
  const std::vector<int> both = ids("<x><y>");
  ASSERT_EQ(both.size(), 2u);
  EXPECT_EQ(ids(" \n<x><y>\t "), both);
  EXPECT_EQ(ids("<y>  <x>"), (std::vector<int>{both[1], both[0]}));
}

TEST_F(SlowFolder, WhatIsMalformedIsNamed) {
  const auto refused = [&](const char* file, const char* text, const char* what) {
    write(file, text);
    EXPECT_ERROR(FileError, what, load());
    write(file, "{}");
  };
  const char* config = "tokenizer_config.json";
  refused(config, "[]", "tokenizer_config.json: expected an object, found an empty list");
  refused(config, "{", "not valid JSON");
  refused(config, R"({"bos_token": 3})",
          "bos_token: expected a text, a token with \"content\", or null, found 3");
  refused(config, R"({"bos_token": {}})",
          "bos_token: expected an object with a text \"content\", found an empty object");
  refused(config, R"({"added_tokens_decoder": []})",
          "added_tokens_decoder: expected an object, found an empty list");
  refused(config, R"({"added_tokens_decoder": {"x": {"content": "<s>"}}})",
          "added_tokens_decoder.x: the key must be a token id");
  refused(config, R"({"added_tokens_decoder": {"0": {"content": "<s>"}, "00": {"content": "b"}}})",
          "the id is there twice");
  refused(config, R"({"added_tokens_decoder": {"3": {"content": "<s>"}}})",
          "token \"<s>\" has the id 0 here, but 3 among the added tokens");
  refused(config, R"({"added_tokens_decoder": {"0": {"content": ""}}})", "is empty");
  refused(config, R"({"extra_special_tokens": "<x>"})",
          "extra_special_tokens: expected a list of tokens");
  refused("special_tokens_map.json", R"({"bos_token": [1]})",
          "special_tokens_map.json: bos_token: expected a text, a token");
  refused("added_tokens.json", R"({"x": 9, "y": 9})", "tokens \"x\" and \"y\" have the same id 9");
}

}  // namespace
}  // namespace vitrine::nn
