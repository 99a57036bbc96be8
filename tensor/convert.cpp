#include "tensor/convert.h"

#include <cstring>

#include "tensor/blocks.h"

namespace vitrine {
namespace {

// n elements with the given strides (in elements).
template <class From, class To>
void convert_row(const From* from, std::int64_t from_step, To* to, std::int64_t to_step,
                 std::int64_t n) {
  if (from_step == 1 && to_step == 1) {
    if constexpr (std::is_same_v<From, To>) {
      std::memcpy(to, from, static_cast<std::size_t>(n) * sizeof(To));
      return;
    } else if constexpr (std::is_same_v<To, float> &&
                         (std::is_same_v<From, Half> || std::is_same_v<From, BFloat16>)) {
      to_float(from, to, n);
      return;
    } else if constexpr (std::is_same_v<From, float> && std::is_same_v<To, Half>) {
      to_half(from, to, n);
      return;
    } else if constexpr (std::is_same_v<From, float> && std::is_same_v<To, BFloat16>) {
      to_bfloat16(from, to, n);
      return;
    }
  }
  for (std::int64_t i = 0; i < n; ++i) to[i * to_step] = convert<To>(from[i * from_step]);
}

// Walks the axes from `axis` on, row by row; from_at and to_at are the element offsets so far.
template <class From, class To>
void convert_axes(const View& from, const View& to, int axis, std::int64_t from_at,
                  std::int64_t to_at) {
  const int last = from.rank() - 1;
  const From* source = from.as<From>() + from_at;
  To* target = to.as<To>() + to_at;
  if (axis == last) {
    convert_row(source, from.strides[last], target, to.strides[last], from.shape[last]);
    return;
  }
  for (std::int64_t i = 0; i < from.shape[axis]; ++i) {
    convert_axes<From, To>(from, to, axis + 1, from_at + i * from.strides[axis],
                           to_at + i * to.strides[axis]);
  }
}

}  // namespace

void convert(const View& from, const View& to) {
  const std::int64_t n = from.numel();
  if (n == 0) return;
  if (is_blocked(from.dtype) || is_blocked(to.dtype)) return convert_blocks(from, to);
  const bool contiguous = from.is_contiguous() && to.is_contiguous();
  dispatch(from.dtype, [&](auto from_type) {
    using From = typename decltype(from_type)::type;
    dispatch(to.dtype, [&](auto to_type) {
      using To = typename decltype(to_type)::type;
      if (contiguous) {  // scalars come this way
        convert_row(from.as<From>(), 1, to.as<To>(), 1, n);
      } else {
        convert_axes<From, To>(from, to, 0, 0, 0);
      }
    });
  });
}

}  // namespace vitrine
