// Who runs when, and what is cancelled.
#include <gtest/gtest.h>

#include <chrono>
#include <thread>
#include <vector>

#include "apps/live/tabs.h"
#include "apps/live/turnstile.h"

namespace vitrine::app {
namespace {

using Outcome = Turnstile::Pass::Outcome;

TEST(Turnstile, LetsAFewInAndRefusesMoreThanMayWait) {
  Turnstile gate(1, 1);
  const std::atomic<bool> never = false;
  std::atomic<bool> given_up = false;
  std::optional<Outcome> waited;
  {
    const auto inside = gate.enter(never);
    ASSERT_TRUE(inside);
    std::thread second([&] { waited = gate.enter(given_up).outcome(); });
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
    EXPECT_EQ(gate.enter(never).outcome(), Outcome::full);
    EXPECT_FALSE(waited.has_value());
    given_up = true;
    second.join();
    EXPECT_EQ(waited, Outcome::cancelled);
  }
  EXPECT_TRUE(gate.enter(never));  // whoever was inside has left
}

TEST(Turnstile, KeepsTheOrderInWhichTheyCame) {
  Turnstile gate(1, 10);
  const std::atomic<bool> never = false;
  std::vector<int> order;
  std::vector<std::thread> threads;
  {
    const auto inside = gate.enter(never);
    for (int i = 0; i < 5; ++i) {
      threads.emplace_back([&, i] {
        const auto pass = gate.enter(never);
        order.push_back(i);  // by one at a time
      });
      std::this_thread::sleep_for(std::chrono::milliseconds(30));
    }
  }
  for (std::thread& t : threads) t.join();
  EXPECT_EQ(order, (std::vector{0, 1, 2, 3, 4}));
}

TEST(Tabs, ANewerTurnCancelsTheOlderOneOfItsTabAlone) {
  Tabs tabs;
  const auto first = tabs.begin("a", 1), other = tabs.begin("b", 1), second = tabs.begin("a", 2);
  EXPECT_TRUE(*first);
  EXPECT_FALSE(*second);
  EXPECT_FALSE(*other);
  EXPECT_TRUE(*tabs.begin("a", 1)) << "it came late";
  EXPECT_FALSE(*second);
  tabs.cancel_all();
  EXPECT_TRUE(*second);
  EXPECT_TRUE(*other);
}

TEST(Tabs, AreForgottenWhenThereAreMany) {
  Tabs tabs;
  for (int i = 0; i < 5000; ++i) tabs.begin("tab " + std::to_string(i), 1);
  EXPECT_LE(tabs.size(), 512U);
}

}  // namespace
}  // namespace vitrine::app
