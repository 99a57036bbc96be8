#include "tensor/thread_pool.h"

#include <gtest/gtest.h>
#include <sched.h>

#include <atomic>
#include <chrono>
#include <mutex>
#include <set>
#include <stdexcept>
#include <thread>
#include <vector>

#include "tests/tensor/expect_error.h"

namespace vitrine {
namespace {

using Chunks = std::multiset<std::pair<std::int64_t, std::int64_t>>;

Chunks chunks_of(ThreadPool& pool, std::int64_t n, std::int64_t grain) {
  std::mutex mutex;
  Chunks seen;
  pool.parallel_for(n, grain, [&](std::int64_t begin, std::int64_t end) {
    const std::lock_guard lock(mutex);
    seen.emplace(begin, end);
  });
  return seen;
}

TEST(ThreadPool, CutsByShapeAlone) {
  for (const int threads : {1, 2, 3, 8}) {
    ThreadPool pool(threads);
    EXPECT_EQ(pool.threads(), threads);
    EXPECT_EQ(chunks_of(pool, 10, 4), (Chunks{{0, 4}, {4, 8}, {8, 10}}));
    EXPECT_EQ(chunks_of(pool, 4, 4), (Chunks{{0, 4}}));
    EXPECT_EQ(chunks_of(pool, 3, 100), (Chunks{{0, 3}}));
    EXPECT_EQ(chunks_of(pool, 0, 4), Chunks{});
    EXPECT_EQ(chunks_of(pool, -1, 4), Chunks{});
    EXPECT_EQ(chunks_of(pool, 2, 0), (Chunks{{0, 1}, {1, 2}})) << "a grain below 1 counts as 1";
  }
}

TEST(ThreadPool, RunsEveryIndexOnceOverManyCalls) {
  ThreadPool pool(4);
  for (std::int64_t round = 0; round < 2000; ++round) {
    const std::int64_t n = 1 + round % 97;
    std::vector<int> count(static_cast<std::size_t>(n), 0);  // no two chunks share an element
    pool.parallel_for(n, 1 + round % 5, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t i = begin; i < end; ++i) ++count[static_cast<std::size_t>(i)];
    });
    ASSERT_EQ(count, std::vector<int>(static_cast<std::size_t>(n), 1));
  }
}

TEST(ThreadPool, ResultsDoNotDependOnTheNumberOfThreads) {
  // Partial sums per chunk, in f32, where the order of additions shows.
  const auto sums = [](int threads) {
    ThreadPool pool(threads);
    std::vector<float> out(100);
    pool.parallel_for(100000, 1000, [&](std::int64_t begin, std::int64_t end) {
      float sum = 0;
      for (std::int64_t i = begin; i < end; ++i) sum += 1.f / static_cast<float>(i + 1);
      out[static_cast<std::size_t>(begin / 1000)] = sum;
    });
    return out;
  };
  EXPECT_EQ(sums(1), sums(2));
  EXPECT_EQ(sums(1), sums(7));
}

TEST(ThreadPool, UsesItsThreads) {
  ThreadPool pool(2);
  std::atomic<int> inside{0};
  std::atomic<bool> met{false};
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(30);
  pool.parallel_for(2, 1,
                    [&](std::int64_t, std::int64_t) {  // each chunk waits until the other runs, too
                      ++inside;
                      while (inside != 2 && std::chrono::steady_clock::now() < deadline)
                        std::this_thread::yield();
                      if (inside == 2) met = true;
                    });
  EXPECT_TRUE(met);
}

TEST(ThreadPool, WakesSleepingWorkers) {
  ThreadPool pool(3);
  for (int i = 0; i < 5; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));  // long beyond the spin
    EXPECT_EQ(chunks_of(pool, 10, 1).size(), 10u);
  }
}

TEST(ThreadPool, RethrowsTheLowestFailure) {
  for (const int threads : {1, 2, 4}) {
    ThreadPool pool(threads);
    for (int round = 0; round < 200; ++round) {
      const std::string message = test::message_of<std::runtime_error>([&] {
        pool.parallel_for(64, 1, [&](std::int64_t begin, std::int64_t) {
          if (begin >= 10 && begin % 3 == 1)
            throw std::runtime_error("chunk " + std::to_string(begin));
        });
      });
      ASSERT_EQ(message, "chunk 10");
    }
    EXPECT_EQ(chunks_of(pool, 10, 1).size(), 10u) << "the pool works on after a failure";
  }
}

TEST(ThreadPool, StartsNoChunkAfterAFailure) {
  ThreadPool pool(1);
  int runs = 0;
  EXPECT_THROW(pool.parallel_for(100, 1,
                                 [&](std::int64_t, std::int64_t) {
                                   ++runs;
                                   throw std::logic_error("first");
                                 }),
               std::logic_error);
  EXPECT_EQ(runs, 1);
}

TEST(ThreadPool, NestedCallsRunInline) {
  ThreadPool pool(3);
  std::atomic<std::int64_t> sum{0};
  std::atomic<bool> moved{false};
  pool.parallel_for(8, 1, [&](std::int64_t begin, std::int64_t) {
    const std::thread::id outer = std::this_thread::get_id();
    pool.parallel_for(10, 3, [&](std::int64_t b, std::int64_t e) {
      if (std::this_thread::get_id() != outer) moved = true;
      for (std::int64_t i = b; i < e; ++i) sum += begin * 10 + i;
    });
  });
  EXPECT_EQ(sum, 79 * 80 / 2);
  EXPECT_FALSE(moved);
  EXPECT_EQ(test::message_of<std::runtime_error>([&] {
              pool.parallel_for(4, 1, [&](std::int64_t, std::int64_t) {
                pool.parallel_for(
                    4, 1, [](std::int64_t, std::int64_t) { throw std::runtime_error("inner"); });
              });
            }),
            "inner");
}

TEST(ThreadPool, ServesSeveralCallersAtOnce) {
  ThreadPool pool(3);
  std::vector<std::int64_t> sums(4, 0);
  std::vector<std::thread> callers;
  for (std::size_t c = 0; c < sums.size(); ++c) {
    callers.emplace_back([&pool, &sum = sums[c]] {
      for (int round = 0; round < 200; ++round) {
        std::vector<std::int64_t> parts(10, 0);
        pool.parallel_for(100, 10, [&](std::int64_t b, std::int64_t e) {
          for (std::int64_t i = b; i < e; ++i) parts[static_cast<std::size_t>(b / 10)] += i;
        });
        for (const std::int64_t part : parts) sum += part;
      }
    });
  }
  for (std::thread& caller : callers) caller.join();
  EXPECT_EQ(sums, std::vector<std::int64_t>(4, 200 * 4950));
}

TEST(ThreadPool, ZeroMeansTheCoresOfThisProcess) {
  cpu_set_t set;
  ASSERT_EQ(sched_getaffinity(0, sizeof(set), &set), 0);
  EXPECT_EQ(ThreadPool(0).threads(), CPU_COUNT(&set));

  // A narrower mask is respected.
  int first = 0;
  while (!CPU_ISSET(first, &set)) ++first;
  cpu_set_t one;
  CPU_ZERO(&one);
  CPU_SET(first, &one);
  ASSERT_EQ(sched_setaffinity(0, sizeof(one), &one), 0);
  const int threads = ThreadPool(0).threads();
  ASSERT_EQ(sched_setaffinity(0, sizeof(set), &set), 0);
  EXPECT_EQ(threads, 1);

  EXPECT_ERROR(Error, "-1 threads were asked for", ThreadPool(-1));
}

}  // namespace
}  // namespace vitrine
