#include "tensor/kernels/place.h"

#include <cstring>

namespace vitrine::kernels {
namespace {

// Visits the rows (runs along the last axis) of `shape` numbered [begin, end), with the index of
// each.
template <class F>
void for_rows(const Shape& shape, std::int64_t begin, std::int64_t end, const F& f) {
  Dims index = Dims::filled(shape.size(), 0);
  for (std::int64_t rest = begin, a = shape.size() - 2; a >= 0; --a) {
    index[static_cast<int>(a)] = rest % shape[static_cast<int>(a)];
    rest /= shape[static_cast<int>(a)];
  }
  for (std::int64_t row = begin; row < end; ++row) {
    f(index);
    for (int a = shape.size() - 2; a >= 0; --a) {
      if (++index[a] < shape[a]) break;
      index[a] = 0;
    }
  }
}

std::int64_t offset_of(const View& v, const Dims& index) {
  std::int64_t at = 0;
  for (int a = 0; a + 1 < v.rank(); ++a) at += index[a] * v.strides[a];
  return at;
}

// A scalar is one row of one element.
View at_least_one_axis(const View& v) { return v.rank() > 0 ? v : View{v.data, v.dtype, {1}, {1}}; }

std::int64_t row_count(const Shape& shape) {
  return shape.back() == 0 ? 0 : numel(shape) / shape.back();
}
std::int64_t grain_for(std::int64_t row_length) {
  return std::max<std::int64_t>(1, 16384 / std::max<std::int64_t>(1, row_length));
}

template <class T>
void copy_rows(ThreadPool& pool, const View& x, const View& out) {
  const std::int64_t n = x.shape.back(), xs = x.strides.back(), os = out.strides.back();
  pool.parallel_for(row_count(x.shape), grain_for(n), [&](std::int64_t begin, std::int64_t end) {
    for_rows(x.shape, begin, end, [&](const Dims& index) {
      const T* from = x.as<T>() + offset_of(x, index);
      T* to = out.as<T>() + offset_of(out, index);
      if (xs == 1 && os == 1) {
        std::memcpy(to, from, static_cast<std::size_t>(n) * sizeof(T));
      } else {
        for (std::int64_t i = 0; i < n; ++i) to[i * os] = from[i * xs];
      }
    });
  });
}

template <class T>
void mask_rows(ThreadPool& pool, const View& x, const View& position, const MaskRule& rule,
               const View& out) {
  const int last = x.rank() - 1;
  const std::int64_t n = x.shape.back(), stride = x.strides.back();
  const T fill = static_cast<T>(rule.fill);
  const auto query = [&](std::int64_t index) {
    return position.data == nullptr ? index
                                    : position.as<std::int32_t>()[index * position.strides[0]];
  };
  pool.parallel_for(row_count(x.shape), grain_for(n), [&](std::int64_t begin, std::int64_t end) {
    for_rows(x.shape, begin, end, [&](const Dims& index) {
      const T* from = x.as<T>() + offset_of(x, index);
      T* to = out.as<T>() + offset_of(out, index);
      for (std::int64_t i = 0; i < n; ++i) {
        const std::int64_t q = query(rule.query_axis == last ? i : index[rule.query_axis]);
        const std::int64_t k = rule.key_axis == last ? i : index[rule.key_axis];
        const bool hidden = k > q + rule.offset || (rule.window != 0 && q - k >= rule.window);
        to[i] = hidden ? fill : from[i * stride];
      }
    });
  });
}

}  // namespace

void copy_into(ThreadPool& pool, const View& x_in, const View& out_in) {
  const View x = at_least_one_axis(x_in), out = at_least_one_axis(out_in);
  switch (size_of(x.dtype)) {
    case 8:
      return copy_rows<std::uint64_t>(pool, x, out);
    case 4:
      return copy_rows<std::uint32_t>(pool, x, out);
    case 2:
      return copy_rows<std::uint16_t>(pool, x, out);
    default:
      return copy_rows<std::uint8_t>(pool, x, out);
  }
}

void mask_keys(ThreadPool& pool, const View& x, const View& position, const MaskRule& rule,
               const View& out) {
  if (x.dtype == DType::f64) mask_rows<double>(pool, x, position, rule, out);
  else mask_rows<float>(pool, x, position, rule, out);
}

}  // namespace vitrine::kernels
