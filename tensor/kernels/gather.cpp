// Gather and scatter by index, and their transposes.
#include <fmt/format.h>

#include <algorithm>
#include <cstdint>
#include <span>
#include <vector>

#include "tensor/convert.h"
#include "tensor/error.h"
#include "tensor/kernels/kernels.h"
#include "tensor/simd/simd.h"
#include "tensor/strided_reader.h"

namespace vitrine::kernels {
namespace {

constexpr std::int64_t kChunk = 16384;  // elements a thread takes at a time

std::int64_t grain_for(std::int64_t width) {
  return std::max<std::int64_t>(1, kChunk / std::max<std::int64_t>(1, width));
}

template <class Index>
void read_indices_as(const View& index, std::vector<std::int64_t>& out) {
  const StridedReader<Index> in(index);
  std::vector<Index> buffer(out.size());
  const Index* from = in.read(0, index.numel(), buffer.data());
  std::copy_n(from, out.size(), out.begin());
}

// The indices in row-major order, each in [0, size), or -1 where `hole_allowed`.
std::vector<std::int64_t> read_indices(const char* kernel, const View& index, std::int64_t size,
                                       bool hole_allowed) {
  std::vector<std::int64_t> out(static_cast<std::size_t>(index.numel()));
  if (out.empty()) return out;
  if (index.dtype == DType::i32) {
    read_indices_as<std::int32_t>(index, out);
  } else if (index.dtype == DType::i64) {
    read_indices_as<std::int64_t>(index, out);
  } else {
    throw GraphError(fmt::format("{}: indices are i32 or i64, not {}; convert them first", kernel,
                                 name_of(index.dtype)));
  }
  for (std::size_t i = 0; i < out.size(); ++i) {
    if (out[i] >= (hole_allowed ? -1 : 0) && out[i] < size) continue;
    throw GraphError(fmt::format(
        "{}: index {} at position {} of {} is out of range; expected 0 to {}{}", kernel, out[i], i,
        to_string(index.shape), size - 1, hole_allowed ? ", or -1 for none" : ""));
  }
  return out;
}

template <class E>
void gather_as(ThreadPool& pool, std::span<const View> tables,
               const std::vector<std::int64_t>& index, const View& out) {
  std::vector<StridedReader<E>> in;
  std::vector<std::int64_t> end;  // of each table's rows, all tables one after the other
  for (const View& table : tables) {
    in.emplace_back(table);
    end.push_back((end.empty() ? 0 : end.back()) + table.shape[0]);
  }
  const auto count = static_cast<std::int64_t>(index.size());
  const std::int64_t width = count == 0 ? 0 : out.numel() / count;
  pool.parallel_for(count, grain_for(width), [&](std::int64_t first, std::int64_t last) {
    for (std::int64_t i = first; i < last; ++i) {
      E* to = out.as<E>() + i * width;
      const std::int64_t row = index[static_cast<std::size_t>(i)];
      if (row < 0) {
        std::fill_n(to, width, E{});
        continue;
      }
      const auto t =
          static_cast<std::size_t>(std::upper_bound(end.begin(), end.end(), row) - end.begin());
      const std::int64_t begin = t == 0 ? 0 : end[t - 1];
      const E* from = in[t].read((row - begin) * width, width, to);
      if (from != to) std::copy_n(from, width, to);
    }
  });
}

// Columns are cut into blocks; each block adds the rows in their order, so the sum of a repeated
// index is always the same.
template <class T>
void scatter_add_as(ThreadPool& pool, const View& x, const std::vector<std::int64_t>& index,
                    const View& out) {
  constexpr std::int64_t kColumns = 128;
  const auto rows = static_cast<std::int64_t>(index.size());
  if (rows == 0) return;
  const std::int64_t width = x.numel() / rows;
  const StridedReader<T> in(x);
  const auto& simd = simd::rows<T>();
  pool.parallel_for(
      (width + kColumns - 1) / kColumns, 1, [&](std::int64_t begin, std::int64_t end) {
        T buffer[kColumns];
        for (std::int64_t block = begin; block < end; ++block) {
          const std::int64_t column = block * kColumns, count = std::min(kColumns, width - column);
          for (std::int64_t r = 0; r < rows; ++r) {
            const std::int64_t to = index[static_cast<std::size_t>(r)];
            if (to < 0) continue;
            simd.add(in.read(r * width + column, count, buffer), out.as<T>() + to * width + column,
                     count);
          }
        }
      });
}

// [n, ...] of blocks as [n, bytes of a row].
View rows_of_bytes(const View& x) {
  Layout row{x.shape, x.strides, 0};
  row.shape[0] = 1;
  if (!row.is_contiguous() || x.rank() < 2) {
    throw GraphError(
        fmt::format("the rows of a table {}{} do not lie whole in memory, and {} cannot be "
                    "taken apart; convert it to f32 first",
                    name_of(x.dtype), to_string(x.shape), name_of(x.dtype)));
  }
  return {x.data,
          DType::boolean,
          {x.shape[0], bytes_of(x.dtype, numel(row.shape))},
          {bytes_of(x.dtype, x.strides[0]), 1}};
}

// Rows of a stored table, widened.
void gather_widened(ThreadPool& pool, const View& table, const std::vector<std::int64_t>& index,
                    const View& out) {
  const auto count = static_cast<std::int64_t>(index.size());
  const std::int64_t width = count == 0 ? 0 : out.numel() / count;
  const auto widen = simd::stored().widen;
  pool.parallel_for(count, grain_for(width), [&](std::int64_t first, std::int64_t last) {
    for (std::int64_t i = first; i < last; ++i) {
      float* to = out.as<float>() + i * width;
      const std::int64_t row = index[static_cast<std::size_t>(i)];
      if (row < 0) std::fill_n(to, width, 0.0f);
      else widen(table.dtype, table.data, row * table.strides[0], width, to);
    }
  });
}

template <class F>
void dispatch_bytes(DType dtype, const F& f) {
  switch (size_of(dtype)) {
    case 1:
      return f(std::uint8_t());
    case 2:
      return f(std::uint16_t());
    case 4:
      return f(std::uint32_t());
    default:
      return f(std::uint64_t());
  }
}

}  // namespace

bool gathers_stored(DType stored, const Layout& table) {
  const int rank = table.shape.size();
  if (!is_stored_float(stored) || rank == 0) return false;
  std::int64_t width = 1;
  for (int axis = rank - 1; axis > 0; --axis) {
    if (table.shape[axis] != 1 && table.strides[axis] != width) return false;
    width *= table.shape[axis];
  }
  constexpr std::int64_t kGroup = 32;  // what is widened at a time
  return !is_blocked(stored) || (width % kGroup == 0 && table.strides[0] % kGroup == 0);
}

void gather_rows(ThreadPool& pool, const View& table, const View& index, const View& out) {
  if (table.dtype != out.dtype)
    return gather_widened(pool, table, read_indices("gather_rows", index, table.shape[0], true),
                          out);
  gather_rows_from(pool, {&table, 1}, index, out);
}
void gather_rows_from(ThreadPool& pool, std::span<const View> tables, const View& index,
                      const View& out) {
  std::int64_t size = 0;
  for (const View& table : tables) size += table.shape[0];
  const auto rows = read_indices("gather_rows", index, size, true);
  if (is_blocked(out.dtype)) {  // a row of whole blocks is so many bytes
    std::vector<View> bytes;
    for (const View& table : tables) bytes.push_back(rows_of_bytes(table));
    const Shape in_rows = {static_cast<std::int64_t>(rows.size()), bytes[0].shape[1]};
    return gather_as<std::uint8_t>(
        pool, bytes, rows, {out.data, DType::boolean, in_rows, contiguous_strides(in_rows)});
  }
  dispatch_bytes(out.dtype, [&]<class E>(E) { gather_as<E>(pool, tables, rows, out); });
}

void scatter_add_rows(ThreadPool& pool, const View& x, const View& index, const View& out) {
  const auto rows = read_indices("scatter_add_rows", index, out.shape[0], true);
  fill(pool, 0, out);
  if (x.dtype == DType::f32) {
    scatter_add_as<float>(pool, x, rows, out);
  } else {
    scatter_add_as<double>(pool, x, rows, out);
  }
}

void pick(ThreadPool& pool, const View& x, const View& index, const View& out) {
  const std::int64_t width = x.shape.back();
  const auto chosen = read_indices("pick", index, width, false);
  dispatch_bytes(x.dtype, [&]<class E>(E) {
    const StridedReader<E> in(x);
    pool.parallel_for(
        static_cast<std::int64_t>(chosen.size()), 1024, [&](std::int64_t begin, std::int64_t end) {
          E one;
          for (std::int64_t i = begin; i < end; ++i) {
            out.as<E>()[i] = *in.read(i * width + chosen[static_cast<std::size_t>(i)], 1, &one);
          }
        });
  });
}

void unpick(ThreadPool& pool, const View& x, const View& index, const View& out) {
  const std::int64_t width = out.shape.back();
  const auto chosen = read_indices("unpick", index, width, false);
  fill(pool, 0, out);
  dispatch_bytes(x.dtype, [&]<class E>(E) {
    const StridedReader<E> in(x);
    E one;
    for (std::size_t i = 0; i < chosen.size(); ++i) {
      const auto row = static_cast<std::int64_t>(i);
      out.as<E>()[row * width + chosen[i]] = *in.read(row, 1, &one);
    }
  });
}

}  // namespace vitrine::kernels
