// What the tests of training share: a small model, a tokenizer of bytes, texts in memory.
#pragma once

#include <gtest/gtest.h>

#include <cstring>
#include <string>
#include <vector>

#include "nn/text/tokenized_text.h"
#include "nn/tokenizer/train_tokenizer.h"
#include "nn/training/initial_weights.h"
#include "tests/tensor/temporary_folder.h"

namespace vitrine::nn {

// 2 layers of width 16.
inline Config small_config(int vocabulary, int context = 16) {
  Config c;
  c.layers = 2;
  c.heads = 2;
  c.d_model = 16;
  c.d_mlp = 32;
  c.context = context;
  c.vocabulary = vocabulary;
  return c;
}

// Weights that are large enough to make a difference: matrices as they are drawn, times 10.
inline Parameters lively_weights(const Config& config, std::uint64_t seed,
                                 DType dtype = DType::f32) {
  ThreadPool pool(1);
  Parameters weights = initial_weights(config, random::Key{seed}, pool);
  for (auto& [name, w] : weights) {
    if (w.rank() >= 2) {
      for (std::int64_t i = 0; i < w.numel(); ++i) w.data<float>()[i] *= 10;
    }
    w = w.to(dtype);
  }
  return weights;
}

// <|endoftext|>, 256 bytes, and `merges` pairs of a small text.
inline Tokenizer small_tokenizer(int merges = 0) {
  WordCounts counts;
  counts.add("the cat sat on the mat, the rat sat on the cat; that is that");
  return Tokenizer(train_tokenizer(counts, {.vocabulary = 257 + merges, .min_count = 1}), "small");
}

inline TokenizedText text_of(const std::vector<std::vector<int>>& documents) {
  const test::TemporaryFolder folder;
  TokenizedWriter out(folder.path(), "text");
  for (const auto& document : documents) out.add(document);
  out.finish();
  return TokenizedText::open(folder.path(), "text");  // stays mapped
}

inline std::vector<int> document(const TokenizedText& text, std::int64_t i) {
  const auto ids = text.document(i);
  return {ids.begin(), ids.end()};
}

// NaN equals itself, 0 and -0 differ.
inline bool same_bits(const Tensor& a, const Tensor& b) {
  const Tensor x = a.contiguous(), y = b.contiguous();
  return x.dtype() == y.dtype() && x.shape() == y.shape() &&
         std::memcmp(x.view().data, y.view().data, static_cast<std::size_t>(x.bytes())) == 0;
}

inline void expect_same_bits(const Parameters& a, const Parameters& b) {
  ASSERT_EQ(a.size(), b.size());
  for (const auto& [name, tensor] : a) EXPECT_TRUE(same_bits(tensor, b.at(name))) << name;
}

inline Parameters copy_of(const Parameters& parameters) {
  Parameters copy;
  for (const auto& [name, tensor] : parameters) copy[name] = tensor.clone();
  return copy;
}

}  // namespace vitrine::nn
