// Counter-based random numbers: element i of a stream is a pure function of (key, i), so draws do
// not depend on the order or the number of threads (Salmon et al. 2011, "Parallel random numbers:
// as easy as 1, 2, 3": Philox4x32-10).
#pragma once

#include <array>
#include <cstdint>
#include <string_view>
#include <utility>
#include <vector>

#include "tensor/tensor.h"
#include "tensor/thread_pool.h"

namespace vitrine::random {

struct Key {
  std::uint64_t value = 0;
  // Independent streams for parts of a computation: key.fold("dropout").fold(step).
  Key fold(std::uint64_t data) const;
  Key fold(std::string_view name) const;
};

// The bare generator: ten rounds over a 128-bit counter under a 64-bit key, least significant words
// first.
std::array<std::uint32_t, 4> philox4x32(std::array<std::uint32_t, 2> key,
                                        std::array<std::uint32_t, 4> counter);

// Four 32-bit words for block `counter` of the stream `key`: the counter fills words 0 and 1, words
// 2 and 3 are zero.
std::array<std::uint32_t, 4> philox(Key key, std::uint64_t counter);

std::uint64_t bits(Key key, std::uint64_t index);
double uniform(Key key, std::uint64_t index);  // in [0, 1), 53 bits
double normal(Key key, std::uint64_t index);   // mean 0, variance 1 (Box-Muller)
// In [0, n), unbiased to 2^-64 * n. Throws ShapeError unless n >= 1.
std::int64_t below(Key key, std::uint64_t index, std::int64_t n);

// Puts the items in random order, every order equally probable (Fisher & Yates 1938). Uses draws 2
// to the number of items.
template <class T>
void shuffle(Key key, std::vector<T>& items) {
  for (std::size_t i = items.size(); i > 1; --i) {
    const std::int64_t other = below(key, i, static_cast<std::int64_t>(i));
    std::swap(items[i - 1], items[static_cast<std::size_t>(other)]);
  }
}

// Fill a contiguous f32 or f64 tensor: element i is the i-th draw of the stream, scaled. ShapeError
// for other tensors.
void fill_uniform(ThreadPool& pool, Key key, const Tensor& out, double low = 0, double high = 1);
void fill_normal(ThreadPool& pool, Key key, const Tensor& out, double mean = 0, double stddev = 1);

}  // namespace vitrine::random
