// The elementwise functions that kernels and matrix products share.
#pragma once

namespace vitrine::kernels {

enum class Unary {
  neg,
  abs,
  sign,
  square,
  sqrt,
  rsqrt,
  reciprocal,
  exp,
  log,
  sin,
  cos,
  tanh,
  erf,
  sigmoid,
  relu,
  gelu_tanh,        // x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))): HuggingFace's gelu_new
  gelu_erf,         // x/2 (1 + erf(x / sqrt 2))
  gelu_tanh_slope,  // d gelu_tanh / dx
  gelu_erf_slope,   // d gelu_erf / dx
  silu,             // x / (1 + e^-x)
};

enum class Binary { add, sub, mul, div, maximum, minimum };

}  // namespace vitrine::kernels
