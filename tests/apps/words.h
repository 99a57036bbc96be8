// Command lines put together from parts.
#pragma once

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <string>
#include <vector>

#include "tensor/tensor.h"

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

}  // namespace vitrine::test
