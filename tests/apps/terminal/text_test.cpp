#include "apps/terminal/text.h"

#include <gtest/gtest.h>

namespace vitrine::app {
namespace {

TEST(Text, WidthCountsColumnsOfATerminal) {
  EXPECT_EQ(display_width(""), 0);
  EXPECT_EQ(display_width("abc"), 3);
  EXPECT_EQ(display_width("é"), 1);
  EXPECT_EQ(display_width("e\u0301"), 1);  // a combining accent
  EXPECT_EQ(display_width("日本"), 4);
  EXPECT_EQ(display_width("🦊"), 2);
  EXPECT_EQ(display_width("\x1b[1;32mab\x1b[0m"), 2);
  EXPECT_EQ(display_width("\x1b["), 0);  // an escape sequence that never ends
}

TEST(Text, ShortenedTextsEndWithDots) {
  EXPECT_EQ(shortened("abcd", 4), "abcd");
  EXPECT_EQ(shortened("abcde", 4), "abc…");
  EXPECT_EQ(shortened("日本語", 4), "日…");  // a wide character is not cut in half
  EXPECT_EQ(shortened("éééé", 3), "éé…");
}

TEST(Text, ControlCharactersAndBrokenUtf8AreMadeVisible) {
  EXPECT_EQ(visible("a\n\t\rb"), "a\\n\\t\\rb");
  EXPECT_EQ(visible("\xf0\x9f"), "\\xf0\\x9f");
  EXPECT_EQ(visible("\x1b[31m"), "\\x1b[31m");  // no token can colour the terminal
  EXPECT_EQ(visible("é"), "é");
}

TEST(Text, TableAlignsByWidth) {
  Table table({{"name", Table::Align::left}, {"n", Table::Align::right}});
  table.row({"日本", "7"});
  table.row({"a", "10"});
  EXPECT_EQ(table.text({}), "name   n\n日本   7\na     10\n");
}

TEST(Text, WideTablesHaveShorterTextsAndThenBlocks) {
  Table table(
      {{"what", Table::Align::left}, {"n", Table::Align::right}, {"m", Table::Align::right}});
  table.row({"a long name of something", "1000000", "2000000"});
  EXPECT_EQ(table.text({}),
            "what                            n        m\n"
            "a long name of something  1000000  2000000\n");
  EXPECT_EQ(table.text({false, 36}),
            "what                      n        m\n"
            "a long name of so…  1000000  2000000\n");
  EXPECT_EQ(table.text({false, 25}),
            "what                n\n"
            "a long name…  1000000\n"
            "\n"
            "what                m\n"
            "a long name…  2000000\n");
  EXPECT_EQ(shortened("\x1b[1mabcde\x1b[0m", 4), "\x1b[1mabc…\x1b[0m");
}

TEST(Text, TableWithoutTitlesHasNoTitleLine) {
  Table table({{}, {}});
  table.row({"a", "b"});
  EXPECT_EQ(table.text({}), "a  b\n");
}

TEST(Text, ColoursAreLeftOutUnlessAskedFor) {
  EXPECT_EQ(Style{false}.strong("x"), "x");
  EXPECT_EQ(Style{true}.strong("x"), "\x1b[1;32mx\x1b[0m");
  EXPECT_EQ(Style{true}.strong(""), "");
}

TEST(Text, BarsGrowInEighths) {
  EXPECT_EQ(bar(0, 4), "");
  EXPECT_EQ(bar(1, 4), "████");
  EXPECT_EQ(bar(0.5, 4), "██");
  EXPECT_EQ(bar(1.0 / 32, 4), "▏");
  EXPECT_EQ(bar(2, 4), "████");
}

TEST(Text, NumbersForPeople) {
  EXPECT_EQ(percent(0.97994), "97.99%");
  EXPECT_EQ(percent(0.00001), "<0.01%");
  EXPECT_EQ(percent(0), "0.00%");  // exactly none
  EXPECT_EQ(percent(1), "100.00%");
  EXPECT_EQ(byte_size(999), "999 B");
  EXPECT_EQ(byte_size(18'020'352), "18.0 MB");
  EXPECT_EQ(grouped(0), "0");
  EXPECT_EQ(grouped(124439808), "124,439,808");
  EXPECT_EQ(grouped(-1000), "-1,000");
  EXPECT_EQ(grouped(-100), "-100");
}

}  // namespace
}  // namespace vitrine::app
