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

// NaN, infinities, what is no number and nothing at all are refused alike wherever a number is
// taken, and the range is said.
TEST(Usage, NumbersAreFinite) {
  struct Option {
    std::vector<std::string> verb;
    std::string name, range;
  };
  const std::vector<Option> options = {
      {{"generate"}, "--temperature", "a number from 0 to 1e+06"},
      {{"generate"}, "--top-p", "a number above 0, at most 1"},
      {{"steer"}, "--scale", "a number from -1e+09 to 1e+09"},
      {{"steer"}, "--temperature", "a number from 0 to 1e+06"},
      {{"neurons"}, "--save-every", "a number from 0 to 1e+09"},
      {{"train"}, "--rate", "a number above 0, at most 1000"},
      {{"train"}, "--last-rate", "a number from 0 to 1"},
      {{"train"}, "--beta2", "a number from 0 to 0.999999"},
      {{"train"}, "--decay", "a number from 0 to 1e+09"},
      {{"train"}, "--clip", "a number from 0 to 1e+09"},
      {{"train"}, "--dropout", "a number from 0 to 0.95"},
      {{"train"}, "--attention-dropout", "a number from 0 to 0.95"},
      {{"train"}, "--ema", "a number from 0 to 0.999999"},
      {{"train"}, "--validation", "a number from 0 to 0.5"},
      {{"train"}, "--begun", "a number from 0 to 1"},
      {{"train"}, "--initializer-range", "a number from 1e-06 to 10"},
      {{"sae", "train"}, "--rate", "a number above 0, at most 1000"},
      {{"sae", "train"}, "--k", "a number above 0, at most 1e+09"},
      {{"sae", "train"}, "--sparsity", "a number from 0 to 1e+09"},
      {{"sae", "train"}, "--bandwidth", "a number above 0, at most 1e+09"},
      {{"sae", "train"}, "--aux", "a number from 0 to 1e+09"},
      {{"sae", "train"}, "--last-rate", "a number from 0 to 1"},
      {{"sae", "train"}, "--clip", "a number from 0 to 1e+09"},
      {{"sae", "train"}, "--save-every", "a number from 0 to 1e+09"},
      {{"sae", "train"}, "--widths", "a whole number from 1 to"},
      {{"influence"}, "--source-pos", "a whole number from 0 to"},
      {{"predict"}, "--top", "a whole number from 1 to"},
      {{"predict"}, "--seed", "a whole number from 0 to 18446744073709551615"},
  };
  for (const Option& option : options) {
    for (const std::string value :
         {"nan", "-nan", "inf", "-inf", "1e309", "-1e30", "", "x", "1x"}) {
      auto arguments = option.verb;
      if (value.empty()) arguments.insert(arguments.end(), {option.name, ""});
      else arguments.push_back(option.name + "=" + value);
      expect_usage_error(arguments, option.name + ": '" + value + "' is not " + option.range);
    }
  }
}

TEST(Usage, ASweepTakesWhatTheOptionTakes) {
  const auto sweep = [](const std::string& what) {
    return std::vector<std::string>{"sae", "train",    "--out", "none/such", "--activations",
                                    "x",   "--tensor", "x",     "--sweep",   what};
  };
  for (const std::string value : {"nan", "inf", "-1", "0", "1e309", "", "x"}) {
    expect_usage_error(sweep("rate=0.1," + value),
                       "--sweep rate: '" + value + "' is not a number above 0, at most 1000");
  }
  expect_usage_error(sweep("k=nan"), "--sweep k: 'nan' is not a number above 0");
  expect_usage_error(sweep("sparsity=-1"), "--sweep sparsity: '-1' is not a number from 0");
  expect_usage_error(sweep("aux=inf"), "--sweep aux: 'inf' is not a number from 0");
  expect_usage_error(sweep("bandwidth=0"), "--sweep bandwidth: '0' is not a number above 0");
  expect_usage_error(sweep("features=1e30"),
                     "--sweep features: '1e30' is not a whole number from 1");
  expect_usage_error(sweep("features=2.5"), "--sweep features: '2.5' is not a whole number from 1");
  expect_usage_error(sweep("seed=-1"), "--sweep seed: '-1' is not a whole number from 0");
  expect_usage_error(sweep("kk=1"), "--sweep knows no 'kk'");
}

TEST(Usage, AnEmptyValueIsRefused) {
  for (const char* option : {"--out", "--model", "--format", "--gauge", "--color"})
    expect_usage_error({"predict", "--tokens", "1", option, ""},
                       std::string(option) + ": '' is no value; give ");
  expect_usage_error({"lens", "--tokens", "1", "--pos", ""}, "--pos: '' is no value; give P|all");
  expect_usage_error({"patch", "--site", ""}, "--site: '' is no value; give S");
  expect_usage_error({"steer", "--site", ""}, "--site: '' is no value; give S");
  expect_usage_error({"cache", "--tokens", "1", "--sites", ""}, "--sites: '' is no value");
  expect_usage_error({"train", "--data", ""}, "--data: '' is no value; give FILE");
  expect_usage_error({"neurons", "--corpus", ""}, "--corpus: '' is no value; give FILE");
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

TEST(Usage, AnOptionIsGivenOnceAndWithItsValue) {
  expect_usage_error({"predict", "--tokens", "1", "--top", "3", "--top", "4"},
                     "--top is given twice, and takes one value: --top K");
  expect_usage_error({"steer", "--metric", "prob", "--metric", "logit", "--metric", "kl"},
                     "--metric is given 3 times, and takes one value: --metric NAME|EXPRESSION");
  expect_usage_error({"predict", "--tokens", "1", "--top"}, "--top needs a value: --top K");
  expect_usage_error({"patch", "--clean", "a"}, "--site is required; give it a value: --site S");
  expect_usage_error({"predict", "--tokens", "1", "--format", "jsn"},
                     "--format: 'jsn' is none of {table,json} (did you mean json?)");
  expect_usage_error({"serve", "--no-sae", "--sae", "x"}, "not both");
  expect_usage_error({"predict", "--tokens", "1", "--quiet=maybe"},
                     "--quiet is a switch, which takes no value; give it alone");
}

TEST(Usage, FilesOfPromptsAndOfPairs) {
  expect_usage_error({"ablate", "--pairs", "pairs.jsonl"},
                     "there is no option '--pairs': nothing is compared with corrupt prompts here; "
                     "give the file to --prompts");
  for (const char* verb : {"patch", "attribute", "circuit"}) {
    expect_usage_error({verb, "--prompts", "prompts.jsonl"},
                       "there is no option '--prompts': two runs are compared here, so a file has "
                       "pairs of prompts; give it to --pairs: one {\"clean\": ..., \"corrupt\"");
  }
}

TEST(Usage, ListsOfWholeNumbersTakeRanges) {
  expect_usage_error({"patch", "--site", "z", "--head", "1-x"},
                     "--head: '1-x' is not a whole number from 0 to 2147483647; a list of them is "
                     "1,2,3 or 1-3");
  expect_usage_error({"patch", "--site", "z", "--head", "3-1"}, "--head: '3-1' is not");
  expect_usage_error({"patch", "--site", "z", "--head", "0-99999999"}, "'0-99999999' is not");
  expect_usage_error({"predict", "--tokens", "1", "--edit", "zero 1.z head=1-x"},
                     "head: '1-x' is not a whole number from 0, nor a range such as 1-3");
  const auto narrowed = [](const std::string& heads, const std::string& positions) {
    return vitrine({"patch", "--clean", "The capital of Texas is", "--corrupt",
                    "The capital of Ohio is", "--answer", " Austin", "--wrong", " Columbus",
                    "--site", "z", "--by", "head,pos", "--head", heads, "--pos", positions,
                    "--format", "json"})
        .json();
  };
  const nlohmann::json listed = narrowed("0,1,2", "1,3,4"), range = narrowed("0-2", "1,3-4");
  EXPECT_EQ(range["narrowed"], listed["narrowed"]);
  EXPECT_EQ(range["values"], listed["values"]);
  const auto edited = [](const std::string& edit) {
    return vitrine({"predict", "--tokens", "5,6,7,8", "--edit", edit, "--format", "json"}).json();
  };
  EXPECT_EQ(edited("zero z head=0-2 pos=1-3")["top"], edited("zero z head=0,1,2 pos=1,2,3")["top"]);
}

TEST(Usage, ActivationsNeedAFile) {
  expect_usage_error({"cache", "--tokens", "1"}, "give --out FILE.safetensors");
  expect_usage_error({"cache", "--tokens", "1", "--out", "-"}, "give --out FILE.safetensors");
}

}  // namespace
}  // namespace vitrine::test
