// Learns a vocabulary from text: the training half of byte-pair encoding.
//
//   WordCounts counts;
//   for_each_document("books.txt", Split::whole_file,
//                     [&](const Document& d) { counts.add(d.text); });
//   const Tokenizer tokenizer(train_tokenizer(counts, {.vocabulary = 5000}), "books");
//
// Words begin as bytes. Again and again the pair of neighbouring tokens that occurs most often,
// over all words, becomes a new token everywhere (Sennrich et al. 2016, algorithm 1; on bytes,
// Radford et al. 2019). Of pairs that occur equally often the one with the smaller left id comes
// first, then the one with the smaller right id: HuggingFace's BpeTrainer decides likewise, and
// gives the same merges for the same text.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "nn/tokenizer/tokenizer.h"
#include "nn/tokenizer/word_counts.h"

namespace vitrine::nn {

struct TrainTokenizerOptions {
  int vocabulary = 5000;       // tokens in all: special ones, the 256 bytes, and what is learned
  std::int64_t min_count = 2;  // a pair that occurs less often makes no token
  std::vector<std::string> special = {"<|endoftext|>"};  // added tokens; their ids come first
  const std::atomic<bool>* cancel = nullptr;  // checked between merges; InterruptedError when set
  std::function<void(int done, int total)> progress;  // after each new token
};

// Ids: the special tokens in order, the 256 bytes in GPT-2's order (nn/tokenizer/byte_spelling.h),
// then the merges' tokens in the order they were learned. The result depends on the counts and
// options alone. Throws TokenError when there is no text; ConfigError when `vocabulary` is too
// small for the bytes or larger than the text gives tokens for (the message says how many it
// gives), when min_count is below 1, or when a special token is empty, listed twice, not UTF-8 or
// the spelling of a byte.
Vocabulary train_tokenizer(const WordCounts& counts, const TrainTokenizerOptions& options = {});

}  // namespace vitrine::nn
