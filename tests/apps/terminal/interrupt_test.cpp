// Ctrl-C ends the program with exit code 130.
#include <gtest/gtest.h>

#include <chrono>
#include <thread>

#include "tests/apps/model_folder.h"
#include "tests/apps/program.h"

namespace vitrine::test {
namespace {

TEST(Interrupt, WhileTextIsGenerated) {
  const ModelFolder model(1, 60'000);  // it would go on for a long time
  Running run({"generate", "--model", model.path(), "--tokens", "1", "--max-tokens", "50000"});
  run.wait_for_output();
  run.interrupt();
  const Outcome o = run.finish();
  EXPECT_EQ(o.exit, 130);
  EXPECT_TRUE(o.out.ends_with("\n"));  // what was generated so far is a whole line
}

// Where there is nothing to save, nothing is waited for.
TEST(Interrupt, StudiesOfHeadsEndAtOnce) {
  using Clock = std::chrono::steady_clock;
  Running run({"heads", "--sequences", "64", "--half", "128"});  // for half a minute
  std::this_thread::sleep_for(std::chrono::milliseconds(1500));
  const Clock::time_point asked = Clock::now();
  run.interrupt();
  EXPECT_EQ(run.finish().exit, 130);
  EXPECT_LT(std::chrono::duration<double>(Clock::now() - asked).count(), 2);
}

TEST(Interrupt, WhileItWaitsForInput) {
#ifdef __SANITIZE_THREAD__
  GTEST_SKIP() << "ThreadSanitizer runs signal handlers between calls of the C library, and this "
                  "one never returns";
#endif
  Running run({"tokenize", "--jsonl", "-"});
  run.wait_until_it_sleeps();
  run.interrupt();
  EXPECT_EQ(run.finish().exit, 130);
}

}  // namespace
}  // namespace vitrine::test
