// Ctrl-C ends the program with exit code 130.
#include <gtest/gtest.h>

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
