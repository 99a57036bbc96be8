// Top-k selection over a stream: keeps the k strongest activations of each of many neurons, in
// memory that does not grow with the text.
#pragma once

#include <cstdint>
#include <limits>
#include <span>
#include <vector>

namespace vitrine::nn {

// The position of a neuron's strongest activation within one line of a text.
struct Peak {
  static constexpr std::int32_t kNotPredicted = -1;

  float activation = 0;
  std::int32_t position = 0;               // of the token within its line, from 0
  std::int64_t line = 0;                   // of the file, from 1
  std::int32_t predicted = kNotPredicted;  // the token that the model predicts there
};

class Peaks {
 public:
  Peaks(std::int64_t neurons, int kept);  // of each neuron, kept >= 1

  std::int64_t neurons() const { return static_cast<std::int64_t>(counts_.size()); }
  int kept() const { return kept_; }

  // Takes the peak in if it is among the strongest of its neuron; says whether it was. Of one line
  // there is one peak, the stronger one. Of equally strong ones those stay that came first, so that
  // the outcome does not depend on how many are kept. Offers to different neurons may be made at
  // the same time. Lines come in increasing order.
  bool offer(std::int64_t neuron, const Peak& peak);
  // An activation up to this one is turned down; -infinity while there is room.
  float threshold(std::int64_t neuron) const {
    return thresholds_[static_cast<std::size_t>(neuron)];
  }

  // The strongest first.
  std::span<const Peak> of(std::int64_t neuron) const;
  std::span<Peak> of(std::int64_t neuron);

 private:
  int kept_;
  std::vector<Peak> peaks_;  // [neuron, kept], counts_[neuron] of them in use
  std::vector<std::int32_t> counts_;
  std::vector<float> thresholds_;
};

}  // namespace vitrine::nn
