// One matrix product by cache blocking and packing (Goto & van de Geijn 2008), for matmul and the
// attention kernels.
//
// Both sides are packed. out = a b is cut along k into blocks that are summed one after the other,
// the same for every thread, tile and shape: an element's bits depend on its row of a, its column
// of b and k alone. Products of few rows (GEMV-like) are bound by reading b: loops that read it in
// place win over packing it first; they have an order of their own.
#pragma once

#include <algorithm>
#include <cstdint>
#include <new>
#include <optional>

#include "tensor/memory.h"
#include "tensor/simd/functions.h"
#include "tensor/simd/simd.h"
#include "tensor/thread_pool.h"

namespace vitrine {

// A matrix with any strides, in elements.
template <class T>
struct Matrix {
  const T* data;
  std::int64_t row_stride, column_stride;
  const T* at(std::int64_t i, std::int64_t j) const {
    return data + i * row_stride + j * column_stride;
  }
  Matrix transposed() const { return {data, column_stride, row_stride}; }
};

// The right side of a product: a matrix of T, or for T = float one that is stored in fewer bits and
// widened as it is read. Its first element is element `first` of what `data` points at.
template <class T>
struct RightSide {
  const std::byte* data;
  DType dtype;
  std::int64_t first, row_stride, column_stride;
  RightSide(const Matrix<T>& m)  // NOLINT(google-explicit-constructor)
      : data(reinterpret_cast<const std::byte*>(m.data)),
        dtype(dtype_of<T>),
        first(0),
        row_stride(m.row_stride),
        column_stride(m.column_stride) {}
  RightSide(const std::byte* from, DType stored, std::int64_t begin, std::int64_t down,
            std::int64_t across)
      : data(from), dtype(stored), first(begin), row_stride(down), column_stride(across) {}

  bool stored() const { return dtype != dtype_of<T>; }
  std::int64_t index(std::int64_t i, std::int64_t j) const {
    return first + i * row_stride + j * column_stride;
  }
  const T* at(std::int64_t i, std::int64_t j) const {  // of what is not stored
    return reinterpret_cast<const T*>(data) + index(i, j);
  }
};

// The epilogue: what is done to a tile of the product while it is in the caches.
template <class T>
struct Finish {
  bool add = false;         // to what out holds; else out is overwritten
  const T* bias = nullptr;  // [n], added to each row
  std::optional<kernels::Unary> then;
};

// Adds the bias and applies the function: columns [column, column + columns) of the product.
template <class T>
void finish_tile(const Finish<T>& finish, T* out, std::int64_t ldo, std::int64_t rows,
                 std::int64_t column, std::int64_t columns) {
  const auto& simd = simd::elementwise<T>();
  for (std::int64_t i = 0; i < rows; ++i) {
    T* row = out + i * ldo;
    if (finish.bias != nullptr)
      simd.binary(kernels::Binary::add, row, finish.bias + column, row, columns);
    if (finish.then) simd.unary(*finish.then, row, row, columns);
  }
}

// Memory that a thread keeps from one product to the next.
template <class T>
class Scratch {
 public:
  T* of(std::int64_t size) {
    if (size > size_) {
      memory_ = allocate_memory(size * static_cast<std::int64_t>(sizeof(T)));
      if (memory_ == nullptr) throw std::bad_alloc();
      size_ = size;
    }
    return reinterpret_cast<T*>(memory_.get());
  }

 private:
  Memory memory_;
  std::int64_t size_ = 0;
};

template <class T>
class Product {  // [m, k] times [k, n] to out, whose rows are ldo elements apart
 public:
  Product(const Matrix<T>& a, const RightSide<T>& b, std::int64_t m, std::int64_t n, std::int64_t k,
          T* out, std::int64_t ldo, const Finish<T>& finish = {})
      : a_(a), b_(b), m_(m), n_(n), k_(k), out_(out), ldo_(ldo), finish_(finish) {}

  // No size is 0.
  void run(ThreadPool& pool) const {
    run(pool.threads(), [&](std::int64_t count, std::int64_t grain, const auto& f) {
      pool.parallel_for(count, grain, f);
    });
  }
  void run_here() const {  // on this thread alone
    run(1, [](std::int64_t count, std::int64_t, const auto& f) { f(0, count); });
  }

 private:
  template <class ParallelFor>
  void run(int threads, const ParallelFor& parallel_for) const {
    if (few_rows()) run_in_place(threads, parallel_for);
    else run_packed(threads, parallel_for);
  }

  // ---- few rows -------------------------------------------------------------------------------
  bool few_rows() const {
    const auto& simd = simd::skinny<T>();
    return k_ <= simd::kLongestFewRows && !finish_.add && a_.column_stride == 1 &&
           ((b_.column_stride == 1 && m_ <= simd.most_rows) ||
            (b_.row_stride == 1 && m_ <= simd.most_rows_transposed));
  }
  // Columns of a tile: many, so that memory is read in long runs, but a tile for each thread. Whole
  // panels for every CPU (multiples of 48) and whole groups of blocks: bits do not depend on it.
  std::int64_t tile_of_few_rows(int threads) const {
    constexpr std::int64_t kMost = 384;
    const std::int64_t whole = is_blocked(b_.dtype) ? 96 : 48;
    const std::int64_t tiles = divide_up(divide_up(n_, kMost), threads) * threads;
    return divide_up(divide_up(n_, tiles), whole) * whole;
  }
  template <class ParallelFor>
  void run_in_place(int threads, const ParallelFor& parallel_for) const {
    thread_local Scratch<T> scratch;
    const auto& simd = simd::skinny<T>();
    const bool side_by_side = b_.column_stride == 1 && m_ <= simd.most_rows;
    T* turned = nullptr;  // a, where that is what is read
    if (!side_by_side && m_ > simd.most_rows_dots) {
      turned = scratch.of(simd.turned_size(m_, k_));
      simd.turn(a_.data, a_.row_stride, m_, k_, turned);
    }
    const std::int64_t wide = tile_of_few_rows(threads), work = m_ * k_ * wide;
    parallel_for(divide_up(n_, wide), std::max<std::int64_t>(1, kWorkOfFewRows / work),
                 [&](std::int64_t begin, std::int64_t end) {
                   for (std::int64_t tile = begin; tile < end; ++tile) {
                     const std::int64_t j = tile * wide, columns = std::min(wide, n_ - j);
                     if (side_by_side) multiply_side_by_side(j, columns);
                     else multiply_columns(turned, j, columns);
                     finish(out_ + j, m_, j, columns);
                   }
                 });
  }
  void multiply_side_by_side(std::int64_t j, std::int64_t columns) const {
    if constexpr (sizeof(T) == sizeof(float)) {
      if (is_blocked(b_.dtype)) return multiply_widened(j, columns);
      if (b_.stored())
        return simd::stored().side_by_side(b_.dtype, a_.data, a_.row_stride, m_, b_.data,
                                           b_.index(0, j), b_.row_stride, k_, columns, out_ + j,
                                           ldo_);
    }
    simd::skinny<T>().side_by_side(a_.data, a_.row_stride, m_, b_.at(0, j), b_.row_stride, k_,
                                   columns, out_ + j, ldo_);
  }
  void multiply_columns(const T* turned, std::int64_t j, std::int64_t columns) const {
    const std::int64_t ldb = b_.column_stride;
    if constexpr (sizeof(T) == sizeof(float)) {
      if (b_.stored()) {
        const auto& simd = simd::stored();
        const std::int64_t first = b_.index(0, j);
        if (turned != nullptr)
          return simd.spread(b_.dtype, turned, m_, b_.data, first, ldb, k_, columns, out_ + j,
                             ldo_);
        return simd.dots(b_.dtype, a_.data, a_.row_stride, m_, b_.data, first, ldb, k_, columns,
                         out_ + j, ldo_);
      }
    }
    const auto& simd = simd::skinny<T>();
    const T* b = b_.at(0, j);
    if (turned != nullptr) simd.spread(turned, m_, b, ldb, k_, columns, out_ + j, ldo_);
    else simd.dots(a_.data, a_.row_stride, m_, b, ldb, k_, columns, out_ + j, ldo_);
  }
  // Blocks along n: columns [j, j + columns) are widened first.
  void multiply_widened(std::int64_t j, std::int64_t columns) const {
    thread_local Scratch<float> scratch;
    float* wide = scratch.of(k_ * columns);
    for (std::int64_t i = 0; i < k_; ++i)
      simd::stored().widen(b_.dtype, b_.data, b_.index(i, j), columns, wide + i * columns);
    simd::skinny<float>().side_by_side(a_.data, a_.row_stride, m_, wide, columns, k_, columns,
                                       out_ + j, ldo_);
  }

  // ---- packed ---------------------------------------------------------------------------------
  // One block of b: it stays in the second-level cache.
  static constexpr std::int64_t kDepth = 384, kColumns = 192;
  // a is packed in slabs of at most 16 MB of f32.
  static constexpr std::int64_t kSlab = 4 << 20, kSlabRows = 8192;

  struct Slab {
    std::int64_t row, rows, depth, k;  // rows from `row`, indices from `depth`
    const T* packed;
    bool first() const { return depth == 0; }
  };

  template <class ParallelFor>
  void run_packed(int threads, const ParallelFor& parallel_for) const {
    thread_local Scratch<T> scratch;
    const auto& simd = simd::gemm<T>();
    for (std::int64_t row = 0; row < m_; row += kSlabRows) {
      const std::int64_t rows = std::min(kSlabRows, m_ - row);
      const std::int64_t step = std::max(kDepth, kSlab / simd.packed_rows(rows) / kDepth * kDepth);
      for (std::int64_t depth = 0; depth < k_; depth += step) {
        const std::int64_t k = std::min(step, k_ - depth);
        T* packed = scratch.of(simd.packed_rows(rows) * k);
        parallel_for(
            simd.packed_rows(rows) / simd.rows, 8, [&](std::int64_t begin, std::int64_t end) {
              const std::int64_t from = begin * simd.rows, to = std::min(rows, end * simd.rows);
              simd.pack_a(a_.at(row + from, depth), a_.row_stride, a_.column_stride, to - from, k,
                          packed + from * k);
            });
        run_tiles({row, rows, depth, k, packed}, threads, parallel_for);
      }
    }
  }

  // Tiles of kColumns columns and all rows; fewer rows where there would not be enough tiles for
  // the threads to share. Bits do not depend on it.
  template <class ParallelFor>
  void run_tiles(const Slab& slab, int threads, const ParallelFor& parallel_for) const {
    const auto& simd = simd::gemm<T>();
    const std::int64_t across = divide_up(n_, kColumns);
    const std::int64_t enough = threads == 1 ? 1 : 4 * threads;
    const std::int64_t smallest = 64;  // rows: below, packing b shows
    std::int64_t down =
        std::clamp<std::int64_t>(divide_up(enough, across), 1, divide_up(slab.rows, smallest));
    const std::int64_t height = simd.packed_rows(divide_up(slab.rows, down));
    down = divide_up(slab.rows, height);
    const std::int64_t work = height * std::min(n_, kColumns) * slab.k;
    parallel_for(down * across, std::max<std::int64_t>(1, kWork / work),
                 [&](std::int64_t begin, std::int64_t end) {
                   for (std::int64_t tile = begin; tile < end; ++tile) {
                     const std::int64_t row = tile / across * height,
                                        column = tile % across * kColumns;
                     run_tile(slab, row, std::min(height, slab.rows - row), column,
                              std::min(kColumns, n_ - column));
                   }
                 });
  }

  void run_tile(const Slab& slab, std::int64_t row, std::int64_t rows, std::int64_t column,
                std::int64_t columns) const {
    thread_local Scratch<T> scratch;
    const auto& simd = simd::gemm<T>();
    T* packed = scratch.of(kDepth * simd.packed_columns(kColumns));
    T* out = out_ + (slab.row + row) * ldo_ + column;
    for (std::int64_t i = 0; i < slab.k; i += kDepth) {
      const std::int64_t k = std::min(kDepth, slab.k - i);
      pack_b(slab.depth + i, column, columns, k, packed);
      simd.multiply(slab.packed + row * slab.k + i * simd.rows, slab.k, packed, rows, columns, k,
                    finish_.add || !slab.first() || i > 0, out, ldo_);
    }
    if (slab.depth + slab.k == k_) finish(out, rows, column, columns);
  }

  // Rows [row, row + k) of columns [column, column + columns) of b, in panels.
  void pack_b(std::int64_t row, std::int64_t column, std::int64_t columns, std::int64_t k,
              T* packed) const {
    const auto& simd = simd::gemm<T>();
    if constexpr (sizeof(T) == sizeof(float)) {
      if (b_.stored()) return pack_stored(row, column, columns, k, packed);
    }
    simd.pack_b(b_.at(row, column), b_.column_stride, b_.row_stride, columns, k, packed);
  }
  void pack_stored(std::int64_t row, std::int64_t column, std::int64_t columns, std::int64_t k,
                   float* packed) const {
    thread_local Scratch<float> scratch;
    const auto& simd = simd::gemm<float>();
    const auto widen = simd::stored().widen;
    if (b_.column_stride == 1) {
      float* rows = scratch.of(k * columns);
      for (std::int64_t i = 0; i < k; ++i)
        widen(b_.dtype, b_.data, b_.index(row + i, column), columns, rows + i * columns);
      return simd.pack_b(rows, 1, columns, columns, k, packed);
    }
    float* panel = scratch.of(simd.columns * k);  // one at a time: it stays in the caches
    for (std::int64_t c = 0; c < columns; c += simd.columns) {
      const std::int64_t here = std::min(simd.columns, columns - c);
      for (std::int64_t j = 0; j < here; ++j)
        widen(b_.dtype, b_.data, b_.index(row, column + c + j), k, panel + j * k);
      simd.pack_b(panel, k, 1, here, k, packed + c * k);
    }
  }

  void finish(T* out, std::int64_t rows, std::int64_t column, std::int64_t columns) const {
    if (finish_.bias == nullptr && !finish_.then) return;
    finish_tile(finish_, out, ldo_, rows, column, columns);
  }

  static constexpr std::int64_t kWork =
      500'000;  // multiply-adds that are worth a task of their own
  static constexpr std::int64_t kWorkOfFewRows = 100'000;  // which wait for memory
  static std::int64_t divide_up(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

  Matrix<T> a_;
  RightSide<T> b_;
  std::int64_t m_, n_, k_;
  T* out_;
  std::int64_t ldo_;
  Finish<T> finish_;
};

// Time that other threads spent in products for this one, as a part of its own time: see
// matmul_nanoseconds.
void add_matmul_nanoseconds(std::int64_t more);

}  // namespace vitrine
