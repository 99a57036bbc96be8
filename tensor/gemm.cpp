#include "tensor/gemm.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdint>
#include <limits>
#include <utility>

#include "tensor/blas.h"
#include "tensor/error.h"
#include "tensor/kernels.h"
#include "tensor/kernels_simd.h"

namespace vitrine {
namespace {

// A batch of matrices as BLAS reads them: row-major with a row stride, or the transpose of that.
struct Operand {
  View view;  // [batch..., rows, columns]
  bool transposed = false;
  std::int64_t ld = 1;  // distance of consecutive rows (of consecutive columns when transposed)
  Tensor copy;          // keeps the elements alive when they had to be copied
};

// True when BLAS can read the last two axes in place; fills `transposed` and `ld`.
bool readable(Operand& x) {
  const int r = x.view.rank() - 2, c = r + 1;
  const std::int64_t rows = x.view.shape[r], columns = x.view.shape[c];
  const std::int64_t row_stride = x.view.strides[r], column_stride = x.view.strides[c];
  if ((column_stride == 1 || columns <= 1) && (row_stride >= columns || rows <= 1)) {
    x.transposed = false;
    x.ld = std::max<std::int64_t>(1, rows <= 1 ? columns : row_stride);
    return true;
  }
  if ((row_stride == 1 || rows <= 1) && (column_stride >= rows || columns <= 1)) {
    x.transposed = true;
    x.ld = std::max<std::int64_t>(1, columns <= 1 ? rows : column_stride);
    return true;
  }
  return false;
}

Operand prepare(ThreadPool& pool, const View& x) {
  Operand out{x};
  if (readable(out)) return out;
  // Broadcast batch axes are copied once and stay broadcast.
  Shape shape = x.shape;
  for (int axis = 0; axis < x.rank() - 2; ++axis) {
    if (x.strides[axis] == 0) shape[axis] = std::min<std::int64_t>(shape[axis], 1);
  }
  out.copy = Tensor::empty(shape, x.dtype);
  View from = x;
  from.shape = shape;
  kernels::copy(pool, from, out.copy.view());
  out.view.data = out.copy.view().data;
  out.view.strides = contiguous_strides(shape);
  for (int axis = 0; axis < x.rank() - 2; ++axis) {
    if (x.strides[axis] == 0) out.view.strides[axis] = 0;
  }
  readable(out);
  return out;
}

// Where matrix `batch` of the batch axes begins, in elements.
std::int64_t batch_offset(const View& x, std::int64_t batch) {
  std::int64_t at = 0;
  for (int axis = x.rank() - 3; axis >= 0; --axis) {
    at += batch % x.shape[axis] * x.strides[axis];
    batch /= x.shape[axis];
  }
  return at;
}

// When every batch uses the same b and the rows of a continue from one batch to the next, the whole
// is one product of [batch * m, k] and [k, n]: shortens a and out accordingly.
void fold_batches(View& a, View& b, View& out) {
  const int batch_axes = out.rank() - 2;
  std::int64_t rows = a.shape[batch_axes], row_stride = a.strides[batch_axes];
  for (int axis = batch_axes - 1; axis >= 0; --axis) {
    const bool same_b = b.strides[axis] == 0 || b.shape[axis] == 1;
    if (!same_b) return;
    if (a.shape[axis] == 1) continue;
    if (rows == 1) row_stride = a.strides[axis];  // the stride of a single row means nothing
    if (a.strides[axis] != rows * row_stride) return;
    rows *= a.shape[axis];
  }
  a = View{a.data, a.dtype, {rows, a.shape.back()}, {row_stride, a.strides.back()}};
  b = View{b.data,
           b.dtype,
           {b.shape[batch_axes], b.shape.back()},
           {b.strides[batch_axes], b.strides.back()}};
  out = View{out.data, out.dtype, {rows, out.shape.back()}, {out.shape.back(), 1}};
}

// [..., m, k] as [..., k, m]
View transposed(const View& x) {
  View out = x;
  const int r = x.rank() - 2, c = r + 1;
  std::swap(out.shape[r], out.shape[c]);
  std::swap(out.strides[r], out.strides[c]);
  return out;
}

// The cut of one product [m, n] into tiles of about rows x columns, from the shape alone. Never
// along k: a sum belongs to one tile.
struct Cut {
  std::int64_t rows, columns;
};

std::int64_t divide_up(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

Cut cut(std::int64_t m, std::int64_t n, std::int64_t k) {
  // Tiles of 512 x 512 run at BLAS's full speed; smaller ones only until there are enough for the
  // cores to share, and not below some 8 million multiply-adds, where the call and the packing of
  // operands begin to show.
  constexpr std::int64_t kEdge = 512, kEnough = 16, kSmallest = 64, kWork = 8'000'000;
  Cut c{std::min(m, kEdge), std::min(n, kEdge)};
  while (divide_up(m, c.rows) * divide_up(n, c.columns) < kEnough &&
         c.rows * c.columns * k > kWork && std::max(c.rows, c.columns) > kSmallest) {
    std::int64_t& longer = c.rows > c.columns ? c.rows : c.columns;
    longer = divide_up(longer, 2);
  }
  // Equal tiles, in steps that fill vectors.
  const auto even = [](std::int64_t size, std::int64_t tile) {
    const std::int64_t share = divide_up(size, divide_up(size, tile));
    return std::min(size, divide_up(share, 16) * 16);
  };
  return {even(m, c.rows), even(n, c.columns)};
}

void gemm(const Blas& blas, Blas::Transpose ta, Blas::Transpose tb, int m, int n, int k,
          const float* a, int lda, const float* b, int ldb, float* c, int ldc) {
  blas.sgemm(Blas::kRowMajor, ta, tb, m, n, k, 1.f, a, lda, b, ldb, 0.f, c, ldc);
}
void gemm(const Blas& blas, Blas::Transpose ta, Blas::Transpose tb, int m, int n, int k,
          const double* a, int lda, const double* b, int ldb, double* c, int ldc) {
  blas.dgemm(Blas::kRowMajor, ta, tb, m, n, k, 1.0, a, lda, b, ldb, 0.0, c, ldc);
}
void gemv(const Blas& blas, Blas::Transpose t, int m, int n, const float* a, int lda,
          const float* x, float* y) {
  blas.sgemv(Blas::kRowMajor, t, m, n, 1.f, a, lda, x, 1, 0.f, y, 1);
}
void gemv(const Blas& blas, Blas::Transpose t, int m, int n, const double* a, int lda,
          const double* x, double* y) {
  blas.dgemv(Blas::kRowMajor, t, m, n, 1.0, a, lda, x, 1, 0.0, y, 1);
}

// Up to this many rows the product is bound by reading b, and the loops that read it in place win
// over BLAS: measured on AVX-512 at 768 x 3072 and 3072 x 768.
constexpr std::int64_t kSkinnyRows = 32, kSkinnyRowsTransposed = 16;
constexpr std::int64_t kSkinnyColumns = 384;  // of one tile

// Product number `batch`, tile by tile.
template <class T>
class Product {
 public:
  Product(const Operand& a, const Operand& b, const View& out)
      : a_(a),
        b_(b),
        out_(out),
        m_(out.shape[out.rank() - 2]),
        n_(out.shape.back()),
        k_(a.view.shape.back()),
        skinny_(m_ <= (b.transposed ? kSkinnyRowsTransposed : kSkinnyRows) && !a.transposed),
        cut_(skinny_ ? Cut{m_, std::min(n_, kSkinnyColumns)} : cut(m_, n_, k_)),
        across_(divide_up(n_, cut_.columns)) {}

  std::int64_t tiles() const { return divide_up(m_, cut_.rows) * across_; }
  std::int64_t work() const { return cut_.rows * cut_.columns * k_; }

  void run(std::int64_t batch, std::int64_t tile) const {
    const std::int64_t i = tile / across_ * cut_.rows, j = tile % across_ * cut_.columns;
    const std::int64_t rows = std::min(cut_.rows, m_ - i), columns = std::min(cut_.columns, n_ - j);
    const T* a = a_.view.template as<const T>() + batch_offset(a_.view, batch) +
                 i * (a_.transposed ? 1 : a_.ld);
    const T* b = b_.view.template as<const T>() + batch_offset(b_.view, batch) +
                 j * (b_.transposed ? b_.ld : 1);
    T* out = out_.as<T>() + (batch * m_ + i) * n_ + j;
    if (!skinny_) {
      gemm(blas(), a_.transposed ? Blas::kYes : Blas::kNo, b_.transposed ? Blas::kYes : Blas::kNo,
           static_cast<int>(rows), static_cast<int>(columns), static_cast<int>(k_), a,
           static_cast<int>(a_.ld), b, static_cast<int>(b_.ld), out, static_cast<int>(n_));
    } else if (b_.transposed) {
      simd::skinny<T>().dots(a, a_.ld, rows, b, b_.ld, k_, columns, out, n_);
    } else if (rows == 1) {
      gemv(blas(), Blas::kYes, static_cast<int>(k_), static_cast<int>(columns), b,
           static_cast<int>(b_.ld), a, out);
    } else {
      simd::skinny<T>().side_by_side(a, a_.ld, rows, b, b_.ld, k_, columns, out, n_);
    }
  }

 private:
  const Operand& a_;
  const Operand& b_;
  const View& out_;
  std::int64_t m_, n_, k_;
  bool skinny_;
  Cut cut_;
  std::int64_t across_;
};

template <class T>
void run(ThreadPool& pool, const Operand& a, const Operand& b, const View& out,
         std::int64_t batches) {
  const Product<T> product(a, b, out);
  constexpr std::int64_t kWork = 500'000;  // multiply-adds that are worth a task of their own
  const std::int64_t tiles = product.tiles();
  const std::int64_t grain =
      std::max<std::int64_t>(1, kWork / std::max<std::int64_t>(1, product.work()));
  pool.parallel_for(batches * tiles, grain, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t at = begin; at < end; ++at) product.run(at / tiles, at % tiles);
  });
}

void check_sizes(const View& x) {
  for (int axis = std::max(0, x.rank() - 2); axis < x.rank(); ++axis) {
    if (x.shape[axis] > std::numeric_limits<int>::max() ||
        x.strides[axis] > std::numeric_limits<int>::max()) {
      throw ShapeError(fmt::format(
          "matmul: {} is beyond the 32-bit sizes of BLAS; split the product along that axis",
          to_string(x.shape)));
    }
  }
}

}  // namespace

void matmul(ThreadPool& pool, const View& a, const View& b, const View& out) {
  if (out.numel() == 0) return;
  if (a.shape.back() == 0) return kernels::fill(pool, 0, out);
  View left = a, right = b, result = out;
  fold_batches(left, right, result);
  if (result.shape.back() == 1) {  // a column: the row b^T times a^T, at the same place
    std::swap(left, right);
    left = transposed(left);
    right = transposed(right);
    result = View{out.data, out.dtype, result.shape, result.strides};
    std::swap(result.shape[result.rank() - 2], result.shape[result.rank() - 1]);
    result.strides = contiguous_strides(result.shape);
  }
  const Operand x = prepare(pool, left);
  const Operand y = prepare(pool, right);
  check_sizes(x.view);
  check_sizes(y.view);
  std::int64_t batches = 1;
  for (int axis = 0; axis < result.rank() - 2; ++axis) batches *= result.shape[axis];
  if (out.dtype == DType::f32) {
    run<float>(pool, x, y, result, batches);
  } else {
    run<double>(pool, x, y, result, batches);
  }
}

void matmul_add(ThreadPool& pool, const View& a, const View& b, const View& out) {
  const Tensor product = Tensor::empty(out.shape, out.dtype);
  matmul(pool, a, b, product.view());
  kernels::binary(pool, kernels::Binary::add, out, product.view(), out);
}

std::string blas_description() {
  return fmt::format("OpenBLAS {} {}", blas().version, blas().core);
}

}  // namespace vitrine
