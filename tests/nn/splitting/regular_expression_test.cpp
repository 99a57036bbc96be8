// Tests nn/splitting/regular_expression.cpp: matches are Oniguruma's, as HuggingFace's Split gives them.
#include "nn/splitting/regular_expression.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <string_view>
#include <vector>

#include "nn/splitting/pretokenize.h"
#include "tensor/error.h"
#include "tests/tensor/expect_error.h"

namespace vitrine::nn {
namespace {

using test::message_of;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

std::vector<std::string> matches(std::string_view pattern, std::string_view text) {
  const RegularExpression expression(pattern, "here");
  std::vector<std::string> found;
  std::size_t begin = 0;
  for (auto m = expression.find(text, 0); m; m = expression.find(text, begin)) {
    found.emplace_back(text.substr(m->begin, m->end - m->begin));
    begin = m->end;
  }
  return found;
}

constexpr std::string_view kLlama3 =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

TEST(RegularExpression, FindsWhatLlama3Splits) {
  EXPECT_THAT(matches(kLlama3, "IT'S we'll  12345 (x)\n\n  a\u00e9!\r\n z  "),
              ElementsAre("IT", "'S", " we", "'ll", " ", " ", "123", "45", " (", "x", ")\n\n", " ",
                          " a\u00e9", "!\r\n", " z", "  "));
  EXPECT_THAT(matches(kLlama3, "x'\u017F \n\t\n y"), ElementsAre("x", "'\u017F", " \n\t\n", " y"));
}

TEST(RegularExpression, TakesAsMuchAsPossibleAndGivesBack) {
  EXPECT_THAT(matches("a*ab", "aaab ab b"), ElementsAre("aaab", "ab"));
  EXPECT_THAT(matches("a{2,3}", "aaaaaaa a"), ElementsAre("aaa", "aaa"));
  EXPECT_THAT(matches("a{,2}b", "aaab"), ElementsAre("aab"));
  EXPECT_THAT(matches("a{2,}", "a aaaa"), ElementsAre("aaaa"));
  EXPECT_THAT(matches("a{2}", "aaaaa"), ElementsAre("aa", "aa"));
  EXPECT_THAT(matches("\u00e9+\u00e9x", "\u00e9\u00e9\u00e9x"), ElementsAre("\u00e9\u00e9\u00e9x"));
  EXPECT_THAT(matches("a++a|b", "aaab"), ElementsAre("b"));  // nothing is given back
  EXPECT_THAT(matches("a?+ab|c", "abc"), ElementsAre("c"));
}

TEST(RegularExpression, TakesTheFirstAlternativeThatMatches) {
  EXPECT_THAT(matches("t|th|the", "the"), ElementsAre("t"));
  EXPECT_THAT(matches("(t|th)e", "the te"), ElementsAre("the", "te"));
  EXPECT_THAT(matches("x(?:a|b(?:c|d))?e", "xe xae xbde xbe"), ElementsAre("xe", "xae", "xbde"));
}

TEST(RegularExpression, KnowsClasses) {
  EXPECT_THAT(matches(R"([a-c\-x]+)", "ab-cdx-"), ElementsAre("ab-c", "x-"));
  EXPECT_THAT(matches(R"([^(\s|[.,!]]+)", "a(b |c,d"), ElementsAre("a", "b", "c", "d"));
  EXPECT_THAT(matches(R"([\p{Lu}\p{M}]+)", "aB\u0301C1"), ElementsAre("B\u0301C"));
  EXPECT_THAT(matches(R"([\S]+)", "a \u3000b"), ElementsAre("a", "b"));
  EXPECT_THAT(matches(R"(\P{L}+)", "a12b"), ElementsAre("12"));
  EXPECT_THAT(matches(R"([\p{^L}x]+)", "a1xb"), ElementsAre("1x"));
  EXPECT_THAT(matches(R"(\d+)", "\u0663\u00bd4"), ElementsAre("\u0663", "4"));  // Nd alone
  EXPECT_THAT(matches(".+", "ab\nc"), ElementsAre("ab", "c"));
  EXPECT_THAT(matches("[\u4e00-\u9fa5]+", "a\u5317\u4eacb"), ElementsAre("\u5317\u4eac"));
  EXPECT_THAT(matches("[a-]", "-a"), ElementsAre("-", "a"));
}

TEST(RegularExpression, LooksAhead) {
  EXPECT_THAT(matches(R"(a(?=b))", "abac"), ElementsAre("a"));
  EXPECT_THAT(matches(R"(a(?!b)|b)", "abac"), ElementsAre("b", "a"));
  EXPECT_THAT(matches(R"(\s+(?!\S))", "a   b "), ElementsAre("  ", " "));
}

TEST(RegularExpression, IgnoresCaseAsUnicodeFoldsIt) {
  EXPECT_THAT(matches("(?i:'s|k)", "'S 's '\u017F k K \u212A S"),
              ElementsAre("'S", "'s", "'\u017F", "k", "K", "\u212A"));
  EXPECT_THAT(matches("(?i:a)b", "Ab AB"), ElementsAre("Ab"));
}

TEST(RegularExpression, TakesInvalidBytesForPunctuation) {
  EXPECT_THAT(matches(R"([^\s\p{L}\p{N}]+)", "a\xff\xfe b\xc3"), ElementsAre("\xff\xfe", "\xc3"));
  EXPECT_THAT(matches(R"(\p{L}+x)", "\xc3\x28\x80x"), IsEmpty());
}

// GPT-2's pattern is matched by hand; read as a pattern like others it matches the same.
TEST(RegularExpression, MatchesGpt2ByHandAndByThePattern) {
  const std::string gpt2 =
      R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";
  const RegularExpression by_hand(gpt2, "here"), by_pattern(gpt2 + "|z", "here");
  const std::string text = "We're  IT'S 12a\u00bd \n\n\t x\u3000y!\xff? \u65e5\u672c 's   ";
  for (std::size_t begin = 0; begin < text.size();) {
    const std::size_t end = piece_end(text, begin);
    EXPECT_EQ(by_hand.match_end(text, begin), end);
    EXPECT_EQ(by_pattern.match_end(text, begin), end) << begin;
    begin = end;
  }
}

TEST(RegularExpression, LongRunsTakeLinearTime) {
  const std::string spaces = std::string(2'000'000, ' ') + "a";
  EXPECT_EQ(matches(kLlama3, spaces).size(), 2u);
  EXPECT_EQ(matches(kLlama3, std::string(2'000'000, 'A')).size(), 1u);
}

TEST(RegularExpression, AContrivedPatternIsStopped) {
  const RegularExpression slow("a*a*a*a*a*b", "here");
  EXPECT_THAT(message_of<TokenError>([&] { (void)slow.find(std::string(5000, 'a'), 0); }),
              HasSubstr("a*a*a*a*a*b\" takes too long on this text"));
}

TEST(RegularExpression, RefusesByNameWhatItDoesNotKnow) {
  const auto refused = [](std::string_view pattern, std::string_view found) {
    EXPECT_THAT(message_of<ConfigError>([&] { RegularExpression(pattern, "file: x.Regex"); }),
                AllOf(HasSubstr("file: x.Regex: "), HasSubstr(std::string(found))))
        << pattern;
  };
  refused(R"(\w+)", R"(found "\\w" at 0 (this escape))");
  refused(R"(a\b)", R"(found "\\b" at 1)");
  refused("(ab)+", R"(found "+" at 4 (a group that repeats))");
  refused("(ab){2}", "a group that repeats");
  refused("a+?", R"(found "+?" at 1 (a quantifier that takes as little as possible))");
  refused("a**", "a quantifier of a quantifier");
  refused("a{2}+", "a quantifier of a quantifier");
  refused("^a", "an anchor");
  refused("a$", "an anchor");
  refused("a{x}", "a brace that counts nothing");
  refused("{", "a brace that counts nothing");
  refused("(?<=a)b", R"(found "(?<=" at 0 (a group of this kind))");
  refused("(?<name>a)", "a group of this kind");
  refused("(?i)a", "a group of this kind");
  refused(R"(\p{Han})", R"(found "\\p{Han}" at 0 (of these, only general categories)");
  refused("[a&&b]", "the intersection of classes");
  refused("[[:alpha:]]", "a POSIX class");
  refused("[]a]", "a class that begins with ]");
  refused(R"([\s-a])", "a range that begins with a class");
  refused(R"([a-\s])", "a range that ends in a class");
  refused("(?i:\u00e9)", "a letter beyond ASCII");
  refused("(?i:[a])", "a class inside (?i:...)");
  refused(R"((?i:\s))", "inside (?i:...)");
  refused("(?i:class)", "\"ss\" inside (?i:...)");
  refused("(?i:f+)", "\"ff\" inside (?i:...)");
  refused("a*", "matches the empty text");
  refused("x|(?=a)", "matches the empty text");
  refused("", "matches the empty text");
  refused("(a", "a ( without its )");
  refused("a)", "a ) too many");
  refused("[a", "a [ without its ]");
  refused("[b-a]", "a range whose end is before its beginning");
  refused("+", "a quantifier that follows nothing");
  refused("a\\", "a backslash at the end");
  refused(R"(\p{L)", "\\p without {...}");
  refused("a{99999}", "a count above 10000");
  refused(std::string(100, '('), "too many groups inside each other");
  refused("\xff", "bytes that are not UTF-8");
}

}  // namespace
}  // namespace vitrine::nn
