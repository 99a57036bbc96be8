// Tests nn/splitting/normal_form.cpp against Unicode's own rules and examples.
#include "nn/splitting/normal_form.h"

#include <gtest/gtest.h>

#include <string>

#include "tensor/files/utf8.h"

namespace vitrine::nn {
namespace {

TEST(NormalFormC, ComposesAndPutsMarksInOrder) {
  const auto expect = [](std::string_view text, std::string_view normal) {
    EXPECT_EQ(normal_form_c(text), normal) << quote(text);
    EXPECT_EQ(normal_form_c(normal), normal);
    EXPECT_TRUE(text == normal || !surely_normal_form_c(text)) << quote(text);
  };
  expect("plain ASCII", "plain ASCII");
  expect("e\u0301", "\u00e9");
  expect("caf\u00e9", "caf\u00e9");
  expect("a\u0323\u0307", "\u1ea1\u0307");  // two marks of different classes
  expect("a\u0307\u0323", "\u1ea1\u0307");  // which come in order first
  expect("a\u0315\u0300\u05ae\u0300b", "\u00e0\u05ae\u0300\u0315b");  // of Unicode's test file
  expect("\u212b", "\u00c5");                                         // one character for another
  expect("\u0958", "\u0915\u093c");                                   // excluded from composition
  expect("\u1100\u1161", "\uac00");                                   // Hangul
  expect("\u1100\u1161\u11a8", "\uac01");
  expect("\uac00\u11a8", "\uac01");
  expect("\u1100\u11a8", "\u1100\u11a8");
  expect("\uac00\u11a7", "\uac00\u11a7");  // not a trailing consonant
  expect("\u0344", "\u0308\u0301");
  expect("\U0001d15e", "\U0001d157\U0001d165");
  expect("\u0041\u0327\u030a",
         "\u00c5\u0327");  // the first mark does not compose and does not block
  expect("\u0041\u0301\u030a", "\u00c1\u030a");
}

TEST(NormalFormC, LeavesInvalidBytesAlone) {
  EXPECT_EQ(normal_form_c("e\u0301\xff\u0301e\xcc"), "\u00e9\xff\u0301e\xcc");
}

TEST(NormalFormC, LongTextsAreNormalisedInParts) {
  std::string text, normal;
  for (int i = 0; i < 20'000; ++i) {
    text += "e\u0301 \u1100\u1161";
    normal += "\u00e9 \uac00";
  }
  EXPECT_EQ(normal_form_c(text), normal);
  EXPECT_TRUE(surely_normal_form_c("\u00e9 \uac00 \u65e5"));
}

// What Unicode asks of its tables (UAX 15): each character's form is stable, and parts compose again.
TEST(NormalFormC, TheTablesFitEachOther) {
  char32_t before = 0;
  for (const CanonicalParts& one : unicode_decompositions()) {
    EXPECT_GT(one.composed, before);
    before = one.composed;
    std::string whole, parts;
    append_utf8(whole, one.composed);
    append_utf8(parts, one.first);
    if (one.second != 0) append_utf8(parts, one.second);
    EXPECT_EQ(normal_form_c(whole), normal_form_c(parts)) << std::hex << std::uint32_t(before);
    EXPECT_EQ(normal_form_c(whole) == whole, one.composes);
    EXPECT_EQ(normal_form_c(normal_form_c(whole)), normal_form_c(whole));
  }
  EXPECT_GT(unicode_decompositions().size(), 2000u);
}

}  // namespace
}  // namespace vitrine::nn
