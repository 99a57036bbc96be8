// What many tests share: where data is, comparison with golden tensors, expected errors.
#pragma once

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <string>

#include "tensor/files/safetensors.h"
#include "tensor/tensor.h"

namespace vitrine::test {

inline std::filesystem::path data() { return VITRINE_TEST_DATA; }
// The folder of larger reference values beside the checkout; tests that need it say so when it is
// absent.
inline std::filesystem::path shared() { return VITRINE_SHARED; }

// |actual - golden| <= tolerance * max(1, max|golden|) everywhere; infinities must be equal.
inline void expect_close(const Tensor& actual, const Tensor& golden, double tolerance,
                         const std::string& name) {
  ASSERT_EQ(to_string(actual.shape()), to_string(golden.shape())) << name;
  const double bound = tolerance * std::max(1.0, max_abs(golden));
  EXPECT_LE(max_abs_difference(actual, golden), bound) << name;
}

// |actual - golden| <= tolerance * max|golden|: for gradients, which may all be small.
inline void expect_relative(const Tensor& actual, const Tensor& golden, double tolerance,
                            const std::string& name) {
  ASSERT_EQ(to_string(actual.shape()), to_string(golden.shape())) << name;
  EXPECT_LE(max_abs_difference(actual, golden), tolerance * max_abs(golden)) << name;
}

}  // namespace vitrine::test

// Skips a test, visibly, when a folder of reference data is not there.
#define VITRINE_NEEDS_SHARED(FOLDER)                                \
  if (!std::filesystem::exists(vitrine::test::shared() / (FOLDER))) \
  GTEST_SKIP() << "needs the reference values in "                  \
               << (vitrine::test::shared() / (FOLDER)).string()     \
               << ", which are not part of the repository"
