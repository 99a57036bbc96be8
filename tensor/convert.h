// Dtype dispatch to a C++ type, and conversion of elements between dtypes. Serial and simple;
// kernels/kernels.h has the parallel copy for plans.
#pragma once

#include <cstdint>
#include <limits>
#include <type_traits>
#include <utility>

#include "tensor/dtype.h"
#include "tensor/tensor.h"

namespace vitrine {

// Calls f(std::type_identity<T>{}) with the C++ type T of the dtype. Throws ShapeError for blocked
// types, whose elements have none.
template <class F>
decltype(auto) dispatch(DType dtype, F&& f) {
  switch (dtype) {
    case DType::f64:
      return std::forward<F>(f)(std::type_identity<double>{});
    case DType::f16:
      return std::forward<F>(f)(std::type_identity<Half>{});
    case DType::bf16:
      return std::forward<F>(f)(std::type_identity<BFloat16>{});
    case DType::i32:
      return std::forward<F>(f)(std::type_identity<std::int32_t>{});
    case DType::i64:
      return std::forward<F>(f)(std::type_identity<std::int64_t>{});
    case DType::boolean:
      return std::forward<F>(f)(std::type_identity<bool>{});
    case DType::f32:
      break;
    default:
      throw_blocked(dtype, "one element");
  }
  return std::forward<F>(f)(std::type_identity<float>{});
}

// One element. To an integer: truncates, saturates at the ends of its range, NaN gives 0. To
// boolean: x != 0, so NaN is true. To f16 and bf16: by way of f32, each step rounding to nearest
// even.
template <class To, class From>
inline To convert(From x) {
  if constexpr (std::is_same_v<From, Half> || std::is_same_v<From, BFloat16>) {
    if constexpr (std::is_same_v<To, From>) {
      return x;
    } else {
      return convert<To>(to_float(x));
    }
  } else if constexpr (std::is_same_v<To, Half>) {
    return to_half(static_cast<float>(x));
  } else if constexpr (std::is_same_v<To, BFloat16>) {
    return to_bfloat16(static_cast<float>(x));
  } else if constexpr (std::is_same_v<To, bool>) {
    return x != From{};
  } else if constexpr (std::is_integral_v<To> && std::is_floating_point_v<From>) {
    using Limits = std::numeric_limits<To>;
    constexpr From kLow = static_cast<From>(Limits::min());  // -2^31 or -2^63: exact
    if (x != x) return 0;
    if (x <= kLow) return Limits::min();
    if (x >= -kLow) return Limits::max();
    return static_cast<To>(x);
  } else if constexpr (std::is_integral_v<To> && sizeof(To) < sizeof(From)) {
    using Limits = std::numeric_limits<To>;
    if (x < Limits::min()) return Limits::min();
    return x > Limits::max() ? Limits::max() : static_cast<To>(x);
  } else {
    return static_cast<To>(x);
  }
}

// to[i...] = from[i...], converted. Equal shapes, any strides; the two do not overlap. Blocks are
// widened, or copied to the same type whose block axis is the same; nothing else becomes blocks
// (ShapeError).
void convert(const View& from, const View& to);

}  // namespace vitrine
