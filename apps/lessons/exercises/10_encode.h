// Exercise of lesson 10: the encoder of a sparse autoencoder.
#pragma once

#include <vector>

#include "tensor/tensor.h"

namespace vitrine::lesson {

// Weights of an SAE: 256 inputs, 2,048 features. w_enc.at<float>({i, j}) is read by feature j of input i.
struct SaeWeights {
  Tensor w_enc;             // f32 [256, 2048]
  Tensor b_enc, threshold;  // f32 [2048]
  Tensor b_dec;             // f32 [256]
};

// The features of x [256]: 2,048 numbers, most of them 0.
std::vector<double> encode(const std::vector<double>& x, const SaeWeights& sae);

}  // namespace vitrine::lesson
