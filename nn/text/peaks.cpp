#include "nn/text/peaks.h"

#include <algorithm>

namespace vitrine::nn {

Peaks::Peaks(std::int64_t neurons, int kept)
    : kept_(kept),
      peaks_(static_cast<std::size_t>(neurons * kept)),
      counts_(static_cast<std::size_t>(neurons), 0),
      thresholds_(static_cast<std::size_t>(neurons), -std::numeric_limits<float>::infinity()) {}

std::span<Peak> Peaks::of(std::int64_t neuron) {
  const auto n = static_cast<std::size_t>(neuron);
  return {peaks_.data() + n * static_cast<std::size_t>(kept_),
          static_cast<std::size_t>(counts_[n])};
}
std::span<const Peak> Peaks::of(std::int64_t neuron) const {
  return const_cast<Peaks*>(this)->of(neuron);  // NOLINT: nothing is changed
}

bool Peaks::offer(std::int64_t neuron, const Peak& peak) {
  const auto n = static_cast<std::size_t>(neuron);
  if (peak.activation <= thresholds_[n]) return false;
  Peak* const begin = of(neuron).data();
  Peak* end = begin + counts_[n];
  // What makes room: the same line's weaker peak, or else the weakest of all.
  Peak* hole = std::find_if(begin, end, [&](const Peak& p) { return p.line == peak.line; });
  if (hole != end) {
    if (peak.activation <= hole->activation) return false;
  } else if (counts_[n] < kept_) {
    ++counts_[n];
    ++end;
  } else {
    --hole;
  }
  // Kept in order by moving down what is weaker.
  for (; hole > begin && (hole - 1)->activation < peak.activation; --hole) *hole = *(hole - 1);
  *hole = peak;
  if (counts_[n] == kept_) thresholds_[n] = (end - 1)->activation;
  return true;
}

}  // namespace vitrine::nn
