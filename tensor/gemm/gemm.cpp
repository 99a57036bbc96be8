#include "tensor/gemm/gemm.h"

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <utility>
#include <vector>

#include "tensor/convert.h"
#include "tensor/gemm/openblas_product.h"
#include "tensor/gemm/product.h"

namespace vitrine {
namespace {

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

// ---- batches ------------------------------------------------------------------------------------
template <class T>
Matrix<T> matrix(const View& x, std::int64_t batch) {
  const int last = x.rank() - 1;
  return {x.as<const T>() + batch_offset(x, batch), x.strides[last - 1], x.strides[last]};
}

// The right side of one product. A View of blocks begins where a block does; a batch need not.
template <class T>
RightSide<T> right_side(const View& x, std::int64_t batch) {
  const int last = x.rank() - 1;
  return {x.data, x.dtype, batch_offset(x, batch), x.strides[last - 1], x.strides[last]};
}

// b as out's type, or still stored where the product reads it so. The copy lies as b does: rows or
// columns together, so that it is multiplied in the same order.
class Readable {
 public:
  Readable(const View& b, const View& out, GemmProvider provider) : view_(b) {
    if (b.dtype == out.dtype) return;
    const int row = b.rank() - 2, column = b.rank() - 1;
    const bool a_column = b.shape[column] == 1;  // is multiplied as a row
    if (provider == GemmProvider::own && out.dtype == DType::f32 && !a_column &&
        reads_stored(b.dtype, b.shape, b.strides))
      return;
    const bool turned = b.strides[row] == 1 || b.strides[row] < b.strides[column];
    copy_ = Tensor::empty(turned ? transposed(b).shape : b.shape, out.dtype);
    view_ = turned ? transposed(copy_.view()) : copy_.view();
    if (is_blocked(b.dtype) && out.dtype == DType::f32 && reads_stored(b.dtype, b.shape, b.strides))
      widen_runs(b, turned);
    else convert(b, view_);
  }
  const View& view() const { return view_; }

 private:
  // Columns or rows, which begin inside a block, perhaps.
  void widen_runs(const View& b, bool columns) const {
    const int along = b.rank() - (columns ? 2 : 1), across = b.rank() - (columns ? 1 : 2);
    const std::int64_t run = b.shape[along], count = b.shape[across];
    float* to = copy_.view().as<float>();
    for (std::int64_t batch = 0; batch < b.numel() / (run * count); ++batch) {
      for (std::int64_t i = 0; i < count; ++i, to += run) {
        const std::int64_t first = batch_offset(b, batch) + i * b.strides[across];
        simd::stored().widen(b.dtype, b.data, first, run, to);
      }
    }
  }

  Tensor copy_;
  View view_;
};

// f32 or f64; no size is 0.
template <class T>
void multiply(ThreadPool& pool, const View& a, const View& b, const View& out,
              GemmProvider provider, const Finish<T>& finish = {}) {
  const Readable readable(b, out, provider);
  View left = a, right = readable.view(), result = out;
  fold_batches(left, right, result);
  // A column is a row: b^T times a^T, at the same place.
  if (result.shape.back() == 1 && finish.bias == nullptr) {
    std::swap(left, right);
    left = transposed(left);
    right = transposed(right);
    std::swap(result.shape[result.rank() - 2], result.shape[result.rank() - 1]);
    result.strides = contiguous_strides(result.shape);
  }
  const int last = result.rank() - 1;
  const std::int64_t m = result.shape[last - 1], n = result.shape[last], k = left.shape.back();
  const std::int64_t batches = result.numel() / (m * n), work = m * n * k;
  const bool by_openblas = provider == GemmProvider::openblas && openblas_serves(m, n, k);
  const auto one = [&](std::int64_t batch) {
    const Matrix<T> x = matrix<T>(left, batch);
    T* to = result.as<T>() + batch * m * n;
    if (by_openblas) openblas_product<T>(pool, x, matrix<T>(right, batch), m, n, k, to, n, finish);
    else Product<T>(x, right_side<T>(right, batch), m, n, k, to, n, finish).run(pool);
  };
  // Large products are shared by the threads one after the other, small ones are dealt out.
  constexpr std::int64_t kLarge = 50'000'000, kWork = 500'000;
  if (batches == 1 || work > kLarge) {
    for (std::int64_t batch = 0; batch < batches; ++batch) one(batch);
    return;
  }
  pool.parallel_for(batches, std::max<std::int64_t>(1, kWork / work),
                    [&](std::int64_t begin, std::int64_t end) {
                      for (std::int64_t batch = begin; batch < end; ++batch) one(batch);
                    });
}

// ---- time ---------------------------------------------------------------------------------------
// Adds its lifetime to this thread's account.
thread_local std::int64_t spent = 0;
class Spent {
 public:
  Spent() = default;
  ~Spent() { spent += std::chrono::nanoseconds(std::chrono::steady_clock::now() - begin_).count(); }
  Spent(const Spent&) = delete;
  Spent& operator=(const Spent&) = delete;

 private:
  std::chrono::steady_clock::time_point begin_ = std::chrono::steady_clock::now();
};

}  // namespace

bool reads_stored(DType dtype, const Shape& shape, const Strides& strides) {
  const int row = shape.size() - 2, column = shape.size() - 1;
  if (!is_stored_float(dtype) || row < 0) return false;
  if (!is_blocked(dtype)) return strides[row] == 1 || strides[column] == 1;
  constexpr std::int64_t kGroup = 32;  // what the loops widen at a time
  const int along = strides[row] == 1 ? row : column;
  bool whole = strides[along] == 1 && shape[along] % kGroup == 0;
  for (int axis = 0; axis <= column; ++axis) {
    if (axis != along) whole = whole && (shape[axis] == 1 || strides[axis] % kGroup == 0);
  }
  return whole;
}

std::int64_t matmul_nanoseconds() { return spent; }
void add_matmul_nanoseconds(std::int64_t more) { spent += more; }

void matmul(ThreadPool& pool, const View& a, const View& b, const View& out,
            GemmProvider provider) {
  if (out.numel() == 0) return;
  const Spent time;
  if (a.shape.back() == 0) {
    std::memset(out.data, 0, static_cast<std::size_t>(out.numel()) * size_of(out.dtype));
    return;
  }
  if (out.dtype == DType::f32) multiply<float>(pool, a, b, out, provider);
  else multiply<double>(pool, a, b, out, provider);
}

void matmul_add(ThreadPool& pool, const View& a, const View& b, const View& out,
                GemmProvider provider) {
  if (out.numel() == 0 || a.shape.back() == 0) return;
  const Spent time;
  if (out.dtype == DType::f32) multiply<float>(pool, a, b, out, provider, {.add = true});
  else multiply<double>(pool, a, b, out, provider, {.add = true});
}

namespace {

template <class T>
void affine_of(ThreadPool& pool, const View& x, const View& w, const View& bias, const View& out,
               std::optional<kernels::Unary> then, GemmProvider provider) {
  std::vector<T> row(static_cast<std::size_t>(bias.numel()));  // contiguous whatever bias is
  for (std::size_t i = 0; i < row.size(); ++i)
    row[i] = bias.as<const T>()[static_cast<std::int64_t>(i) * bias.strides[0]];
  if (x.shape.back() != 0)
    return multiply<T>(pool, x, w, out, provider, {.bias = row.data(), .then = then});
  const auto n = static_cast<std::int64_t>(row.size());
  for (T* to = out.as<T>(); to != out.as<T>() + out.numel(); to += n) {
    if (then) simd::elementwise<T>().unary(*then, row.data(), to, n);
    else std::copy(row.begin(), row.end(), to);
  }
}

}  // namespace

void affine(ThreadPool& pool, const View& x, const View& w, const View& bias, const View& out,
            std::optional<kernels::Unary> then, GemmProvider provider) {
  if (out.numel() == 0) return;
  const Spent time;
  if (out.dtype == DType::f32) affine_of<float>(pool, x, w, bias, out, then, provider);
  else affine_of<double>(pool, x, w, bias, out, then, provider);
}

}  // namespace vitrine
