// Elementwise functions one element at a time, in f64, by the C library: exact enough for gradient
// checks, and correct at every edge. The SIMD loops (simd/math.cpp) fall back on these.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>

#include "tensor/simd/simd.h"

namespace vitrine::simd {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr double kTwoSqrtTwoOverPi = 1.5957691216057307117597842397375;
constexpr double kCubic = 0.044715;

// x brought into [low, high]; NaN stays.
double clamp(double x, double low, double high) { return x < low ? low : x > high ? high : x; }

double sigmoid(double x) {
  const double e = std::exp(-std::fabs(x));
  return (x < 0 ? e : 1.0) / (1.0 + e);
}

// The bound keeps 0 * inf away: the sigmoid is 0 there.
double silu(double x) {
  x = clamp(x, -750, kInfinity);
  return x * sigmoid(x);
}

// gelu(x) = x sigmoid(2u), 2u = 2 sqrt(2/pi) (x + 0.044715 x^3). The bound keeps 0 * inf away: the
// sigmoid is 0 there.
double gelu_tanh(double x) {
  x = clamp(x, -60, kInfinity);
  return x * sigmoid(kTwoSqrtTwoOverPi * x * (1 + kCubic * x * x));
}

// s + x s (1 - s) d(2u)/dx, where s (1 - s) = e / (1 + e)^2 with e = exp(-|2u|)
double gelu_tanh_slope(double x) {
  x = clamp(x, -60, 60);
  const double e = std::exp(-std::fabs(kTwoSqrtTwoOverPi * x * (1 + kCubic * x * x)));
  const double s = (x < 0 ? e : 1.0) / (1 + e);
  return s + x * e / ((1 + e) * (1 + e)) * kTwoSqrtTwoOverPi * (1 + 3 * kCubic * x * x);
}

// The standard normal distribution function.
double normal_cdf(double x) { return 0.5 * std::erfc(-x * 0.70710678118654752440); }

double gelu_erf(double x) {
  x = clamp(x, -60, kInfinity);
  return x * normal_cdf(x);
}

// Phi(x) + x phi(x)
double gelu_erf_slope(double x) {
  x = clamp(x, -60, 60);
  return normal_cdf(x) + x * 0.39894228040143267794 * std::exp(-0.5 * x * x);
}

template <class T, class F>
void map(F f, const T* x, T* out, std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i) out[i] = static_cast<T>(f(static_cast<double>(x[i])));
}

template <class T>
void unary_by_element(kernels::Unary op, const T* x, T* out, std::int64_t n) {
  using kernels::Unary;
  switch (op) {
    case Unary::exp:
      return map([](double v) { return std::exp(v); }, x, out, n);
    case Unary::log:
      return map([](double v) { return std::log(v); }, x, out, n);
    case Unary::sin:
      return map([](double v) { return std::sin(v); }, x, out, n);
    case Unary::cos:
      return map([](double v) { return std::cos(v); }, x, out, n);
    case Unary::tanh:
      return map([](double v) { return std::tanh(v); }, x, out, n);
    case Unary::erf:
      return map([](double v) { return std::erf(v); }, x, out, n);
    case Unary::sigmoid:
      return map(sigmoid, x, out, n);
    case Unary::gelu_tanh:
      return map(gelu_tanh, x, out, n);
    case Unary::gelu_tanh_slope:
      return map(gelu_tanh_slope, x, out, n);
    case Unary::gelu_erf:
      return map(gelu_erf, x, out, n);
    case Unary::gelu_erf_slope:
      return map(gelu_erf_slope, x, out, n);
    case Unary::silu:
      return map(silu, x, out, n);
    case Unary::neg:
    case Unary::abs:
    case Unary::sign:
    case Unary::square:
    case Unary::sqrt:
    case Unary::rsqrt:
    case Unary::reciprocal:
    case Unary::relu:
      return;  // arithmetic: always SIMD
  }
}

}  // namespace

void scalar_unary(kernels::Unary op, const float* x, float* out, std::int64_t n) {
  unary_by_element(op, x, out, n);
}
void scalar_unary(kernels::Unary op, const double* x, double* out, std::int64_t n) {
  unary_by_element(op, x, out, n);
}
void scalar_softcap(const double* x, double cap, double* out, std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i)
    out[i] = x[i] == -kInfinity ? x[i] : cap * std::tanh(x[i] / cap);
}

}  // namespace vitrine::simd
