#include "autograd/compile/arena.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <utility>
#include <vector>

#include "tensor/random.h"

namespace vitrine {
namespace {

TEST(MemoryPool, BlocksAreReusedAndTheIdleAreFreed) {
  const auto pool = std::make_shared<MemoryPool>(100000);
  {
    const auto a = pool->take(10000), b = pool->take(10000);
    EXPECT_NE(a.get(), b.get());
    EXPECT_EQ(pool->idle_bytes(), 0);
  }
  EXPECT_GE(pool->idle_bytes(), 20000);
  {
    const auto small = pool->take(100);  // not worth a large block
    EXPECT_GE(pool->idle_bytes(), 20000);
  }
  { const auto again = pool->take(9990), other = pool->take(10000); }
  EXPECT_LT(pool->idle_bytes(), 30000);
  for (int run = 0; run < 20; ++run) pool->lease(100);
  EXPECT_LT(pool->idle_bytes(), 1000);  // what many runs had no use for
  { const auto huge = pool->take(1000000); }
  EXPECT_LT(pool->idle_bytes(), 1000);  // larger than the limit
  std::vector<std::shared_ptr<std::byte>> held;
  for (int i = 0; i < 50; ++i) held.push_back(pool->take(10000));
  held.clear();
  EXPECT_LE(pool->idle_bytes(), 100000);
  pool->set_limit(0);
  EXPECT_EQ(pool->idle_bytes(), 0);
}

TEST(MemoryPool, ResultsMayOutliveIt) {
  auto pool = std::make_shared<MemoryPool>(100000);
  const auto held = pool->take(1000);
  pool.reset();
  held.get()[999] = std::byte{1};
}

TEST(Arena, GapsAreReusedAndMerge) {
  ArenaPlanner p;
  const auto a = p.take(100), b = p.take(100), c = p.take(100);
  EXPECT_EQ(p.peak(), 3 * 128);
  p.give_back(a, 100);
  p.give_back(b, 100);
  EXPECT_EQ(p.take(200), a);  // the two gaps became one
  p.give_back(c, 100);
  EXPECT_EQ(p.take(300), c);  // the gap at the end grows
  EXPECT_EQ(p.peak(), 256 + 320);
}

// Whatever is taken never overlaps what is alive.
TEST(Arena, NeverOverlaps) {
  ArenaPlanner p;
  std::vector<std::pair<std::int64_t, std::int64_t>> alive;  // offset, bytes
  const random::Key key{5};
  for (std::uint64_t i = 0; i < 2000; ++i) {
    if (!alive.empty() && random::below(key, 2 * i, 5) < 2) {
      const auto at = static_cast<std::size_t>(
          random::below(key, 2 * i + 1, static_cast<std::int64_t>(alive.size())));
      p.give_back(alive[at].first, alive[at].second);
      alive.erase(alive.begin() + static_cast<std::ptrdiff_t>(at));
    } else {
      const std::int64_t bytes = random::below(key, 2 * i + 1, 1000);
      const std::int64_t at = p.take(bytes);
      EXPECT_EQ(at % 64, 0);
      EXPECT_LE(at + bytes, p.peak());
      for (const auto& [other, size] : alive)
        EXPECT_TRUE(at + std::max<std::int64_t>(bytes, 1) <= other ||
                    other + std::max<std::int64_t>(size, 1) <= at);
      alive.emplace_back(at, bytes);
    }
  }
}

}  // namespace
}  // namespace vitrine
