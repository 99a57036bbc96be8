// Command lines put together from parts, and what is said of wrong ones.
#pragma once

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "tensor/files/safetensors.h"
#include "tests/apps/program.h"

namespace vitrine::test {

struct Words : std::vector<std::string> {
  using std::vector<std::string>::vector;
  friend Words operator+(Words a, const Words& b) {
    a.insert(a.end(), b.begin(), b.end());
    return a;
  }
};

// "1,2,3" of token ids.
inline std::string list_of(const Tensor& tokens) {
  return fmt::format("{}", fmt::join(tokens.to_vector<int>(), ","));
}

// The tiny model's pair of prompts with reference values, by ids, for verbs that compare two.
inline Words golden_pair(const std::string& verb) {
  const auto golden = SafeTensors::open(tiny_model() / "golden/patching.safetensors");
  const auto answers = golden.at("answer").to_vector<int>();
  return {verb,
          "--model",
          tiny_model().string(),
          "--clean-tokens",
          list_of(golden.at("clean")),
          "--corrupt-tokens",
          list_of(golden.at("corrupt")),
          "--answer-token",
          std::to_string(answers[0]),
          "--wrong-token",
          std::to_string(answers[1])};
}
// Texas and California, by text.
inline Words capitals(const std::string& verb) {
  return {verb,
          "--clean",
          "The capital of Texas is",
          "--corrupt",
          "The capital of California is",
          "--answer",
          " Austin",
          "--wrong",
          " Sacramento"};
}

// The program ends with this code, prints no result, and says `what` among the rest.
inline void expect_failure(const Words& words, int exit, const std::string& what) {
  const Outcome o = vitrine(words);
  EXPECT_EQ(o.exit, exit) << fmt::format("{}", fmt::join(words, " ")) << "\n" << o.err;
  EXPECT_EQ(o.out, "");
  EXPECT_THAT(o.err, ::testing::HasSubstr(what));
}

}  // namespace vitrine::test
