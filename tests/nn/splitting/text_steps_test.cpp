// Tests nn/splitting/text_steps.cpp: each step alone, and what follows from several.
#include "nn/splitting/text_steps.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "nn/splitting/regular_expression.h"

namespace vitrine::nn {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using Steps = TextSteps;
using enum TextSteps::Behavior;
using enum TextSteps::PrependScheme;

Steps::Pattern regex(const char* pattern) {
  return std::make_shared<const RegularExpression>(pattern, "here");
}

std::vector<std::string> pieces(const Steps& steps, std::string_view text, bool at_start = true) {
  std::vector<std::string> found;
  MadeTexts made;
  steps.split(text, at_start, made, [&](std::string_view piece) { found.emplace_back(piece); });
  return found;
}

std::vector<std::string> split(TextSteps::Behavior behavior, bool invert = false) {
  return pieces({{}, {Steps::Split{"-", behavior, invert}}}, "-the--final-");
}

TEST(TextSteps, ASplitTreatsItsMatchesAsItSays) {
  EXPECT_THAT(split(isolated), ElementsAre("-", "the", "-", "-", "final", "-"));
  EXPECT_THAT(split(removed), ElementsAre("the", "final"));
  EXPECT_THAT(split(removed, true), ElementsAre("-", "-", "-", "-"));
  EXPECT_THAT(split(merged_with_previous), ElementsAre("-", "the-", "-", "final-"));
  EXPECT_THAT(split(merged_with_next), ElementsAre("-the", "-", "-final", "-"));
  EXPECT_THAT(split(contiguous), ElementsAre("-", "the", "--", "final", "-"));
}

TEST(TextSteps, StepsCutThePiecesOfTheOnesBefore) {
  const Steps smollm{{}, {Steps::Digits{true}, Steps::ByteLevel{}}};
  EXPECT_THAT(pieces(smollm, "a  12 b"), ElementsAre("a", "  ", "1", "2", " b"));
  EXPECT_THAT(pieces({{}, {Steps::Digits{false}}}, "a12\u00bdb3"),
              ElementsAre("a", "12\u00bd", "b", "3"));
  EXPECT_THAT(pieces({{}, {Steps::Split{regex("[ab]+"), removed}, Steps::Digits{true}}}, "1a22b"),
              ElementsAre("1", "2", "2"));
  EXPECT_THAT(pieces({{}, {}}, "a b"), ElementsAre("a b"));
  EXPECT_THAT(pieces({{}, {}}, ""), IsEmpty());
}

TEST(TextSteps, ASpaceIsPutInFrontWhereTheStepSaysSo) {
  EXPECT_THAT(pieces({{}, {Steps::ByteLevel{true, true}}}, "a b"), ElementsAre(" a", " b"));
  EXPECT_THAT(pieces({{}, {Steps::ByteLevel{true, true}}}, " a b"), ElementsAre(" a", " b"));
  const auto meta = [](auto scheme, std::string_view text, bool at_start) {
    return pieces({{}, {Steps::Metaspace{"\u2581", scheme, true}}}, text, at_start);
  };
  EXPECT_THAT(meta(always, "a  b", false), ElementsAre("\u2581a", "\u2581", "\u2581b"));
  EXPECT_THAT(meta(first, "a b", true), ElementsAre("\u2581a", "\u2581b"));
  EXPECT_THAT(meta(first, "a b", false), ElementsAre("a", "\u2581b"));
  EXPECT_THAT(meta(first, " a", true), ElementsAre("\u2581a"));  // there is one already
  EXPECT_THAT(meta(never, "a b", true), ElementsAre("a", "\u2581b"));
  // Of several pieces the first alone is at the start.
  EXPECT_THAT(pieces({{}, {Steps::Digits{true}, Steps::Metaspace{"_", first, false}}}, "1a"),
              ElementsAre("_1", "a"));
}

TEST(TextSteps, NormalizersChangeATextInOrder) {
  const Steps steps{
      {Steps::Prepend{"_"}, Steps::Replace{" ", "_"}, Steps::Replace{regex("_{2,}"), "="}}, {}, {}};
  MadeTexts made;
  EXPECT_EQ(steps.normalize("a b  c", made), "_a_b=c");
  EXPECT_EQ(steps.normalize("", made), "");
  const Steps nfc{{Steps::Nfc{}}};
  EXPECT_EQ(nfc.normalize("e\u0301", made), "\u00e9");
  const std::string_view same = "unchanged";
  EXPECT_EQ(nfc.normalize(same, made).data(), same.data());
}

TEST(TextSteps, DecodersUndoWhatWasDone) {
  Steps steps{{},
              {},
              {Steps::ReplaceText{"\u2581", " "}, Steps::ByteFallback{}, Steps::Fuse{},
               Steps::Strip{" ", 1}}};
  EXPECT_EQ(steps.decode_token("\u2581the"), " the");
  EXPECT_EQ(steps.decode_token("<0x0A>"), "\n");
  EXPECT_EQ(steps.decode_token("<0xfF>"), "\xff");
  for (const char* token : {"<0x0G>", "<0x0A", "0x0A>>", "<0x00A>"})
    EXPECT_EQ(steps.decode_token(token), token);
  std::string text = "  two";
  steps.decode_whole(text);
  EXPECT_EQ(text, " two");
  EXPECT_EQ(steps.decode_first_token("\u2581\u2581a"), "  a");
  steps.decoders = {Steps::Metaspace{"\u2581", always, true}};
  EXPECT_EQ(steps.decode_first_token("\u2581\u2581a"), "a");
  EXPECT_EQ(steps.decode_token("\u2581\u2581a"), "  a");
  steps.decoders = {Steps::Metaspace{"\u2581", never, true}};
  EXPECT_EQ(steps.decode_first_token("\u2581a"), " a");
}

TEST(TextSteps, SayWhatFollowsFromThem) {
  EXPECT_TRUE(Steps{}.is_gpt2());
  EXPECT_TRUE(Steps{}.keeps_text());
  const auto with = [](Steps::PreTokenizer step) {
    return Steps{{}, {std::move(step), Steps::ByteLevel{}}};
  };
  EXPECT_FALSE(with(Steps::Digits{true}).is_gpt2());
  EXPECT_TRUE(with(Steps::Digits{true}).keeps_text());
  EXPECT_TRUE(with(Steps::Digits{true}).byte_level());
  EXPECT_FALSE(with(Steps::Split{"a", removed}).keeps_text());
  EXPECT_TRUE(with(Steps::Metaspace{"_", first}).puts_space_first());
  EXPECT_FALSE(with(Steps::Metaspace{"_", never}).puts_space_first());
  const Steps llama{{Steps::Prepend{"_"}}, {}, {}};
  EXPECT_TRUE(llama.puts_space_first());
  EXPECT_FALSE(llama.byte_level());
  EXPECT_FALSE(llama.keeps_text());
  EXPECT_FALSE((Steps{{Steps::Nfc{}}}.keeps_text()));
}

}  // namespace
}  // namespace vitrine::nn
