#include "apps/terminal/heatmap.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace vitrine::app {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

const Heatmap kMap{{{"head", {"0", "1", "2"}}}, {"layer 0", "layer 1"}, {0, 1.5, -10, 0.01, 0, 20}};

TEST(Heatmap, WithoutColoursNumbersHaveSigns) {
  EXPECT_EQ(kMap.text({}, 100),
            "head        0      1       2\n"
            "layer 0     ·  +1.50  -10.00\n"
            "layer 1 +0.01      ·  +20.00\n");
}

TEST(Heatmap, LessIsBlueAndMoreIsRed) {
  const std::string text = kMap.text({true}, 100);
  EXPECT_THAT(text, HasSubstr("\x1b[38;5;16;48;5;196m +20.00 \x1b[0m"));  // the largest: full red
  EXPECT_THAT(text, HasSubstr("\x1b[38;5;16;48;5;68m -10.00 \x1b[0m"));   // half of it, less
  EXPECT_THAT(text, HasSubstr("\x1b[38;5;167m +1.50 \x1b[0m"));           // a little: letters
  EXPECT_THAT(text, HasSubstr("\x1b[0m +0.01      · "));  // next to nothing: no ground
}

TEST(Heatmap, WhatRoundsToZeroHasNoSign) {
  const Heatmap map{{{"head", {"0", "1", "2"}}}, {"a"}, {-0.0049, 0.0049, -0.0051}};
  EXPECT_EQ(map.text({}, 100),
            "head    0     1      2\n"
            "a    0.00  0.00  -0.01\n");
}

TEST(Heatmap, SharesHaveNoSign) {
  const Heatmap map{{{"from", {"0", "1", "2"}}}, {"a"}, {0.25, 0, 0.754}, false};
  EXPECT_EQ(map.text({}, 100),
            "from    0  1     2\n"
            "a    0.25  ·  0.75\n");
}

TEST(Heatmap, NothingAtAllHasNoColour) {
  EXPECT_THAT((Heatmap{{{"", {"0"}}}, {"a"}, {0}}).text({true}, 100), Not(HasSubstr("48;5")));
}

TEST(Heatmap, WhatDoesNotFitStandsBelow) {
  EXPECT_EQ(kMap.text({}, 24),
            "head        0      1\n"
            "layer 0     ·  +1.50\n"
            "layer 1 +0.01      ·\n"
            "\n"
            "head         2\n"
            "layer 0 -10.00\n"
            "layer 1 +20.00\n");
}

TEST(Heatmap, OfManyBlocksTheLargestColumnsAreShown) {
  Heatmap map{{{"", {}}}, {"a"}, {}};
  for (int c = 0; c < 9; ++c) {
    map.titles[0].columns.push_back(std::to_string(c));
    map.cells.push_back(c == 4 ? 9 : c);
  }
  EXPECT_EQ(map.text({}, 15),  // one for the row, seven for +9.00: two in each block
            "      1      2\na +1.00  +2.00\n\n"
            "      3      4\na +3.00  +9.00\n\n"
            "      5      6\na +5.00  +6.00\n\n"
            "      7      8\na +7.00  +8.00\n"
            "(8 of 9 columns: those with the largest numbers)\n");
  EXPECT_THAT(map.text({}, 1), HasSubstr("(4 of 9 columns"));  // one in a block there is always
}

TEST(Heatmap, LongTitlesAreCut) {
  const Heatmap map{{{"", {"\" internationalisation\""}}}, {"a"}, {0}};
  EXPECT_EQ(map.text({}, 100), "  \" internation…\na              ·\n");
}

}  // namespace
}  // namespace vitrine::app
