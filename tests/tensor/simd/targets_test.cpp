// Runs all tests of this program on other CPU targets than the best one of this machine: with
// VITRINE_TEST_TARGET=AVX2 in the environment the loops run as on a CPU without AVX-512, with SSE4
// as on one without AVX2, with `baseline` as on one that has no more than the compiler assumes.
// tests/tensor/CMakeLists.txt has an entry for each.
#include <gtest/gtest.h>
#include <hwy/targets.h>

#include <cstdlib>
#include <string>

#include "tensor/simd/simd.h"

namespace vitrine {
namespace {

std::string wanted() {
  const char* value = std::getenv("VITRINE_TEST_TARGET");
  return value == nullptr ? "" : value;
}

// Highway chooses when the first loop is asked for, which is after this.
const bool limited = [] {
  // A lower bit is a better target.
  if (wanted() == "AVX2") hwy::DisableTargets(HWY_AVX2 - 1);
  if (wanted() == "SSE4") hwy::DisableTargets(HWY_SSE4 - 1);
  if (wanted() == "baseline") hwy::DisableTargets(HWY_STATIC_TARGET - 1);
  return true;
}();

TEST(Targets, LoopsRunAsWanted) {
  ASSERT_TRUE(limited);
  const std::string target = simd::peak().target;
  if (wanted() == "AVX2" && (hwy::SupportedTargets() & HWY_AVX2) == 0) GTEST_SKIP() << "no AVX2";
  if (wanted() == "SSE4" && (hwy::SupportedTargets() & HWY_SSE4) == 0) GTEST_SKIP() << "no SSE4";
  const std::string best = wanted() == "baseline" ? hwy::TargetName(HWY_STATIC_TARGET) : wanted();
  EXPECT_EQ(target, best == "" ? target : best);
}

}  // namespace
}  // namespace vitrine
