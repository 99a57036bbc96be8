// Sparse codes at sizes where kernels work in blocks: which features are active, beside sorting
// everything, and products beside their expansions.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <set>

#include "autograd/compile/plan.h"
#include "autograd/ops/op_table.h"
#include "autograd/ops/ops.h"
#include "tensor/random.h"

namespace vitrine {
namespace {

constexpr std::int64_t kSamples = 150, kFeatures = 1700;

// Many equal scores: multiples of a fifth.
Tensor coarse(const char* name, const Shape& shape, DType dtype) {
  std::vector<double> values;
  for (std::int64_t i = 0; i < numel(shape); ++i)
    values.push_back(
        std::round(5 * random::normal(random::Key{3}.fold(name), static_cast<std::uint64_t>(i))) /
        5);
  return Tensor::of<double>(shape, values).to(dtype);
}

struct Entry {
  double score;
  std::int64_t sample, feature;
};
bool before(const Entry& a, const Entry& b) {
  if (a.score != b.score) return a.score > b.score;
  return std::pair(a.sample, a.feature) < std::pair(b.sample, b.feature);
}

// By sorting all scores.
std::vector<std::vector<std::int32_t>> naive(const Tensor& h, const Tensor& scale,
                                             const Tensor& bar, const ActiveFeatures& rule) {
  std::vector<std::vector<Entry>> rows(kSamples);
  std::vector<Entry> all;
  const Tensor x = h.to(DType::f64), s = scale.to(DType::f64), b = bar.to(DType::f64);
  for (std::int64_t i = 0; i < kSamples; ++i) {
    auto& row = rows[static_cast<std::size_t>(i)];
    for (std::int64_t j = 0; j < kFeatures; ++j) {
      const double score = x.data<double>()[i * kFeatures + j] * s.data<double>()[j];
      if (score > b.data<double>()[j]) row.push_back({score, i, j});
    }
    std::sort(row.begin(), row.end(), before);
    std::int64_t most = rule.capacity;
    if (rule.most >= 0 && !rule.whole_batch)
      most = std::min(most, static_cast<std::int64_t>(rule.most));
    if (std::ssize(row) > most) row.resize(static_cast<std::size_t>(most));
    all.insert(all.end(), row.begin(), row.end());
  }
  if (rule.whole_batch) {
    std::sort(all.begin(), all.end(), before);
    const auto budget = static_cast<std::size_t>(rule.most * kSamples);
    if (all.size() > budget) all.resize(budget);
  }
  std::vector<std::vector<std::int32_t>> out(kSamples);
  for (const Entry& e : all)
    out[static_cast<std::size_t>(e.sample)].push_back(static_cast<std::int32_t>(e.feature));
  for (auto& row : out) std::sort(row.begin(), row.end());
  return out;
}

TEST(ActiveFeaturesAtSize, AreThoseOfSortingEverything) {
  ThreadPool pool(3);
  for (const DType dtype : {DType::f32, DType::f64}) {
    const Tensor h = coarse("h", {kSamples, kFeatures}, dtype);
    const Tensor scale = Tensor::full({kFeatures}, dtype, 1),
                 bar = coarse("bar", {kFeatures}, dtype);
    Tensor dead = Tensor::zeros({kFeatures}, DType::boolean);
    for (std::int64_t j = 0; j < kFeatures; j += 3) dead.view().as<std::uint8_t>()[j] = 1;
    for (const ActiveFeatures rule :
         {ActiveFeatures{.capacity = 1700}, ActiveFeatures{.capacity = 90},
          ActiveFeatures{.most = 32, .capacity = 32, .dead_capacity = 200},
          ActiveFeatures{.most = 7.5, .whole_batch = true, .capacity = 1700},
          ActiveFeatures{.most = 7.5, .whole_batch = true, .capacity = 9}}) {
      Builder b;
      const Type features{dtype, {kFeatures}};
      b.output("y", active_features(b.input("h", {dtype, h.shape()}),
                                    {b.input("scale", features), b.input("bar", features),
                                     b.input("dead", {DType::boolean, {kFeatures}})},
                                    rule));
      const Tensor y = compile(std::move(b).finish(), fetch(value("y")))
                           .run({{"h", h}, {"scale", scale}, {"bar", bar}, {"dead", dead}}, {},
                                {.pool = &pool})["y"];
      const auto want = naive(h, scale, bar, rule);
      Tensor low = Tensor::full({kFeatures}, dtype, 1e30);  // for all but the dead
      for (std::int64_t j = 0; j < kFeatures; j += 3) {
        if (dtype == DType::f32) low.data<float>()[j] = -1e30F;
        else low.data<double>()[j] = -1e30;
      }
      const auto of_dead =
          naive(h, scale, low, {.capacity = std::max<std::int64_t>(1, rule.dead_capacity)});
      for (std::int64_t i = 0; i < kSamples; ++i) {
        const auto row = y.select(0, i).to_vector<std::int32_t>();
        const auto part = [&](std::int64_t from, std::int64_t to) {
          std::vector<std::int32_t> used(row.begin() + from, row.begin() + to);
          std::erase(used, -1);
          return used;
        };
        EXPECT_EQ(part(0, rule.capacity), want[static_cast<std::size_t>(i)]) << i;
        if (rule.dead_capacity > 0) {
          EXPECT_EQ(part(rule.capacity, rule.capacity + rule.dead_capacity),
                    of_dead[static_cast<std::size_t>(i)])
              << i;
        }
      }
    }
  }
}

// Rows leave the pursuit at different steps, and more than one chunk of them is pursued.
TEST(MatchingPursuitAtSize, PicksAndCodesAreThoseOfALoop) {
  constexpr std::int64_t kN = 900, kF = 6000, kD = 24, kSteps = 8;
  ThreadPool pool(3);
  Tensor x = Tensor::empty({kN, kD}, DType::f64), w = Tensor::empty({kF, kD}, DType::f64);
  random::fill_normal(pool, random::Key{1}.fold("x"), x, 0, 1);
  random::fill_normal(pool, random::Key{1}.fold("w"), w, 0, 0.2);
  const PursuitRule rule{.steps = kSteps, .threshold = 1.5, .stop_at_repeat = true};
  Builder b;
  const Value vx = b.input("x", {DType::f64, x.shape()}),
              vw = b.input("w", {DType::f64, w.shape()});
  const Value index = matching_pursuit(vx, vw, rule);
  b.output("index", index);
  b.output("codes", pursuit_codes(vx, vw, index));
  b.output("dense", sparse_to_dense(pursuit_codes(vx, vw, index), index, kF));
  const Results r =
      compile(std::move(b).finish(), fetch(value("index"), value("codes"), value("dense")))
          .run({{"x", x}, {"w", w}}, {}, {.pool = &pool});
  const Tensor picks = r["index"].contiguous(), codes = r["codes"].contiguous(),
               dense = r["dense"].contiguous();
  std::set<std::int64_t> lengths;
  for (std::int64_t i = 0; i < kN; i += 7) {
    std::vector<double> residual(x.data<double>() + i * kD, x.data<double>() + (i + 1) * kD);
    std::map<std::int64_t, double> found;
    bool done = false;
    std::int64_t length = 0;
    for (std::int64_t t = 0; t < kSteps; ++t) {
      const std::int32_t picked = picks.data<std::int32_t>()[i * kSteps + t];
      if (done) {
        EXPECT_EQ(picked, -1);
        EXPECT_EQ(codes.data<double>()[i * kSteps + t], 0);
        continue;
      }
      std::int64_t best = -1;
      double most = 0, squares = 0;
      for (std::int64_t j = 0; j < kF; ++j) {
        double dot = 0;
        for (std::int64_t c = 0; c < kD; ++c)
          dot += residual[static_cast<std::size_t>(c)] * w.data<double>()[j * kD + c];
        if (dot > most) {
          most = dot;
          best = j;
        }
      }
      ASSERT_EQ(picked, best) << i << " " << t;
      EXPECT_NEAR(codes.data<double>()[i * kSteps + t], most, 1e-10);
      done = found.contains(best);
      found[best] += most;
      for (std::int64_t c = 0; c < kD; ++c) {
        double& at = residual[static_cast<std::size_t>(c)];
        at -= most * w.data<double>()[best * kD + c];
        squares += at * at;
      }
      done = done || std::sqrt(squares) < rule.threshold;
      length = t + 1;
    }
    lengths.insert(length);
    for (const auto& [j, code] : found) EXPECT_NEAR(dense.data<double>()[i * kF + j], code, 1e-10);
  }
  EXPECT_GT(lengths.size(), 2U);
}

// Few features for many entries: groups of features and blocks of samples.
TEST(SparseProductsAtSize, EqualTheirExpansions) {
  constexpr std::int64_t kN = 600, kF = 400, kD = 700, kCapacity = 90;
  std::vector<std::int32_t> index;
  for (std::int64_t i = 0; i < kN; ++i) {
    std::vector<std::int32_t> row;
    for (std::int32_t j = 0; j < kF; ++j) {
      if (random::uniform(random::Key{9}, static_cast<std::uint64_t>(i * kF + j)) < 0.2)
        row.push_back(j);
    }
    row.resize(std::min<std::size_t>(row.size(), kCapacity));
    row.resize(kCapacity, -1);
    index.insert(index.end(), row.begin(), row.end());
  }
  Feeds feeds{{"index", Tensor::of<std::int32_t>({kN, kCapacity}, index)}};
  const auto fill = [&](const char* name, const Shape& shape) {
    ThreadPool one(1);
    feeds[name] = Tensor::empty(shape, DType::f32);
    random::fill_normal(one, random::Key{1}.fold(name), feeds[name]);
  };
  fill("x", {kN, kD});
  fill("w", {kF, kD});
  fill("z", {kN, kCapacity});
  Builder b;
  const auto in = [&](const char* name) {
    return b.input(name, {feeds.at(name).dtype(), feeds.at(name).shape()});
  };
  const Value x = in("x"), w = in("w"), z = in("z"), i = in("index");
  b.output("sparse_linear", sparse_linear(x, w, i));
  b.output("sparse_mix", sparse_mix(z, w, i));
  b.output("sparse_outer", sparse_outer(z, x, i, kF));
  const Graph g = std::move(b).finish();
  ThreadPool one(1), three(3);
  for (const char* name : {"sparse_linear", "sparse_mix", "sparse_outer"}) {
    Builder expanded(g);
    for (const Node& n : g.nodes()) {
      if (n.op->name == name) expanded.expand(n.id);
    }
    const Plan kernel = compile(g, fetch(value(name)));
    const Tensor y = kernel.run(feeds, {}, {.pool = &three})[name];
    const Tensor want =
        compile(std::move(expanded).finish(), fetch(value(name))).run(feeds, {})[name];
    EXPECT_LE(max_abs_difference(y, want), 1e-5 * max_abs(want)) << name;
    EXPECT_EQ(max_abs_difference(y, kernel.run(feeds, {}, {.pool = &one})[name]), 0) << name;
  }
}

}  // namespace
}  // namespace vitrine
