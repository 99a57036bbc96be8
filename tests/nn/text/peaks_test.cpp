// Keeping the strongest, beside sorting everything.
#include "nn/text/peaks.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <random>
#include <tuple>
#include <vector>

namespace vitrine::nn {
namespace {

using Row = std::tuple<float, std::int64_t, std::int32_t>;

std::vector<Row> rows_of(const Peaks& peaks, std::int64_t neuron) {
  std::vector<Row> rows;
  for (const Peak& p : peaks.of(neuron)) rows.emplace_back(p.activation, p.line, p.position);
  return rows;
}

TEST(Peaks, KeepsTheStrongestInOrder) {
  Peaks peaks(2, 2);
  EXPECT_TRUE(peaks.offer(1, {.activation = 1, .position = 4, .line = 1}));
  EXPECT_TRUE(peaks.offer(1, {.activation = -2, .position = 5, .line = 2}));
  EXPECT_EQ(peaks.threshold(1), -2);
  EXPECT_TRUE(peaks.offer(1, {.activation = 3, .position = 6, .line = 3}));
  EXPECT_FALSE(peaks.offer(1, {.activation = 1, .position = 7, .line = 4})) << "the first stays";
  EXPECT_EQ(rows_of(peaks, 1), (std::vector<Row>{{3.F, 3, 6}, {1.F, 1, 4}}));
  EXPECT_TRUE(peaks.of(0).empty());
}

TEST(Peaks, OfOneLineTheStrongest) {
  Peaks peaks(1, 3);
  peaks.offer(0, {.activation = 1, .position = 0, .line = 1});
  peaks.offer(0, {.activation = 2, .position = 0, .line = 2});
  EXPECT_FALSE(peaks.offer(0, {.activation = 2, .position = 9, .line = 2}));
  EXPECT_TRUE(peaks.offer(0, {.activation = 5, .position = 9, .line = 2}));
  EXPECT_EQ(rows_of(peaks, 0), (std::vector<Row>{{5.F, 2, 9}, {1.F, 1, 0}}));
  EXPECT_EQ(peaks.threshold(0), -std::numeric_limits<float>::infinity()) << "there is room";
}

// Few different values, so that many are equal; several offers a line.
TEST(Peaks, EqualsSortingEverything) {
  std::minstd_rand draw(3);
  for (const int kept : {1, 2, 7, 50}) {
    Peaks peaks(1, kept);
    std::map<std::int64_t, Peak> of_line;
    for (int i = 0; i < 400; ++i) {
      const Peak p{static_cast<float>(draw() % 9), i, i / 3 + 1};
      peaks.offer(0, p);
      const auto [at, fresh] = of_line.emplace(p.line, p);
      if (!fresh && p.activation > at->second.activation) at->second = p;
    }
    std::vector<Peak> all;
    for (const auto& [line, p] : of_line) all.push_back(p);
    std::stable_sort(all.begin(), all.end(),
                     [](const Peak& a, const Peak& b) { return a.activation > b.activation; });
    const auto found = peaks.of(0);
    ASSERT_EQ(found.size(), std::min(all.size(), static_cast<std::size_t>(kept)));
    for (std::size_t i = 0; i < found.size(); ++i) {
      EXPECT_EQ(found[i].activation, all[i].activation) << kept << ", " << i;
      EXPECT_EQ(found[i].line, all[i].line) << kept << ", " << i;
      EXPECT_EQ(found[i].position, all[i].position) << kept << ", " << i;
    }
  }
}

}  // namespace
}  // namespace vitrine::nn
