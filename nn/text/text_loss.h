// Language-model evaluation: cross-entropy per token and per byte of texts, and on repeated random
// tokens.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "nn/model/model.h"
#include "tensor/random.h"

namespace vitrine::nn {

struct TextLoss {
  double nats = 0;             // the sum over all predicted tokens
  std::int64_t tokens = 0;     // how many were predicted
  std::int64_t bytes = 0;      // what they spell; 0 without a tokenizer
  std::int64_t documents = 0;  // with those that have nothing to predict
  // Not finite when there is no token, or no byte.
  double per_token() const { return nats / static_cast<double>(tokens); }
  double bits_per_byte() const;
};

struct WindowOptions {
  int window = 0;    // tokens that the model sees at a time; 0: its context
  int overlap = -1;  // tokens that windows share, so that each is predicted from at least as
                     // many; -1: half a window
  std::int64_t rows = 2048;  // tokens that are run together
  // Called with the tokens of the document that have been read, after every run. What it throws
  // ends add().
  std::function<void(std::int64_t)> progress = {};
  const std::atomic<bool>* cancel = nullptr;  // looked at within a run: InterruptedError when set
};

// Adds up the loss of documents. Every token is predicted once, but the first of each document,
// which follows nothing.
class TextLossMeter {
 public:
  // Throws Error (usage) for a window of less than 2 tokens or more than the context, and an
  // overlap that is not less than the window.
  explicit TextLossMeter(const Model& model, const WindowOptions& options = {});
  // Throws TokenError for an id that the model (or its tokenizer) does not know.
  void add(std::span<const int> document);
  TextLoss finish();  // runs what is left

 private:
  void run();

  const Model& model_;
  WindowOptions options_;
  std::vector<Tokens> windows_;
  std::vector<std::int64_t> fresh_;  // how many predictions at the end of each window count
  std::int64_t rows_ = 0;
  TextLoss loss_;
};

// Random tokens said twice. A model with induction heads (Olsson et al. 2022) predicts the second
// time from the first.
struct Induction {
  double first = 0, second = 0;  // mean cross-entropy in nats, the first and the second time
  // The largest of all heads: mean pattern[q, q - T + 1] over the second half, T tokens in a half.
  double score = 0;
  int layer = 0, head = 0;
};
// `sequences` of half + half tokens, drawn from the whole vocabulary. Throws ContextError when they
// are longer than the context, Error (usage) unless sequences >= 1 and half >= 2.
Induction induction(const Model& model, random::Key key, int sequences = 8, int half = 32);

}  // namespace vitrine::nn
