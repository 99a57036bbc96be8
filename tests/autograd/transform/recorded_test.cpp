// Replacements by recorded values: means, other prompts, held values, and other positions.
#include "autograd/transform/recorded.h"

#include <gmock/gmock.h>

#include <set>

#include "autograd/compile/plan.h"
#include "autograd/ops/ops.h"
#include "tests/tensor/expect_error.h"

namespace vitrine {
namespace {

using ::testing::DoubleNear;
using ::testing::Pointwise;

constexpr int kHeads = 2, kWidth = 3;
const Site kS{"s"}, kPattern{"attn.hook_pattern"};

// Prompts of these lengths as packed rows; the site "s" is x [rows, head, feature], and attention
// of s to itself has a pattern.
struct Model {
  Graph graph;
  Feeds feeds;
};
Model model(const std::vector<int>& lengths) {
  std::vector<std::int32_t> sequence, position, keys;
  const int longest = *std::max_element(lengths.begin(), lengths.end());
  for (std::size_t i = 0; i < lengths.size(); ++i) {
    for (int p = 0; p < longest; ++p)
      keys.push_back(p < lengths[i] ? static_cast<int>(sequence.size()) + p : -1);
    for (int p = 0; p < lengths[i]; ++p) {
      sequence.push_back(static_cast<int>(i));
      position.push_back(p);
    }
  }
  const auto rows = static_cast<std::int64_t>(sequence.size());
  const auto prompts = static_cast<std::int64_t>(lengths.size());
  Builder b;
  const RowValues tables{b.input("sequence", {DType::i32, {rows}}),
                         b.input("position", {DType::i32, {rows}}),
                         b.input("keys", {DType::i32, {prompts, longest}})};
  b.rows(tables.sequence, tables.position, tables.keys);
  const Value x = b.input("x", {DType::f64, {rows, kHeads, kWidth}});
  const Value s = b.site(kS, x, {Axis::row, Axis::head, Axis::feature});
  b.output("z", attention(s, s, s, tables, 0.5, "attn"));
  Model m;
  m.graph = std::move(b).finish();
  const Tensor numbers = Tensor::empty({rows, kHeads, kWidth}, DType::f64);
  ThreadPool pool(1);
  random::fill_normal(pool, random::Key{7}, numbers);
  m.feeds = {{"sequence", Tensor::of<std::int32_t>({rows}, sequence)},
             {"position", Tensor::of<std::int32_t>({rows}, position)},
             {"keys", Tensor::of<std::int32_t>({prompts, longest}, keys)},
             {"x", numbers}};
  return m;
}

Results run(const Model& m, const Interventions& what = {}) {
  const Graph edited = intervene(m.graph, what);
  return compile(edited, fetch(sites("*"))).run(with_interventions(edited, what, m.feeds), {});
}
std::vector<double> values(const Results& r, const Site& site) {
  return r.raw(site.name).to_vector<double>();
}

TEST(Recorded, MeanIsOverPromptsAndPositions) {
  const Model m = model({3, 2});  // lengths may differ
  const Results clean = run(m);
  const std::vector<double> x = values(clean, kS);
  std::vector<double> want;
  for (std::size_t row = 0; row < 5; ++row) {
    for (std::size_t i = 0; i < 6; ++i) {
      double sum = 0;
      for (std::size_t r = 0; r < 5; ++r) sum += x[r * 6 + i];
      want.push_back(row == 1 || row == 4 ? sum / 5 : x[row * 6 + i]);
    }
  }
  const Interventions what = {mean(kS, clean, {.pos = {1}}, "the corpus")};
  EXPECT_THAT(values(run(m, what), kS), Pointwise(DoubleNear(1e-14), want));
  EXPECT_EQ(what.to_text(), "s[pos 1] = the mean of the corpus\n");
}

TEST(Recorded, MeanByPositionIsOverPrompts) {
  const Model m = model({3, 3});
  const Results clean = run(m);
  const std::vector<double> x = values(clean, kS);
  std::vector<double> want;
  for (int prompt = 0; prompt < 2; ++prompt) {
    for (std::size_t i = 0; i < 18; ++i) want.push_back((x[i] + x[18 + i]) / 2);
  }
  const Interventions what = {mean_by_position(kS, clean)};
  EXPECT_THAT(values(run(m, what), kS), Pointwise(DoubleNear(1e-14), want));
  EXPECT_EQ(what.to_text(), "s = the mean of a recorded run at each position\n");
  // The mean is of every prompt alike: it can be put into a batch of another size.
  const Model three = model({3, 3, 3});
  const std::vector<double> got = values(run(three, what), kS);
  for (std::size_t i = 0; i < got.size(); ++i) EXPECT_NEAR(got[i], want[i % 18], 1e-14);
  EXPECT_ERROR(ShapeError, "does not fit the site", run(model({3, 2}), what));
  EXPECT_ERROR(ShapeError, "different lengths", mean_by_position(kS, run(model({3, 2}))));
}

// A pattern's mean by position: queries stay, prompts are averaged.
TEST(Recorded, MeansOfPatterns) {
  const Model m = model({3, 3});
  const Results clean = run(m);
  const std::vector<double> p = values(clean, kPattern);  // [row, head, key]
  std::vector<double> want;
  for (int prompt = 0; prompt < 2; ++prompt) {
    for (std::size_t i = 0; i < 18; ++i) want.push_back((p[i] + p[18 + i]) / 2);
  }
  EXPECT_THAT(values(run(m, {mean_by_position(kPattern, clean)}), kPattern),
              Pointwise(DoubleNear(1e-14), want));
}

TEST(Recorded, ResampledPromptsAreOthers) {
  const Model m = model({2, 2, 2, 2, 2});
  const Results clean = run(m);
  const std::vector<double> x = values(clean, kS), p = values(clean, kPattern);
  std::set<std::vector<std::int64_t>> seen;
  for (std::uint64_t k = 0; k < 20; ++k) {
    const Edit e = resample(kS, clean, random::Key{k});
    const std::set<std::int64_t> all(e.permutation.begin(), e.permutation.end());
    EXPECT_EQ(all, (std::set<std::int64_t>{0, 1, 2, 3, 4}));
    const std::vector<double> got = values(run(m, {e}), kS);
    for (std::size_t i = 0; i < 5; ++i) {
      EXPECT_NE(e.permutation[i], static_cast<std::int64_t>(i));
      for (std::size_t j = 0; j < 12; ++j)
        EXPECT_EQ(got[i * 12 + j], x[static_cast<std::size_t>(e.permutation[i]) * 12 + j]);
    }
    const Edit pattern = resample(kPattern, clean, random::Key{k});
    EXPECT_EQ(pattern.permutation, e.permutation);
    const std::vector<double> patterns = values(run(m, {pattern}), kPattern);
    for (std::size_t i = 0; i < 5; ++i) {
      for (std::size_t j = 0; j < 8; ++j)
        EXPECT_EQ(patterns[i * 8 + j], p[static_cast<std::size_t>(e.permutation[i]) * 8 + j]);
    }
    seen.insert(e.permutation);
  }
  EXPECT_GT(seen.size(), 10U);
  EXPECT_EQ(resample(kS, clean, random::Key{3}).permutation,
            resample(kS, clean, random::Key{3}).permutation);
}

TEST(Recorded, ResamplingPrintsItsPermutation) {
  const Results two = run(model({2, 2}));
  EXPECT_EQ(resample(kS, two, random::Key{1}, {.head = {0}}, "clean").to_text(),
            "s[head 0] = clean, prompts [1, 0]");
  const Results one = run(model({2}));  // no other prompt: its own value
  EXPECT_EQ(resample(kS, one, random::Key{1}).permutation, std::vector<std::int64_t>{0});
}

TEST(Recorded, HeldValuesShieldFromWhatIsChangedBefore) {
  Model m = model({3, 2});
  const Results clean = run(m);
  m.feeds["x"] = Tensor::full({5, kHeads, kWidth}, DType::f64, 2);
  const Interventions what = {hold(kPattern, clean, {.head = {1}}, "clean")};
  const Results held = run(m, what), free = run(m);
  EXPECT_EQ(what.to_text(), "attn.hook_pattern[head 1] held at clean\n");
  EXPECT_EQ(values(held, kS), values(free, kS));
  const std::vector<double> got = values(held, kPattern), recorded = values(clean, kPattern),
                            other = values(free, kPattern);
  for (std::size_t i = 0; i < got.size(); ++i)
    EXPECT_EQ(got[i], i / 3 % kHeads == 1 ? recorded[i] : other[i]);
  EXPECT_NE(recorded, other);
}

TEST(Recorded, APositionCanBePutInElsewhere) {
  const Model m = model({3, 3});
  const Results clean = run(m);
  const std::vector<double> x = values(clean, kS);
  const std::vector<double> got =
      values(run(m, {replace(kS, at_position(clean, kS, 2), {.pos = {0}})}), kS);
  for (std::size_t row = 0; row < 6; ++row) {
    const std::size_t from = row % 3 == 0 ? row + 2 : row;
    for (std::size_t i = 0; i < 6; ++i) EXPECT_EQ(got[row * 6 + i], x[from * 6 + i]);
  }
  const std::vector<double> p = values(clean, kPattern),
                            moved =
                                values(run(m, {replace(kPattern, at_position(clean, kPattern, 1),
                                                       {.pos = {2}})}),
                                       kPattern);
  for (std::size_t row = 0; row < 6; ++row) {
    const std::size_t from = row % 3 == 2 ? row - 1 : row;
    for (std::size_t i = 0; i < 6; ++i) EXPECT_EQ(moved[row * 6 + i], p[from * 6 + i]);
  }
  EXPECT_ERROR(ShapeError, "there is no position 2 in prompt 1: it has 2 tokens",
               at_position(run(model({3, 2})), kS, 2));
}

TEST(Recorded, OnlyWhatWasFetchedCanBeUsed) {
  EXPECT_ERROR(GraphError, "'t' was not fetched", mean(Site{"t"}, run(model({2}))));
}

}  // namespace
}  // namespace vitrine
