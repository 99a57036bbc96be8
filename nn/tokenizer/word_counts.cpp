#include "nn/tokenizer/word_counts.h"

#include <fmt/format.h>

#include <cmath>

#include "nn/splitting/pretokenize.h"
#include "tensor/error.h"

namespace vitrine::nn {
namespace {

std::int64_t in_thousandths_checked(double weight) {
  if (!(weight >= WordCounts::kLeastWeight && weight <= WordCounts::kMostWeight)) {
    throw ConfigError(fmt::format("a text cannot weigh {}: give a weight from {} to {:.0f}", weight,
                                  WordCounts::kLeastWeight, WordCounts::kMostWeight));
  }
  return std::llround(weight * WordCounts::kOne);
}

}  // namespace

void WordCounts::add(std::string_view text, double weight, const std::atomic<bool>* cancel) {
  const std::int64_t amount = in_thousandths_checked(weight);
  std::size_t check_at = 0;
  for (std::size_t begin = 0; begin < text.size();) {
    if (cancel != nullptr && begin >= check_at) {
      if (cancel->load(std::memory_order_relaxed)) {
        throw InterruptedError("stopped while the words of the text were counted");
      }
      check_at = begin + (1 << 20);
    }
    const std::size_t end = piece_end(text, begin);
    const std::string_view word = text.substr(begin, end - begin);
    if (const auto found = counts_.find(word); found != counts_.end()) {
      found->second += amount;
    } else {
      counts_.emplace(word, amount);
    }
    begin = end;
  }
}

void WordCounts::merge(const WordCounts& other, double weight) {
  const std::int64_t amount = in_thousandths_checked(weight);
  for (const auto& [word, count] : other.counts_) {
    counts_[word] += count / kOne * amount + count % kOne * amount / kOne;
  }
}

}  // namespace vitrine::nn
