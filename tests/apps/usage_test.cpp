// What is asked for wrongly: exit code 2, and a message that helps.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/apps/program.h"

namespace vitrine::test {
namespace {

using ::testing::HasSubstr;

void expect_usage_error(const std::vector<std::string>& arguments, const std::string& message) {
  const Outcome o = vitrine(arguments);
  EXPECT_EQ(o.exit, 2) << message;
  EXPECT_EQ(o.out, "");
  EXPECT_TRUE(o.err.starts_with("vitrine: ")) << o.err;
  EXPECT_THAT(o.err, HasSubstr(message));
}

TEST(Usage, UnknownVerb) {
  expect_usage_error({"predit"}, "there is no verb 'predit' (did you mean predict?)");
  expect_usage_error({"tokenise"}, "did you mean tokenize?");
  expect_usage_error({"xyzzy"}, "there is no verb 'xyzzy'; see 'vitrine --help'");
  expect_usage_error({"--model", "x"}, "the verb comes first, not '--model'");
  expect_usage_error({"help", "predit"}, "there is no verb 'predit'");
}

TEST(Usage, UnknownOption) {
  expect_usage_error({"predict", "--promt", "x"},
                     "there is no option '--promt' (did you mean --prompt?)");
  expect_usage_error({"cache", "--site=x", "--tokens", "1"}, "did you mean --sites?");
  expect_usage_error({"predict", "--promt", "x"}, "see 'vitrine predict --help'");
  expect_usage_error({"predict", "stray", "--tokens", "1"}, "unexpected argument 'stray'");
}

TEST(Usage, PromptIsNeededOnce) {
  for (const char* verb : {"predict", "generate", "tokenize"}) {
    expect_usage_error({verb}, "there is no prompt; give --prompt TEXT");
    expect_usage_error({verb, "--prompt", "a", "--tokens", "1"}, "--prompt or --tokens, not both");
  }
  expect_usage_error({"cache", "--out", "x"}, "there is no prompt");
}

TEST(Usage, WrongTokenListsShowTheItem) {
  expect_usage_error({"predict", "--tokens", "1,x"}, "item 2 is 'x', which is not a token id");
  expect_usage_error({"predict", "--tokens", "1,,2"}, "item 2 is ''");
  expect_usage_error({"predict", "--tokens", "1,"}, "item 2 is ''");
  expect_usage_error({"predict", "--tokens", "1.5"}, "item 1 is '1.5'");
  expect_usage_error({"predict", "--tokens", "1,99999999999"}, "item 2 is '99999999999'");
  expect_usage_error({"tokenize", "--decode", "1", "x"}, "ids: item 1 is 'x'");
}

TEST(Usage, ValuesOutOfRange) {
  expect_usage_error({"predict", "--tokens", "1", "--top", "0"}, "--top");
  expect_usage_error({"predict", "--tokens", "1", "--top", "many"},
                     "'many' is not a whole number from 1");
  expect_usage_error({"predict", "--tokens", "1", "--threads", "0"}, "--threads");
  expect_usage_error({"predict", "--tokens", "1", "--seed", "-1"}, "--seed");
  expect_usage_error({"predict", "--tokens", "1", "--format", "xml"}, "{table,json}");
  expect_usage_error({"predict", "--tokens", "1", "--color", "red"}, "{auto,always,never}");
  expect_usage_error({"predict", "--tokens"}, "--tokens");
  expect_usage_error({"generate", "--tokens", "1", "--max-tokens", "0"}, "--max-tokens");
  expect_usage_error({"generate", "--tokens", "1", "--temperature", "-1"}, "temperature");
  expect_usage_error({"generate", "--tokens", "1", "--temperature", "nan"}, "temperature");
  expect_usage_error({"predict", "--tokens", "1", "--seed", "99999999999999999999"}, "--seed");
  expect_usage_error({"generate", "--tokens", "1", "--top-k", "-1"}, "top-k");
  expect_usage_error({"generate", "--tokens", "1", "--top-p", "0"}, "top-p");
  expect_usage_error({"generate", "--tokens", "1", "--top-p", "1.5"}, "top-p");
  expect_usage_error({"info", "--length", "0"}, "--length");
  expect_usage_error({"info", "--graph", "svg"}, "{text,dot}");
}

TEST(Usage, OptionsThatDoNotGoTogether) {
  expect_usage_error({"info", "--graph", "dot", "--sites"}, "--sites");
  expect_usage_error({"tokenize", "hello"},
                     "unexpected argument 'hello'; text is given with --prompt");
  expect_usage_error({"tokenize", "--decode", "--prompt", "a"}, "--decode takes ids");
  expect_usage_error({"tokenize", "--decode", "--special", "1"}, "leave them out with --decode");
  expect_usage_error({"tokenize", "--prompt", "a", "--jsonl", "f"}, "not several");
  expect_usage_error({"tokenize", "--decode", "--tokens", "1", "2"}, "not several");
}

TEST(Usage, ActivationsNeedAFile) {
  expect_usage_error({"cache", "--tokens", "1"}, "give --out FILE.safetensors");
  expect_usage_error({"cache", "--tokens", "1", "--out", "-"}, "give --out FILE.safetensors");
}

}  // namespace
}  // namespace vitrine::test
