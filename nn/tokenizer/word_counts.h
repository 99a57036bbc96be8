// Word counts: how often each pre-token of a text occurs, the input of tokenizer training.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <unordered_map>

namespace vitrine::nn {

// Pieces are those of nn/splitting/pretokenize.h: no token ever crosses their ends. The counts do
// not depend on the order in which texts are added.
class WordCounts {
 public:
  struct Hash {
    using is_transparent = void;
    std::size_t operator()(std::string_view s) const { return std::hash<std::string_view>{}(s); }
  };
  using Map = std::unordered_map<std::string, std::int64_t, Hash, std::equal_to<>>;

  // Counts are kept in thousandths, so that texts may weigh 0.5 or 1.25 and the sums stay exact.
  static constexpr std::int64_t kOne = 1000;
  static constexpr double kLeastWeight = 0.001, kMostWeight = 1e6;

  // Counts the pieces of `text`, any bytes, each `weight` times (rounded to thousandths). Throws
  // ConfigError for a weight outside [kLeastWeight, kMostWeight]; InterruptedError when `cancel` is
  // set, with a part of the text counted.
  void add(std::string_view text, double weight = 1, const std::atomic<bool>* cancel = nullptr);

  // Adds the counts of other texts, `weight` times. Throws like add.
  void merge(const WordCounts& other, double weight = 1);

  bool empty() const { return counts_.empty(); }
  const Map& in_thousandths() const { return counts_; }  // in no particular order

 private:
  Map counts_;
};

}  // namespace vitrine::nn
