#include "tensor/gemm/openblas_product.h"

#include <algorithm>
#include <vector>

#include "tensor/openblas.h"

extern "C" {
using vitrine::openblas::Int;
void VITRINE_FORTRAN(sgemm)(const char* turn_a, const char* turn_b, const Int* m, const Int* n,
                            const Int* k, const float* alpha, const float* a, const Int* lda,
                            const float* b, const Int* ldb, const float* beta, float* c,
                            const Int* ldc);
void VITRINE_FORTRAN(dgemm)(const char* turn_a, const char* turn_b, const Int* m, const Int* n,
                            const Int* k, const double* alpha, const double* a, const Int* lda,
                            const double* b, const Int* ldb, const double* beta, double* c,
                            const Int* ldc);
}

namespace vitrine {
namespace {

constexpr auto sgemm = VITRINE_FORTRAN(sgemm);
constexpr auto dgemm = VITRINE_FORTRAN(dgemm);

constexpr std::int64_t kTileRows = 256, kTileColumns = 512;
constexpr std::int64_t kLeast = 64 * 64 * 64;  // multiply-adds; below, the call itself shows

// A matrix [rows, columns] as BLAS takes them: rows or columns that lie together, `leading` elements
// apart. What lies in memory otherwise, such as every second column, is copied.
template <class T>
class Side {
 public:
  Side(const Matrix<T>& x, std::int64_t rows, std::int64_t columns) : x_(x) {
    const bool by_rows = (x.column_stride == 1 || columns == 1) &&
                         (rows == 1 || (x.row_stride >= columns && x.row_stride > 0));
    const bool by_columns = (x.row_stride == 1 || rows == 1) &&
                            (columns == 1 || (x.column_stride >= rows && x.column_stride > 0));
    by_columns_ = !by_rows && by_columns;
    if (by_rows) {
      leading_ = rows == 1 ? columns : x.row_stride;
      x_.column_stride = 1;
    } else if (by_columns) {
      leading_ = columns == 1 ? rows : x.column_stride;
      x_.row_stride = 1;
    }
    if ((by_rows || by_columns) && leading_ <= openblas::kMostInt) return;
    by_columns_ = false;
    leading_ = columns;
    copy_.reserve(static_cast<std::size_t>(rows * columns));
    for (std::int64_t i = 0; i < rows; ++i) {
      for (std::int64_t j = 0; j < columns; ++j) copy_.push_back(*x.at(i, j));
    }
    x_ = {copy_.data(), columns, 1};
  }
  Side(const Side&) = delete;
  Side& operator=(const Side&) = delete;

  const T* at(std::int64_t i, std::int64_t j) const { return x_.at(i, j); }
  // BLAS thinks in columns: a matrix whose rows lie together is the transpose of what it sees.
  const char* turn() const { return by_columns_ ? "T" : "N"; }
  const Int* leading() const { return &leading_; }

 private:
  Matrix<T> x_;
  bool by_columns_ = false;
  Int leading_ = 1;
  std::vector<T> copy_;
};

}  // namespace

bool openblas_serves(std::int64_t m, std::int64_t n, std::int64_t k) {
  return m * n * k >= kLeast && std::max({m, n, k}) <= openblas::kMostInt;
}

template <class T>
void openblas_product(ThreadPool& pool, const Matrix<T>& a, const Matrix<T>& b, std::int64_t m,
                      std::int64_t n, std::int64_t k, T* out, std::int64_t ldo,
                      const Finish<T>& finish) {
  const Side<T> left(a, m, k), right(b, k, n);
  const std::int64_t across = (n + kTileColumns - 1) / kTileColumns,
                     down = (m + kTileRows - 1) / kTileRows;
  const openblas::OneThread one;
  pool.parallel_for(down * across, 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t tile = begin; tile < end; ++tile) {
      const std::int64_t i = tile / across * kTileRows, j = tile % across * kTileColumns;
      const Int rows = std::min(kTileRows, m - i), columns = std::min(kTileColumns, n - j);
      const Int depth = k, ldc = ldo;
      const T alpha = 1, beta = finish.add ? 1 : 0;
      T* to = out + i * ldo + j;
      // By columns, out^T = b^T a^T.
      const auto gemm = [&] {
        if constexpr (sizeof(T) == 4) return sgemm;
        else return dgemm;
      }();
      gemm(right.turn(), left.turn(), &columns, &rows, &depth, &alpha, right.at(0, j),
           right.leading(), left.at(i, 0), left.leading(), &beta, to, &ldc);
      finish_tile(finish, to, ldo, rows, j, columns);
    }
  });
}

template void openblas_product(ThreadPool&, const Matrix<float>&, const Matrix<float>&,
                               std::int64_t, std::int64_t, std::int64_t, float*, std::int64_t,
                               const Finish<float>&);
template void openblas_product(ThreadPool&, const Matrix<double>&, const Matrix<double>&,
                               std::int64_t, std::int64_t, std::int64_t, double*, std::int64_t,
                               const Finish<double>&);

}  // namespace vitrine
