// What the live page reads from a run: the logits after one position, and the logit lens there.
#pragma once

#include <cstdint>
#include <vector>

#include "autograd/graph/metric.h"
#include "nn/families/architecture.h"
#include "tensor/files/json_value.h"
#include "tensor/tensor.h"

namespace vitrine::app {

inline constexpr const char* kLiveLogits = "live.logits";  // [1, vocabulary]
inline constexpr const char* kLiveLens = "live.lens";      // [1 + layers, vocabulary]

// Emits them onto the graph of one prompt; the position is a feed. The lens reads the stream as it
// flows on after edits.
Metric live_outputs(const nn::Config& config, std::int64_t position, bool lens);

// Logits as what they say of the next token: the softmax over the whole vocabulary.
class Distribution {
 public:
  explicit Distribution(const Tensor& logits);  // [1, vocabulary]. Throws NumericError for NaN.

  double logit(int id) const { return logits_[static_cast<std::size_t>(id)]; }
  double probability(int id) const;
  std::vector<int> highest(int count) const;  // the most probable first, of equal ones the lower id
  double divergence_to(const Distribution& other) const;  // KL(this || other), in nats

 private:
  std::vector<double> logits_;
  double log_sum_ = 0;
};

// With the digits that a page shows, which keeps answers short.
JsonValue rounded_for_page(double x);

}  // namespace vitrine::app
