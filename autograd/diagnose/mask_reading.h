// Reading a mask from numbers: which keys each query sees. Not installed.
#pragma once

#include <cstdint>

#include "tensor/tensor.h"

namespace vitrine {

// What makes an entry of a mask hide its key.
enum class HidesKey {
  when_low,    // added to the scores: -inf, or so low that softmax gives exactly 0
  when_high,   // subtracted from them
  when_false,  // booleans: select(mask, scores, -inf)
  when_true,   // select(mask, -inf, scores)
  when_zero    // multiplied
};

// Scores are read with the token at index q + shift being the key that is query q's own.
struct MaskReading {
  bool hides_any = false;
  bool finite = false;      // hidden by a finite number: a row of only these weighs all keys alike
  std::int64_t ahead = 0;   // the largest key - query that is seen, by any head
  std::int64_t window = 0;  // keys are seen less than so many before the query; 0: all
  std::int64_t self_hidden = 0;  // queries that do not see their own token, though others see it
  std::int64_t first_self_hidden = -1;
  std::int64_t empty = 0;       // queries that see no key
  std::int64_t empty_seen = 0;  // of these, those whose own token others see: no padding
  std::int64_t first_empty = -1;
};

// `mask` broadcasts to a shape of `rank` axes. Heads and batches, in front, are read one by one.
MaskReading read_mask(const Tensor& mask, int rank, int query_axis, int key_axis, HidesKey rule,
                      std::int64_t shift);

}  // namespace vitrine
