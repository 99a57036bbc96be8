// Elementwise kernels: arithmetic, comparison, logic, selection. Chunks of the flat output, blocks
// of each chunk.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstdint>

#include "tensor/blocks.h"
#include "tensor/convert.h"
#include "tensor/error.h"
#include "tensor/kernels/kernels.h"
#include "tensor/simd/simd.h"
#include "tensor/strided_reader.h"

namespace vitrine::kernels {
namespace {

constexpr std::int64_t kGrain = 16 * kReadBlock;  // elements a thread takes at a time

// Calls f(begin, count) for blocks of the flat range [0, n), in parallel.
template <class F>
void for_blocks(ThreadPool& pool, std::int64_t n, const F& f) {
  pool.parallel_for(n, kGrain, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t at = begin; at < end; at += kReadBlock) f(at, std::min(kReadBlock, end - at));
  });
}

template <class F>
void dispatch_compute(const char* kernel, DType dtype, const F& f) {
  if (dtype == DType::f32) return f(std::type_identity<float>());
  if (dtype == DType::f64) return f(std::type_identity<double>());
  throw GraphError(
      fmt::format("kernel {} computes in f32 or f64 and was given {}; convert it first", kernel,
                  name_of(dtype)));
}

template <class T>
bool compare_one(Compare op, T a, T b) {
  switch (op) {
    case Compare::equal:
      return a == b;
    case Compare::less:
      return a < b;
    case Compare::less_equal:
      return a <= b;
  }
  return false;
}

// The bytes of an element, for kernels that only move them.
template <std::size_t kSize>
using Bytes = std::array<std::byte, kSize>;

template <class E>
void select_bytes(ThreadPool& pool, const View& mask, const View& a, const View& b,
                  const View& out) {
  const StridedReader<bool> mask_in(mask);
  const StridedReader<E> a_in(a), b_in(b);
  for_blocks(pool, out.numel(), [&](std::int64_t at, std::int64_t count) {
    bool mask_buffer[kReadBlock];
    E a_buffer[kReadBlock], b_buffer[kReadBlock];
    const bool* m = mask_in.read(at, count, mask_buffer);
    const E* x = a_in.read(at, count, a_buffer);
    const E* y = b_in.read(at, count, b_buffer);
    E* to = out.as<E>() + at;
    for (std::int64_t i = 0; i < count; ++i) to[i] = m[i] ? x[i] : y[i];
  });
}

// Tiles of a transposed matrix: reading down a column touches one cache line per element, so a
// tile's lines are used while they are still in the cache.
template <class From, class To>
void copy_transposed(ThreadPool& pool, const View& x, const View& out) {
  constexpr std::int64_t kTile = 32;
  const std::int64_t rows = x.shape[0], columns = x.shape[1];
  pool.parallel_for(rows, 2 * kTile, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i0 = begin; i0 < end; i0 += kTile) {
      for (std::int64_t j0 = 0; j0 < columns; j0 += kTile) {
        for (std::int64_t i = i0; i < std::min(i0 + kTile, end); ++i) {
          const From* from = x.as<const From>() + i * x.strides[0];
          To* to = out.as<To>() + i * columns;
          for (std::int64_t j = j0; j < std::min(j0 + kTile, columns); ++j) {
            to[j] = convert<To>(from[j * x.strides[1]]);
          }
        }
      }
    }
  });
}

template <class From, class To>
void copy_as(ThreadPool& pool, const View& x, const View& out) {
  if (x.rank() == 2 && x.strides[0] == 1 && x.strides[1] > 1)
    return copy_transposed<From, To>(pool, x, out);
  const StridedReader<From> in(x);
  for_blocks(pool, out.numel(), [&](std::int64_t at, std::int64_t count) {
    From buffer[kReadBlock];
    const From* from = in.read(at, count, buffer);
    To* to = out.as<To>() + at;
    if constexpr (std::is_same_v<From, To>) {
      std::copy_n(from, count, to);
    } else {
      for (std::int64_t i = 0; i < count; ++i) to[i] = convert<To>(from[i]);
    }
  });
}

// A whole stored tensor as f32.
void copy_widened(ThreadPool& pool, const View& x, const View& out) {
  const std::int64_t n = out.numel(), piece = 8192;  // whole blocks of any type
  pool.parallel_for((n + piece - 1) / piece, 4, [&](std::int64_t begin, std::int64_t end) {
    const std::int64_t first = begin * piece, count = std::min(n, end * piece) - first;
    simd::stored().widen(x.dtype, x.data, first, count, out.as<float>() + first);
  });
}

// Whole rows of blocks, cut along the longest other axis.
void copy_blocks(ThreadPool& pool, const View& x, const View& out) {
  const int along = block_axis({x.shape, x.strides, 0}, x.dtype);
  int cut = -1;
  for (int i = 0; i < x.rank(); ++i) {
    if (i != along && (cut < 0 || x.shape[i] > x.shape[cut])) cut = i;
  }
  if (cut < 0 || x.numel() == 0) return vitrine::convert(x, out);
  const std::int64_t each = x.numel() / x.shape[cut];
  pool.parallel_for(x.shape[cut], std::max<std::int64_t>(1, kGrain / each),
                    [&](std::int64_t begin, std::int64_t end) {
                      View from = x, to = out;
                      from.data += bytes_of(x.dtype, begin * x.strides[cut]);
                      to.data += bytes_of(out.dtype, begin * out.strides[cut]);
                      from.shape[cut] = to.shape[cut] = end - begin;
                      vitrine::convert(from, to);
                    });
}

}  // namespace

void unary(ThreadPool& pool, Unary op, const View& x, const View& out) {
  dispatch_compute("unary", x.dtype, [&]<class T>(std::type_identity<T>) {
    const auto& simd = simd::elementwise<T>();
    const StridedReader<T> in(x);
    for_blocks(pool, out.numel(), [&](std::int64_t at, std::int64_t count) {
      T buffer[kReadBlock];
      simd.unary(op, in.read(at, count, buffer), out.as<T>() + at, count);
    });
  });
}

void softcap(ThreadPool& pool, double cap, const View& x, const View& out) {
  dispatch_compute("softcap", x.dtype, [&]<class T>(std::type_identity<T>) {
    const auto f = simd::elementwise<T>().softcap;
    const StridedReader<T> in(x);
    for_blocks(pool, out.numel(), [&](std::int64_t at, std::int64_t count) {
      T buffer[kReadBlock];
      f(in.read(at, count, buffer), static_cast<T>(cap), out.as<T>() + at, count);
    });
  });
}

void binary(ThreadPool& pool, Binary op, const View& a, const View& b, const View& out) {
  dispatch_compute("binary", a.dtype, [&]<class T>(std::type_identity<T>) {
    const auto& simd = simd::elementwise<T>();
    const StridedReader<T> a_in(a), b_in(b);
    for_blocks(pool, out.numel(), [&](std::int64_t at, std::int64_t count) {
      T a_buffer[kReadBlock], b_buffer[kReadBlock];
      simd.binary(op, a_in.read(at, count, a_buffer), b_in.read(at, count, b_buffer),
                  out.as<T>() + at, count);
    });
  });
}

void compare(ThreadPool& pool, Compare op, const View& a, const View& b, const View& out) {
  if (a.dtype == DType::f16 || a.dtype == DType::bf16) {
    throw GraphError(
        fmt::format("kernel compare does not take {}; convert it to f32 first", name_of(a.dtype)));
  }
  dispatch(a.dtype, [&]<class T>(std::type_identity<T>) {
    if constexpr (!std::is_same_v<T, Half> && !std::is_same_v<T, BFloat16>) {
      const StridedReader<T> a_in(a), b_in(b);
      for_blocks(pool, out.numel(), [&](std::int64_t at, std::int64_t count) {
        T a_buffer[kReadBlock], b_buffer[kReadBlock];
        const T* x = a_in.read(at, count, a_buffer);
        const T* y = b_in.read(at, count, b_buffer);
        bool* to = out.as<bool>() + at;
        for (std::int64_t i = 0; i < count; ++i) to[i] = compare_one(op, x[i], y[i]);
      });
    }
  });
}

void logic(ThreadPool& pool, Logic op, const View& a, const View& b, const View& out) {
  const StridedReader<bool> a_in(a), b_in(op == Logic::not_ ? a : b);
  for_blocks(pool, out.numel(), [&](std::int64_t at, std::int64_t count) {
    bool a_buffer[kReadBlock], b_buffer[kReadBlock];
    const bool* x = a_in.read(at, count, a_buffer);
    const bool* y = b_in.read(at, count, b_buffer);
    bool* to = out.as<bool>() + at;
    switch (op) {
      case Logic::and_:
        for (std::int64_t i = 0; i < count; ++i) to[i] = x[i] && y[i];
        break;
      case Logic::or_:
        for (std::int64_t i = 0; i < count; ++i) to[i] = x[i] || y[i];
        break;
      case Logic::not_:
        for (std::int64_t i = 0; i < count; ++i) to[i] = !x[i];
        break;
    }
  });
}

void select(ThreadPool& pool, const View& mask, const View& a, const View& b, const View& out) {
  switch (size_of(out.dtype)) {
    case 1:
      return select_bytes<Bytes<1>>(pool, mask, a, b, out);
    case 2:
      return select_bytes<Bytes<2>>(pool, mask, a, b, out);
    case 4:
      return select_bytes<std::uint32_t>(pool, mask, a, b, out);
    default:
      return select_bytes<std::uint64_t>(pool, mask, a, b, out);
  }
}

void copy(ThreadPool& pool, const View& x, const View& out) {
  if (is_stored_float(x.dtype) && out.dtype == DType::f32 && x.is_contiguous())
    return copy_widened(pool, x, out);
  if (is_blocked(x.dtype) || is_blocked(out.dtype)) return copy_blocks(pool, x, out);
  dispatch(x.dtype, [&]<class From>(std::type_identity<From>) {
    dispatch(out.dtype, [&]<class To>(std::type_identity<To>) { copy_as<From, To>(pool, x, out); });
  });
}

void fill(ThreadPool& pool, double value, const View& out) {
  dispatch(out.dtype, [&]<class T>(std::type_identity<T>) {
    const T element = convert<T>(value);
    for_blocks(pool, out.numel(), [&](std::int64_t at, std::int64_t count) {
      std::fill_n(out.as<T>() + at, count, element);
    });
  });
}

}  // namespace vitrine::kernels
