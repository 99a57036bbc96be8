// What all readers of tensor files share: names that are not there, elements that no dtype holds.
#pragma once

#include <fmt/format.h>

#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

#include "tensor/error.h"
#include "tensor/files/json_text.h"
#include "tensor/nearest.h"
#include "tensor/tensor.h"

namespace vitrine {

// Refuses a name that is not among those of a file's tensors, with near ones.
[[noreturn]] inline void no_such_tensor(std::string_view file, std::string_view name,
                                        const std::vector<std::string>& names) {
  std::vector<std::string> near = nearest(name, names);
  for (std::string& other : near) other = printable(other);
  throw FileError(fmt::format("'{}' has no tensor {}{}; it holds {} tensors", file, printable(name),
                              did_you_mean(near), names.size()));
}

// n integers at `from`, which needs no alignment, as those of a wider type.
template <class From, class To>
void widen_integers(const std::byte* from, std::int64_t n, const Tensor& to) {
  To* out = to.data<To>();
  for (std::int64_t i = 0; i < n; ++i) {
    From x;
    std::memcpy(&x, from + i * static_cast<std::int64_t>(sizeof(From)), sizeof(From));
    out[i] = static_cast<To>(x);
  }
}

}  // namespace vitrine
